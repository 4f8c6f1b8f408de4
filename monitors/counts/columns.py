"""How a row of the log becomes columns: learned from a version's reference rows, and kept with its profile. Pure.

Columns are figures that serving logged, typed attributes of the requests (`attribute:NAME`), and what can be said of
the prompts' text. An encoding fixes each column's kind, its scale or its levels, so that counts made with it add up.
"""

import hashlib
import json
import zlib
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datasets_defs.core.errors import ContractError
from monitors.counts.cells import level_of, number_of
from monitors.counts.descriptors import Vocabulary
from monitors.counts.embeddings import EmbeddingSpace
from monitors.counts.kinds import Kinds
from monitors.counts.prompts import Texts, describe_texts, place_among_vectors, prompts_of, vocabulary_of
from monitors.counts.sketch import CategorySketch, NumericSketch, Scale, Sketch, hashed_level, is_hashed

Kind = Literal["numeric", "category"]
Origin = Literal["log", "attribute", "text", "embedding"]
Row = Mapping[str, Any]

LOG_COLUMNS = (
    "prompt_bits_per_byte",
    "completion_bits_per_byte",
    "prompt_tokens",
    "completion_tokens",
    "latency_seconds",
)
ATTRIBUTE = "attribute:"
"""What the name of an attribute's column begins with."""
MAX_ATTRIBUTES = 50
"""Only so many attributes are watched: those present most often."""
MAX_LEVELS = 1_000
"""Only so many levels of a column are known by name; the others share hashed names."""
MAX_NAME_CHARACTERS = 200
"""A longer text is not kept as a level's name, nor watched as an attribute's."""
EMBEDDED_ROWS = 1_000
"""So many prompts are embedded at most: each costs thousands of times what the other columns do."""
MIN_PRESENCE = 0.01
"""An attribute that fewer rows have is not watched."""
ONE_TYPE = 0.95
"""Share of an attribute's values that must be of one type."""
MAX_SINGLETONS = 0.2
"""Share of rows with a level of their own from which on a column names things rather than kinds of things.

By Good and Turing it estimates the share of new levels among the next rows; ids would look broken in every window.
"""
_FORMAT = b"E1"


@dataclass(frozen=True, slots=True)
class ColumnEncoding:
    """How the values of one column are counted."""

    name: str
    kind: Kind
    origin: Origin
    scale: Scale | None = None
    """Of a numeric column."""
    levels: tuple[str, ...] = ()
    """Known levels of a category column, sorted."""

    @property
    def attribute(self) -> str:
        """The attribute's name in the log."""
        return self.name.removeprefix(ATTRIBUTE)


