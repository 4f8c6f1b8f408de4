"""Freezes the rows of a training attempt: fresh documents split in two, corpora, and older rows against forgetting."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from datasets_defs.core.errors import ContractError
from datasets_defs.redaction.names import Names
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.training import RetrainSpec
from datasets_defs.store.artifacts import file_sha256, read_batches, write_bytes, write_file
from datasets_defs.store.documents import Document
from datasets_defs.store.work import work_folder
from training.data.shares import beyond_shares, who
from training.data.snapshot import (
    MAX_REPLAY_SHARE,
    REPLAYED,
    TEXT,
    Snapshot,
    SnapshotFile,
    rejected_uri,
    report_uri,
    stored,
    text_of,
)
from training.data.split import Sides, split, stable_hash
from training.prepare.checks import LOG, Record
from training.prepare.ngrams import Words
from training.prepare.overlap import Judging
from training.prepare.pipeline import Preparation, records_of
from training.prepare.policy import older_rows
from training.prepare.report import OVERLAP, Report, SourceReport

TRUSTED_TIMES = 2
"""Times the gate's least documents that there have to be of trusted contributors for them to judge alone."""
_TOGETHER = 1_000
"""Records that are held against the judging texts at once."""


class DataBreakError(ContractError):
    """The fresh documents are broken: nothing may be trained on them."""


def freeze(
    documents: Sequence[Document],
    replay: Iterable[dict[str, Any]],
    *,
    uri: str,
    spec: ModelSpec,
    names: Names,
    keep_out: Collection[str] = (),
    first_heard: Mapping[str, datetime] | None = None,
) -> Snapshot:
    """Assemble the rows of an attempt and store them; the same input gives the same hash.

    `first_heard` is when each contributor's first reference came. A snapshot that stands there already is given as it
    is: a training that resumes goes on with its own rows. It is put there last and whole, after its report and the list
    of what was left out.

    Raises:
        DataBreakError: too many of the documents are invalid; the report and the list stand there all the same.
        ContractError: nothing is left to train on, or a row overlaps with a text that models are judged by.
    """
    if (present := stored(uri)) is not None:
        return present
    with work_folder("snapshot") as folder:
        older, at_work = begin(folder, replay, spec=spec, names=names)
        with at_work:
            try:
                made = write(at_work, documents, older, folder, spec=spec, keep_out=keep_out, first_heard=first_heard)
            finally:
                at_work.close_rejects()
                write_file(rejected_uri(uri), at_work.rejects)
                write_bytes(report_uri(uri), json.dumps(at_work.report.plain(), indent=1).encode())
        return Snapshot(uri=uri, sha256=write_file(uri, made, once=True))


def begin(
    folder: Path, replay: Iterable[dict[str, Any]], *, spec: ModelSpec, names: Names
) -> tuple[list[dict[str, Any]], Preparation]:
    """Give the older rows that today's policy keeps, and the preparation that knows what became of the others."""
    counts = SourceReport()
    older = older_rows(replay, spec.data, names, counts)
    at_work = Preparation(folder, spec.data, names, older=[text_of(row) for row in older])
    at_work.report.older = counts
    return older, at_work


def write(
    at_work: Preparation,
    documents: Sequence[Document],
    replay: Sequence[dict[str, Any]],
    folder: Path,
    *,
    spec: ModelSpec,
    keep_out: Collection[str] = (),
    first_heard: Mapping[str, datetime] | None = None,
) -> Path:
    """Give the Parquet file of an attempt's rows, made in the folder; its hash is in the report.

    Each step needs the one before. The split of the fresh documents says which ones judge. What judges says which ones
    may be learned from. How many older rows are replayed is known when all the others are written.

    Raises:
        DataBreakError: too many of the documents are invalid.
        ContractError: nothing is left to train on, or a row overlaps with a text that models are judged by.
    """
    checked = usable(at_work, documents, spec, Judging.of(sorted(keep_out)))
    fresh = _within_shares(at_work, checked, spec, first_heard or {})
    sides = _sides(at_work.report, fresh, spec, of=len(documents))
    judging = Judging.of([*sorted(keep_out), *(record.text for record in sides.holdout)])
    train = list(_apart(at_work, sides.train, judging))
    if not train:
        raise ContractError(f"all of the {len(sides.train)} documents to train on overlap with held-out ones")
    corpora = _corpora(at_work, spec, judging, sides.holdout)
    spared = _validation(train, spec)
    older = [row for row in replay if row.get("user_id") not in sides.apart]
    known = {record.text for record in fresh} | set(keep_out)
    with SnapshotFile(folder / "snapshot.parquet") as rows:
        rows.add("holdout", sides.holdout)
        rows.add("train", (record for record in train if record.request_id not in spared))
        rows.add("validation", (record for record in train if record.request_id in spared))
        for batch in corpora:
            rows.add_batch("corpus", batch)
        size = _replayed_bytes(spec.retrain, rows.bytes["train"] + rows.bytes["corpus"])
        rows.add("replay", _draw(older, size, known, judging, spec.retrain.seed))
    _conclude(at_work.report, rows, judging)
    return rows.file


