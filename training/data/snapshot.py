"""The frozen rows of one training attempt: fresh documents split in two, corpora, and older rows against forgetting."""

import json
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.training import RetrainSpec
from datasets_defs.store.artifacts import (
    exists,
    file_sha256,
    read_batches,
    read_bytes,
    url_sha256,
    write_bytes,
    write_file,
)
from datasets_defs.store.inference_log import Document
from training.data.split import split, stable_hash
from training.prepare.checks import LOG, Record
from training.prepare.ngrams import Words
from training.prepare.overlap import Judging
from training.prepare.pipeline import Preparation, records_of
from training.prepare.report import OVERLAP, Report

MAX_REPLAY_SHARE = 0.9
_TOGETHER = 1_000
_COLUMNS = ("request_id", "prompt", "reference", "user_id", "source")
_SCHEMA = pa.schema([(name, pa.string()) for name in ("part", *_COLUMNS)])
_FRESH, _REPLAY, _TEXT = ("train", "corpus"), ("replay",), ("prompt", "reference")
REPLAYED = ("train", "validation", "replay")
"""Parts that later attempts may replay: held-out rows judge, and corpora are read anew each time."""


class DataBreakError(ContractError):
    """The fresh documents are broken: nothing may be trained on them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Frozen rows, as stored; read piece by piece, however many they are."""

    uri: str
    """Parquet with columns `part` (train, validation, corpus, replay, holdout), `request_id`, `prompt`, `reference`,
    `user_id`, `source`; those that were frozen earlier lack the last two."""
    sha256: str

    @classmethod
    def of(cls, uri: str, sha256: str | None) -> "Snapshot":
        """Give the snapshot that stands there; with a hash, only if it is that very one.

        Raises:
            ContractError: it is gone, or is not what was written.
        """
        found = url_sha256(uri)
        if sha256 is not None and found != sha256:
            raise ContractError(f"snapshot {uri} is damaged: SHA-256 {found[:12]}…, written as {sha256[:12]}…")
        return cls(uri=uri, sha256=found)

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
        for batch in self._batches(_TEXT, parts):
            yield from map(text_of, batch.to_pylist())

    def _characters(self, parts: Sequence[str]) -> int:
        lengths = (pc.sum(pc.utf8_length(batch[name])) for batch in self._batches(_TEXT, parts) for name in _TEXT)
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


def freeze(
    documents: Sequence[Document],
    replay: Iterable[dict[str, Any]],
    *,
    uri: str,
    spec: ModelSpec,
    keep_out: Collection[str] = (),
) -> Snapshot:
    """Assemble the rows of an attempt and store them; the same input gives the same hash.

    A snapshot that stands there already is given as it is: a training that resumes goes on with its own rows. It is
    put there last and whole, after its report and the list of what was left out.

    Raises:
        DataBreakError: too many of the documents are invalid; the report and the list stand there all the same.
        ContractError: nothing is left to train on, or a row overlaps with a text that models are judged by.
    """
    if (present := stored(uri)) is not None:
        return present
    with tempfile.TemporaryDirectory(prefix="driftloop-snapshot-") as name:
        older = list(replay)
        with Preparation(Path(name), spec.data, older=[text_of(row) for row in older]) as at_work:
            try:
                made = write(at_work, documents, older, Path(name), spec=spec, keep_out=keep_out)
            finally:
                at_work.close_rejects()
                write_file(rejected_uri(uri), at_work.rejects)
                write_bytes(report_uri(uri), json.dumps(at_work.report.plain(), indent=1).encode())
        return Snapshot(uri=uri, sha256=write_file(uri, made))