@dataclass(frozen=True)
class Encoding:
    """All columns of a model version's rows."""

    columns: tuple[ColumnEncoding, ...]
    vocabulary: Vocabulary | None = None
    """Words of the reference prompts."""
    space: EmbeddingSpace | None = None
    """Where the reference prompts lie among an embedding model's vectors, if the spec names one."""
    kinds: Kinds | None = None
    """Groups of the reference prompts; None in an encoding from before they were known."""

    def of(self, *origins: Origin) -> tuple[ColumnEncoding, ...]:
        """Give the columns of these origins."""
        return tuple(column for column in self.columns if column.origin in origins)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its content: counts of equal digests add up."""
        return hashlib.sha256(self._content).hexdigest()

    @cached_property
    def _content(self) -> bytes:
        words = self.vocabulary
        content = {
            "columns": [asdict(column) for column in self.columns],
            "vocabulary": words and {"texts": words.texts, "counts": dict(sorted(words.counts.items()))},
            "space": self.space and b64encode(self.space.to_bytes()).decode(),
            **({"kinds": self.kinds.plain()} if self.kinds is not None else {}),
        }
        return json.dumps(content, separators=(",", ":")).encode()

    def to_bytes(self) -> bytes:
        """Give it as bytes."""
        return _FORMAT + zlib.compress(self._content)

    @classmethod
    def from_bytes(cls, content: bytes) -> "Encoding":
        """Read what `to_bytes` gave.

        Raises:
            ContractError: the bytes are no encoding.
        """
        if content[: len(_FORMAT)] != _FORMAT:
            raise ContractError(f"an encoding should begin with {_FORMAT!r}; found {content[: len(_FORMAT)]!r}")
        try:
            plain = zlib.decompress(content[len(_FORMAT) :])
            parsed = json.loads(plain)
            words, space = parsed["vocabulary"], parsed["space"]
            made = cls(
                tuple(_column(fields) for fields in parsed["columns"]),
                Vocabulary(words["texts"], words["counts"]) if words is not None else None,
                EmbeddingSpace.from_bytes(b64decode(space)) if space is not None else None,
                Kinds.from_plain(parsed["kinds"]) if "kinds" in parsed else None,
            )
        except (zlib.error, ValueError, KeyError, TypeError) as err:
            raise ContractError(f"the {len(content)} bytes of an encoding are damaged: {err}") from err
        made.__dict__["_content"] = plain  # spares making it again for the digest
        return made


def learn_encoding(
    rows: Sequence[Row],
    *,
    exclude: Sequence[str] = (),
    vocabulary: Vocabulary | None = None,
    embedding: str | EmbeddingSpace | None = None,
    kinds: Kinds | None = None,
) -> Encoding:
    """Find the columns of reference rows, their scales and levels; those named in `exclude` are left out.

    With a `vocabulary` words are judged by it; without one it is made of the rows' own prompts. `embedding` is the
    folder of a model, or where earlier prompts lay among its vectors. With `kinds` prompts are grouped as before.
    Figures that were never logged, nested attributes, attributes of mixed types, and ids are not watched.

    Raises:
        ContractError: the embedding model cannot be read.
    """
    prompts = prompts_of(rows)
    words = vocabulary_of(prompts) if vocabulary is None else vocabulary
    space = EmbeddingSpace.learn(embedding, prompts[:EMBEDDED_ROWS]) if isinstance(embedding, str) else embedding
    learned = [_learn_log(name, rows) for name in LOG_COLUMNS]
    learned += [_learn_attribute(name, rows) for name in _attributes(rows)]
    texts = describe_texts(prompts, words, own=vocabulary is None)
    learned += [_learn(name, "text", list(values)) for name, values in texts.items()]
    learned += [_learn(name, "embedding", list(values)) for name, values in place_among_vectors(prompts, space).items()]
    columns = tuple(column for column in learned if column is not None and column.name not in exclude)
    return Encoding(columns, words, space, Kinds.learn(prompts) if kinds is None else kinds)


def values(
    encoding: Encoding, rows: Sequence[Row], *, own: bool = False
) -> dict[str, NDArray[np.float64] | list[str | None]]:
    """Give each column's values row by row: NaN or None where a row has none, or one of another type.

    With `own` the rows are those that the vocabulary was made of.
    """
    return {
        name: np.array([np.nan if cell is None else cell for cell in cells], dtype=np.float64)
        if column.kind == "numeric"
        else list(cells)
        for name, (column, cells, _) in _cells(encoding, rows, own=own).items()
    }


def sketches(encoding: Encoding, rows: Sequence[Row], *, own: bool = False) -> dict[str, Sketch]:
    """Count the rows' values by column; with `own` the rows are those that the vocabulary was made of."""
    return {
        name: count(column, [cell for cell in cells if cell is not None], nulls=cells.count(None) - wrong, wrong=wrong)
        for name, (column, cells, wrong) in _cells(encoding, rows, own=own).items()
    }


def text_sketches(encoding: Encoding, prompts: Sequence[str], *, embedded: int = EMBEDDED_ROWS) -> dict[str, Sketch]:
    """Count what can be said of the prompts' text, and where the first `embedded` of them lie among vectors."""
    by_column = _described(encoding, prompts, own=False)
    by_column.update(place_among_vectors(prompts[:embedded], encoding.space if encoding.of("embedding") else None))
    return {
        column.name: count(column, by_column[column.name], nulls=0, wrong=0)
        for column in encoding.of("text", "embedding")
    }


def count(column: ColumnEncoding, cells: Sequence[Any] | NDArray[np.float64], *, nulls: int, wrong: int) -> Sketch:
    """Count values of the column's kind; a level that is not known is counted under a hashed name."""
    if column.scale is not None:
        return NumericSketch.of(cells, column.scale, nulls=nulls, wrong=wrong)
    return count_levels(column, Counter(cells), nulls=nulls, wrong=wrong)


def count_levels(column: ColumnEncoding, by_level: Mapping[str, int], *, nulls: int, wrong: int) -> CategorySketch:
    """Take over counts of levels; a level that is not known is counted under a hashed name."""
    known = frozenset(column.levels)
    counts: Counter[str] = Counter()
    for level, number in by_level.items():
        counts[level if level in known else hashed_level(level)] += number
    return CategorySketch.of_counts(counts, nulls=nulls, wrong=wrong)