def rehearse(
    documents: Sequence[Document],
    replay: Iterable[dict[str, Any]],
    *,
    spec: ModelSpec,
    names: Names,
    keep_out: Collection[str] = (),
    first_heard: Mapping[str, datetime] | None = None,
) -> Report:
    """Report on what an attempt's rows would be, and store nothing.

    Raises:
        DataBreakError, ContractError: as `freeze` does.
    """
    with work_folder("snapshot") as folder:
        older, at_work = begin(folder, replay, spec=spec, names=names)
        with at_work:
            write(at_work, documents, older, folder, spec=spec, keep_out=keep_out, first_heard=first_heard)
            return at_work.report


def _in_order(documents: Sequence[Document]) -> Iterator[Record]:
    for place, document in enumerate(
        sorted(documents, key=lambda document: (document.at, document.request_id)), start=1
    ):
        yield Record(
            source=LOG,
            place=place,
            request_id=document.request_id,
            prompt=document.prompt,
            reference=document.reference,
            user_id=document.user_id,
            at=document.at,
            contributor=document.contributor,
        )


def usable(at_work: Preparation, documents: Sequence[Document], spec: ModelSpec, judging: Judging) -> list[Record]:
    """Give the log's documents that may be used: checked, redacted, each once, and no judging text among them.

    Raises:
        DataBreakError: too many of the documents are invalid.
    """
    at_work.keep_apart(judging, ())
    at_work.take(LOG, _in_order(documents))
    fresh = [record for batch in at_work.settled() for record in records_of(batch)]
    if (why := at_work.report.of(LOG).why_broken(spec.data.max_rejected_share)) is not None:
        raise DataBreakError(f"{why}: the feed of references is broken".replace(" documents", " fresh documents", 1))
    return fresh


def _within_shares(
    at_work: Preparation, records: list[Record], spec: ModelSpec, first_heard: Mapping[str, datetime]
) -> list[Record]:
    """Leave out what is more than its contributor may have of what one learns from and is judged by."""
    beyond = beyond_shares(records, spec.trust, first_heard)
    for place, reason in beyond.items():
        at_work.drop(records[place], reason)
    kept = [record for place, record in enumerate(records) if place not in beyond]
    if beyond and not kept:
        named = ", ".join(sorted(who(records)))
        raise ContractError(
            f"all {len(records)} fresh documents come from {named}, and nobody may have more than "
            f"{spec.trust.max_share:.0%} of them: name the key under `trust.contributors` if its words are your own, "
            "or raise `trust.max_share`"
        )
    return kept


def _sides(report: Report, fresh: list[Record], spec: ModelSpec, *, of: int) -> Sides:
    """Split the fresh documents, and put into the report how, and whose they are."""
    sides = _split(fresh, spec, of=of)
    report.split = sides.how
    parts = (("train", sides.train), ("holdout", sides.holdout))
    report.contributors = {part: dict(sorted(who(records).items())) for part, records in parts}
    return sides


def _split(fresh: list[Record], spec: ModelSpec, *, of: int) -> Sides:
    """Split the fresh documents; where the operator's own and trusted ones are enough, they judge alone."""
    own = [record for record in fresh if spec.trust.is_trusted(record.contributor)]
    if len(own) == len(fresh) or len(own) < TRUSTED_TIMES * spec.gate.min_documents:
        return split(fresh, spec, of=of)
    sides = split(own, spec, of=of)
    outside = [record for record in fresh if not spec.trust.is_trusted(record.contributor)]
    return replace(sides, train=[*sides.train, *outside], how=f"{sides.how}; nobody from outside judges")


def _corpora(at_work: Preparation, spec: ModelSpec, judging: Judging, holdout: Sequence[Record]) -> Iterator[Any]:
    """Give, as record batches, what the spec's corpora hold: no judging text, and nothing of a held-out user's."""
    at_work.keep_apart(judging, {record.user_id for record in holdout if record.user_id is not None})
    for source in spec.data.sources:
        at_work.take_corpus(source)
    return at_work.settled()


def _conclude(report: Report, rows: SnapshotFile, judging: Judging) -> None:
    """Look once more for overlaps, in the finished file, and put into the report what the file is."""
    report.parts = rows.parts
    report.overlap = _overlaps(rows.file, judging)
    if report.overlap:
        raise ContractError(f"{report.overlap} rows to train on overlap with texts that models are judged by")
    report.snapshot_sha256 = file_sha256(rows.file)


def _apart(at_work: Preparation, records: Sequence[Record], judging: Judging) -> Iterator[Record]:
    """Give the records that do not overlap with a judging text; the others are dropped."""
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


def _replayed_bytes(spec: RetrainSpec, learned: int) -> float:
    """Give how many bytes of older rows make the spec's share, beside `learned` bytes that come once per epoch."""
    share = min(spec.replay_share, MAX_REPLAY_SHARE)
    return max(1.0, spec.epochs) * learned * share / (1 - share)


def _overlaps(file: Path, judging: Judging) -> int:
    """Count the rows of a finished file that are trained on and overlap with a judging text.

    Rows of corpora were all held against the same texts as they came, and are not read again.
    """
    count = 0
    for batch in read_batches(str(file), columns=(*TEXT, "part"), where=pc.field("part").isin(REPLAYED)):
        count += len(judging.contaminated(Words.of([text_of(row) for row in batch.to_pylist()])))
    return count
