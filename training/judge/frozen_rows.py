"""The frozen rows of an evaluation: what they are, whose they are, and which slices they belong to."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from datasets_defs.redaction.levels import telling
from datasets_defs.redaction.names import Names, names_of
from datasets_defs.redaction.rows import clean_rows
from datasets_defs.spec.gate import SliceSpec
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.artifacts import exists, read_bytes, read_rows, write_rows
from datasets_defs.store.inference_log import read_origins
from datasets_defs.store.references import reference_of
from training.data.golden import golden_rows
from training.data.snapshot import text_of
from training.judge.documents_needed import old_wanted
from training.judge.paired import Spread

MOST_RECENT, MOST_GOLDEN = 2000, 2000
"""Rows judged at most; of old ones as many as `old_wanted` says."""
FEWEST_CLUSTERS = {"source": 10, "user_id": 5}
"""Bounds from fewer clusters hold, but are too wide to show anything: what is finer is the unit then."""
LANGUAGE, OTHER = "language", "other"
COLUMNS = ("request_id", "prompt", "reference", "user_id", "source", "contributor")


@dataclass(frozen=True, slots=True)
class Rows:
    """The frozen rows of an evaluation.

    As stored: columns `slice` (recent, old, golden), `request_id`, `prompt`, `reference`, `user_id`, `source`,
    `contributor`, and `attributes`, the ones that slices are made of, as JSON.
    """

    uri: str
    """Empty for rows that were not stored."""
    sha256: str
    rows: list[dict[str, Any]]

    @property
    def texts(self) -> list[str]:
        """The texts that are scored."""
        return [text_of(row) for row in self.rows]

    def numbers(self, name: str) -> list[int]:
        """Give the places of one slice's rows."""
        return [number for number, row in enumerate(self.rows) if row["slice"] == name]


@dataclass(frozen=True, slots=True)
class SliceRows:
    """The rows of one protected slice."""

    name: str
    numbers: list[int]
    spec: SliceSpec
    required: bool


def stored(uri: str) -> Rows | None:
    """Read the rows that were frozen earlier; None when there are none."""
    if not exists(uri):
        return None
    sha256 = hashlib.sha256(read_bytes(uri)).hexdigest()
    return Rows(uri, sha256, read_rows(uri, sha256))


def frozen(rows: list[dict[str, Any]], uri: str) -> Rows:
    """Store rows; those that stand there already, or that another evaluator stores first, are given as they are."""
    sha256 = write_rows(uri, rows, once=True)
    return Rows(uri, sha256, read_rows(uri, sha256))