def _cells(encoding: Encoding, rows: Sequence[Row], *, own: bool) -> dict[str, tuple[ColumnEncoding, list[Any], int]]:
    """Give each column's cells, None for null or wrong, and how many are wrong."""
    cells: dict[str, tuple[ColumnEncoding, list[Any], int]] = {}
    prompts = prompts_of(rows)
    texts = _described(encoding, prompts, own=own)
    texts.update(place_among_vectors(prompts[:EMBEDDED_ROWS], encoding.space if encoding.of("embedding") else None))
    for column in encoding.columns:
        if column.origin in ("text", "embedding"):
            described: list[Any] = [*texts[column.name]]
            cells[column.name] = (column, described + [None] * (len(rows) - len(described)), 0)
            continue
        raw = _raw(column.name, rows)
        typed = [number_of(value) if column.kind == "numeric" else level_of(value) for value in raw]
        wrong = sum(cell is None and value is not None for cell, value in zip(typed, raw, strict=True))
        cells[column.name] = (column, typed, wrong)
    return cells


def _described(encoding: Encoding, prompts: Sequence[str], *, own: bool) -> dict[str, Texts]:
    return describe_texts(prompts, encoding.vocabulary or Vocabulary(0, {}), own=own) if encoding.of("text") else {}


def _attributes(rows: Sequence[Row]) -> list[str]:
    present = Counter(
        name for row in rows for name, value in (row.get("attributes") or {}).items() if value is not None
    )
    often = [
        name
        for name, number in present.items()
        if number >= MIN_PRESENCE * len(rows) and len(name) <= MAX_NAME_CHARACTERS
    ]
    return sorted(sorted(often, key=lambda name: (-present[name], name))[:MAX_ATTRIBUTES])


def _raw(name: str, rows: Sequence[Row]) -> list[Any]:
    if not name.startswith(ATTRIBUTE):
        return [row.get(name) for row in rows]
    key = name.removeprefix(ATTRIBUTE)
    return [(row.get("attributes") or {}).get(key) for row in rows]


def _learn_log(name: str, rows: Sequence[Row]) -> ColumnEncoding | None:
    return _learn(name, "log", [value for value in map(number_of, _raw(name, rows)) if value is not None])


def _learn_attribute(attribute: str, rows: Sequence[Row]) -> ColumnEncoding | None:
    name = ATTRIBUTE + attribute
    present = [value for value in _raw(name, rows) if value is not None]
    for typed in (number_of, level_of):
        fitting = [cell for cell in map(typed, present) if cell is not None]
        if len(fitting) >= ONE_TYPE * len(present):
            return _learn(name, "attribute", fitting, ids=ids_of(rows))
    return None


def ids_of(rows: Sequence[Row]) -> frozenset[str]:
    """Give the rows' users and sessions: an attribute may repeat them."""
    return frozenset(str(row[name]) for row in rows for name in ("user_id", "session_id") if row.get(name) is not None)


def _learn(name: str, origin: Origin, cells: Sequence[Any], ids: Collection[str] = ()) -> ColumnEncoding | None:
    if not cells:
        return None
    if not isinstance(cells[0], str):
        return ColumnEncoding(name, "numeric", origin, scale=Scale.of(cells)) if np.isfinite(cells).any() else None
    counts = Counter(cells)
    if sum(number == 1 for number in counts.values()) > MAX_SINGLETONS * len(cells):
        return None
    named = [level for level in counts if len(level) <= MAX_NAME_CHARACTERS and not is_hashed(level)]
    most = sorted(set(named) - _telling(named, ids), key=lambda level: (-counts[level], level))[:MAX_LEVELS]
    return ColumnEncoding(name, "category", origin, levels=tuple(sorted(most)))


def _telling(levels: Sequence[str], ids: Collection[str]) -> frozenset[str]:
    from datasets_defs.redaction.levels import telling  # a new profile alone needs it

    return telling(levels, ids)


def _column(fields: dict[str, Any]) -> ColumnEncoding:
    scale = fields.pop("scale")
    levels = tuple(fields.pop("levels"))
    return ColumnEncoding(**fields, scale=Scale(**scale) if scale is not None else None, levels=levels)