def write(
    at_work: Preparation,
    documents: Sequence[Document],
    replay: Sequence[dict[str, Any]],
    folder: Path,
    *,
    spec: ModelSpec,
    keep_out: Collection[str] = (),
) -> Path:
    """Give the Parquet file of an attempt's rows, made in the folder; its hash is in the report.

    Raises:
        DataBreakError: too many of the documents are invalid.
        ContractError: nothing is left to train on, or a row overlaps with a text that models are judged by.
    """
    at_work.keep_apart(Judging.of(sorted(keep_out)), ())
    at_work.take(LOG, _in_order(documents))
    fresh = [record for batch in at_work.settled() for record in records_of(batch)]
    if (why := at_work.report.of(LOG).why_broken(spec.data.max_rejected_share)) is not None:
        raise DataBreakError(f"{why}: the feed of references is broken".replace(" documents", " fresh documents", 1))
    sides = split(fresh, spec, of=len(documents))
    at_work.report.split = sides.how
    judging = Judging.of([*sorted(keep_out), *(record.text for record in sides.holdout)])
    train = list(_apart(at_work, sides.train, judging))
    if not train:
        raise ContractError(f"all of the {len(sides.train)} documents to train on overlap with held-out ones")
    at_work.keep_apart(judging, {record.user_id for record in sides.holdout if record.user_id is not None})
    for source in spec.data.sources:
        at_work.take_corpus(source)
    spared = _validation(train, spec)
    with _SnapshotFile(folder / "snapshot.parquet") as rows:
        rows.add("holdout", sides.holdout)
        rows.add("train", (record for record in train if record.request_id not in spared))
        rows.add("validation", (record for record in train if record.request_id in spared))
        for batch in at_work.settled():
            rows.add_batch("corpus", batch)
        share = min(spec.retrain.replay_share, MAX_REPLAY_SHARE)
        size = max(1.0, spec.retrain.epochs) * (rows.bytes["train"] + rows.bytes["corpus"])
        known = {record.text for record in fresh} | set(keep_out)
        older = [row for row in replay if row.get("user_id") not in sides.apart]
        rows.add("replay", _draw(older, size * share / (1 - share), known, judging, spec.retrain.seed))
    at_work.report.parts = rows.parts
    at_work.report.overlap = _overlaps(rows.file, judging)
    if at_work.report.overlap:
        raise ContractError(f"{at_work.report.overlap} rows to train on overlap with texts that models are judged by")
    at_work.report.snapshot_sha256 = file_sha256(rows.file)
    return rows.file


def rehearse(
    documents: Sequence[Document], replay: Iterable[dict[str, Any]], *, spec: ModelSpec, keep_out: Collection[str] = ()
) -> Report:
    """Report on what an attempt's rows would be, and store nothing.

    Raises:
        DataBreakError, ContractError: as `freeze` does.
    """
    older = list(replay)
    with tempfile.TemporaryDirectory(prefix="driftloop-snapshot-") as name:
        with Preparation(Path(name), spec.data, older=[text_of(row) for row in older]) as at_work:
            write(at_work, documents, older, Path(name), spec=spec, keep_out=keep_out)
            return at_work.report


def _in_order(documents: Sequence[Document]) -> Iterator[Record]:
    for place, each in enumerate(sorted(documents, key=lambda each: (each.at, each.request_id)), start=1):
        yield Record(
            source=LOG,
            place=place,
            request_id=each.request_id,
            prompt=each.prompt,
            reference=each.reference,
            user_id=each.user_id,
            at=each.at,
        )


def _apart(at_work: Preparation, records: Sequence[Record], judging: Judging) -> Iterator[Record]:
    """Give the records that do not overlap with a judging text."""
    for begin in range(0, len(records), _TOGETHER):
        batch = records[begin : begin + _TOGETHER]
        copied = judging.contaminated(Words.of([record.text for record in batch]))
        for number, record in enumerate(batch):
            if number in copied:
                at_work.drop(record, OVERLAP)
            else:
                yield record


def _validation(train: Sequence[Record], spec: ModelSpec) -> set[str]:
    """Choose the documents that say when to stop, by the hash of their user or text; never the last one to train on."""
    count = min(round(spec.data.validation_share * len(train)), len(train) - 1)
    ranked = sorted(train, key=lambda record: (stable_hash(record.user_id or record.text), record.request_id))
    return {record.request_id for record in ranked[:count]}


def _draw(
    replay: Sequence[dict[str, Any]], size: float, known: set[str], judging: Judging, seed: int
) -> Iterator[Record]:
    """Draw older rows for so many bytes, by hash, as far as there are enough."""
    candidates = {text_of(row): row for row in replay if row["part"] in REPLAYED}
    texts = sorted(candidates.keys() - known, key=lambda text: stable_hash(f"{seed}/{text}"))
    for begin in range(0, len(texts), _TOGETHER):
        batch = texts[begin : begin + _TOGETHER]
        copied = judging.contaminated(Words.of(batch))
        for text in (text for number, text in enumerate(batch) if number not in copied):
            if size <= 0:
                return
            row = candidates[text]
            yield Record(
                source=row.get("source") or "",
                place=0,
                request_id=row["request_id"],
                prompt=row["prompt"],
                reference=row["reference"],
                user_id=row.get("user_id"),
            )
            size -= len(text.encode())


class _SnapshotFile:
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
            columns = [pa.array([getattr(each, name) for each in some], pa.string()) for name in _COLUMNS]
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


def _overlaps(file: Path, judging: Judging) -> int:
    """Count the rows of a finished file that are trained on and overlap with a judging text.

    Rows of corpora were all held against the same texts as they came, and are not read again.
    """
    found = 0
    for batch in read_batches(str(file), columns=(*_TEXT, "part"), where=pc.field("part").isin(REPLAYED)):
        found += len(judging.contaminated(Words.of([text_of(row) for row in batch.to_pylist()])))
    return found