def gather(
    db: Engine,
    spec: ModelSpec,
    holdout: Sequence[dict[str, Any]],
    champion: int,
    *,
    known: Spread | None,
    learned: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Give the rows to judge by: a snapshot's held-out ones, the champion's own older ones, and the golden set.

    Texts that are `learned`, by a version that others trained on them, judge nothing. Old rows are plentiful: of them
    as many are chosen, by the hash of their text, as show that nothing is forgotten, when their changes spread as
    `known`. All are redacted as `data.redact` says today, and users have names.

    Raises:
        ContractError: the golden set cannot be read.
    """
    profile = reference_of(db, spec.name, champion)
    old = read_rows(profile.uri, profile.sha256) if profile is not None else []
    kept = [row for row in _by_hash(old) if row["reference"] is not None and text_of(row) not in learned]
    golden = [row for row in _by_hash(golden_rows(spec)) if text_of(row) not in learned]
    enough = old_wanted([len(text_of(row).encode()) for row in kept], spec.gate, known)
    rows = [
        *_plain("recent", holdout[:MOST_RECENT]),
        *_plain("old", kept[:enough]),
        *_plain("golden", golden[:MOST_GOLDEN]),
    ]
    names = names_of(db)
    return clean_rows(_with_origins(db, spec, rows, names), spec.data.redact, names)


def overlap(frozen_rows: Rows, snapshot: Iterable[dict[str, Any]]) -> int:
    """Count the texts of an evaluation that stand among those trained on; case and white space do not matter."""
    judging = Counter(_key(text) for text in frozen_rows.texts)
    trained = {key for row in snapshot if row["part"] != "holdout" and (key := _key(text_of(row))) in judging}
    return sum(judging[key] for key in trained)


def clusters(rows: Sequence[dict[str, Any]]) -> list[str | None]:
    """Name the cluster of each row: its source, or its user where there are too few sources; None: it stands alone.

    The coarsest that has at least `FEWEST_CLUSTERS`. With fewer users documents are taken one by one, as if they were
    strangers': what is said of so few users is then said of these users' documents only.
    """
    for column, fewest in FEWEST_CLUSTERS.items():
        names = [row.get(column) for row in rows]
        if len({name for name in names if name}) >= fewest:
            return [str(name) if name else None for name in names]
    return [None] * len(rows)


def slices(rows: Sequence[dict[str, Any]], specs: Sequence[SliceSpec]) -> list[SliceRows]:
    """Cut the rows into the protected slices; old and golden rows count, too.

    Without `values` every value with enough rows is a slice, and the rest are one called `other`.
    """
    parts: list[SliceRows] = []
    for spec in specs:
        values = [_attributes(row).get(spec.attribute) for row in rows]
        counts = Counter(value for value in values if value is not None)
        named = spec.values or tuple(sorted(name for name, count in counts.items() if count >= spec.min_documents))
        for name in named:
            numbers = [number for number, value in enumerate(values) if value == name]
            parts.append(SliceRows(f"slice:{spec.attribute}={name}", numbers, spec, required=bool(spec.values)))
        rest = [number for number, value in enumerate(values) if value is not None and value not in named]
        if rest and not spec.values:
            parts.append(SliceRows(f"slice:{spec.attribute}={OTHER}", rest, spec, required=False))
    return parts


def _plain(which: str, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"slice": which, **{name: row.get(name) for name in COLUMNS}, "attributes": None} for row in rows]


def _with_origins(db: Engine, spec: ModelSpec, rows: list[dict[str, Any]], names: Names) -> list[dict[str, Any]]:
    """Add what slices need: languages of the prompts, users and attributes from the inference log.

    A value that tells who somebody is gets a name, but for those that the YAML itself names.
    """
    wanted = {slice_spec.attribute for slice_spec in spec.evaluation.slices}
    in_yaml = {value for slice_spec in spec.evaluation.slices for value in slice_spec.values or ()}
    origins = read_origins(db, spec.name, [str(row["request_id"]) for row in rows if row["slice"] != "golden"])
    tongues: list[str | None] = [None] * len(rows)
    if LANGUAGE in wanted:
        from datasets_defs.core.languages import languages

        tongues = list(languages([text_of(row) for row in rows]))
    values = {str(value) for _, attributes in origins.values() for value in (attributes or {}).values()}
    hidden = telling(values, {user for user, _ in origins.values() if user is not None}) - in_yaml
    full = []
    for row, tongue in zip(rows, tongues, strict=True):
        user, attributes = origins.get(str(row["request_id"]), (None, {}))
        known = {name: str(value) for name, value in (attributes or {}).items() if name in wanted and value is not None}
        known = {name: names.of(value) if value in hidden else value for name, value in known.items()}
        if tongue is not None:
            known[LANGUAGE] = tongue
        as_json = json.dumps(known, sort_keys=True) if known else None
        full.append({**row, "user_id": row["user_id"] or user, "attributes": as_json})
    return full


def _attributes(row: dict[str, Any]) -> dict[str, str]:
    attributes: dict[str, str] = json.loads(row.get("attributes") or "{}")
    return attributes


def _by_hash(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: hashlib.sha256(text_of(row).encode("utf-8", "replace")).hexdigest())


def _key(text: str) -> str:
    return " ".join(text.casefold().split())
