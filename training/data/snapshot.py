"""The file of a training attempt's frozen rows: how it is written, and what is read from it."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.training import RetrainSpec
from datasets_defs.store.artifacts import exists, read_batches, read_bytes, url_sha256
from training.prepare.checks import Record

MAX_REPLAY_SHARE = 0.9
_TOGETHER = 1_000
_COLUMNS = ("request_id", "prompt", "reference", "user_id", "source", "contributor")
_SCHEMA = pa.schema([(name, pa.string()) for name in ("part", *_COLUMNS)])
_FRESH, _REPLAY = ("train", "corpus"), ("replay",)
TEXT = ("prompt", "reference")
"""Columns that make a row's text, in their order."""
KNOWN = "known"
"""Part of the rows that others' versions are judged by: what their training data holds of the judge's older rows."""
REPLAYED = ("train", "validation", "replay")
"""Parts that later attempts may replay: held-out rows judge, and corpora are read anew each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Frozen rows, as stored; read piece by piece, however many they are."""

    uri: str
    """Parquet with columns `part` (train, validation, corpus, replay, holdout), `request_id`, `prompt`, `reference`,
    `user_id`, `source`; `contributor`; those that were frozen earlier lack the last ones."""
    sha256: str

    @classmethod
    def of(cls, uri: str, sha256: str | None) -> "Snapshot":
        """Give the snapshot that stands there; with a hash, only if it is that very one.

        Raises:
            ContractError: it is gone, or is not what was written.
        """
        actual = url_sha256(uri)
        if sha256 is not None and actual != sha256:
            raise ContractError(f"snapshot {uri} is damaged: SHA-256 {actual[:12]}…, written as {sha256[:12]}…")
        return cls(uri=uri, sha256=actual)

    def rows(self, *parts: str) -> Iterator[dict[str, Any]]:
        """Give the rows of these parts, in their order; of all parts when none is named."""
        for batch in self._batches(None, parts):
            yield from batch.to_pylist()

    @property
    def counts(self) -> dict[str, int]:
        """How many rows each part has."""
        counts: Counter[str] = Counter()
        for batch in self._batches((), ()):
            counts.update(batch["part"].to_pylist())
        return dict(counts)

    def mixture(self, spec: RetrainSpec) -> tuple[Iterator[str], float]:
        """Give the texts to train on and the epochs over them: each fresh one as often as the spec's epochs say.

        Replayed texts stand beside several copies of the fresh ones, so that the share holds while few of them come
        twice: the more different old texts are seen, the less is forgotten.
        """
        share = min(spec.replay_share, MAX_REPLAY_SHARE)
        if not share or not (old := self._characters(_REPLAY)):
            return self._texts(_FRESH), spec.epochs
        copies = max(1, round(old * (1 - share) / (share * self._characters(_FRESH))))
        return chain(*(self._texts(_FRESH) for _ in range(copies)), self._texts(_REPLAY)), spec.epochs / copies

    @property
    def holdout(self) -> list[dict[str, Any]]:
        """The fresh rows kept for the evaluation."""
        return list(self.rows("holdout"))

    @property
    def validation(self) -> list[str]:
        """The fresh texts that say when to stop training; none unless the spec asks for a share of them."""
        return list(self._texts(("validation",)))

    @property
    def report(self) -> dict[str, Any] | None:
        """What was kept and why; None for a snapshot that was frozen without a report."""
        return json.loads(read_bytes(url)) if exists(url := report_uri(self.uri)) else None

    def _texts(self, parts: Sequence[str]) -> Iterator[str]:
        for batch in self._batches(TEXT, parts):
            yield from map(text_of, batch.to_pylist())

    def _characters(self, parts: Sequence[str]) -> int:
        lengths = (pc.sum(pc.utf8_length(batch[name])) for batch in self._batches(TEXT, parts) for name in TEXT)
        return sum(length.as_py() or 0 for length in lengths)

    def _batches(self, columns: Sequence[str] | None, parts: Sequence[str]) -> Iterator[Any]:
        wanted = None if columns is None else [*columns, "part"]
        return read_batches(self.uri, columns=wanted, where=pc.field("part").isin(list(parts)) if parts else None)


def report_uri(uri: str) -> str:
    """Give the address of the report that belongs to a snapshot."""
    return f"{uri.removesuffix('.parquet')}.report.json"


def rejected_uri(uri: str) -> str:
    """Give the address of what was left out of a snapshot: source, place, request id, reason, beginning."""
    return f"{uri.removesuffix('.parquet')}.rejected.parquet"


def text_of(row: dict[str, Any]) -> str:
    """Give a row's prompt and reference as one text."""
    return str(row["prompt"]) + str(row["reference"])


def stored(uri: str) -> Snapshot | None:
    """Give the snapshot that was frozen earlier; None when there is none."""
    return Snapshot.of(uri, None) if exists(uri) else None


class SnapshotFile:
    """A Parquet file that is written as its rows come."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.parts: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self._writer: Any = pq.ParquetWriter(
            file, _SCHEMA, compression="zstd", use_dictionary=["part", "source"], write_statistics=["part"]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def add(self, part: str, records: Iterable[Record]) -> None:
        """Write the records as rows of a part."""
        rest = iter(records)
        while some := list(islice(rest, _TOGETHER)):
            columns = [pa.array([getattr(record, name) for record in some], pa.string()) for name in _COLUMNS]
            self.add_batch(part, pa.record_batch(columns, names=_COLUMNS))

    def add_batch(self, part: str, batch: Any) -> None:
        """Write a record batch that has the columns."""
        if not batch.num_rows:
            return
        columns = [batch[name] for name in _COLUMNS]
        parts = pa.repeat(pa.scalar(part), batch.num_rows)
        self._writer.write_table(pa.Table.from_arrays([parts, *columns], schema=_SCHEMA))
        self.parts[part] += batch.num_rows
        self.bytes[part] += sum(pc.sum(pc.binary_length(batch[name])).as_py() for name in ("prompt", "reference"))
