"""The rows that judge a version which others trained: the log's, and none that it may have been trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.windows import Window
from datasets_defs.redaction.names import names_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.training import SourceSpec
from datasets_defs.store.artifacts import artifact_url, file_sha256, read_rows, write_file
from datasets_defs.store.references import reference_of
from datasets_defs.store.work import work_folder
from training.data.freeze import begin, usable
from training.data.golden import golden_rows
from training.data.inputs import fresh_documents, judging_texts
from training.data.snapshot import KNOWN, SnapshotFile
from training.data.split import stable_hash
from training.judge.frozen_rows import MOST_RECENT
from training.prepare.checks import Record
from training.prepare.corpus import Broken, Rows, documents_of
from training.prepare.ngrams import Words
from training.prepare.overlap import Judging

TRAINING_DATA = "training-data"
_TOGETHER = 2_000
"""Training texts that are held against the judge's rows at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What is said of the data that a version was trained on."""

    trained_until: datetime | None = None
    """When that data ended: rows of the log from later on are surely new to it."""
    training_data: str | None = None
    """File or pattern that holds it, as a corpus may be; copies of it judge nothing."""


NOTHING_SAID = Basis()


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingRows:
    """Rows that were frozen to judge one version."""

    uri: str
    sha256: str
    count: int
    left_out: int
    """Rows that were left out, fresh and older ones: copies of the version's training data."""
    unexcluded: str | None
    """What could not be excluded, as a sentence: a person has to decide. None: the rows are surely new to it."""

    @property
    def how(self) -> str:
        """Say what the rows are."""
        without = f"; {self.left_out} copies of its training data were left out" if self.left_out else ""
        return f"{self.count} rows of the log judge it{without}"


def freeze_judging(db: Engine, spec: ModelSpec, champion: int, *, since: datetime, basis: Basis) -> JudgingRows:
    """Freeze the log's newest documents as the rows that judge a version; the same rows give the same address.

    They are checked and redacted as training rows are. Copies of the version's training data are left out, among the
    champion's older rows and the golden set, too.

    Raises:
        ContractError: fewer rows are left than the gate needs, or the training data cannot be read.
        TransientError: PostgreSQL is away.
    """
    begins = max(since, basis.trained_until) if basis.trained_until is not None else since
    documents = fresh_documents(db, spec, Window(begins, datetime.now(UTC)))
    with work_folder("offer") as folder:
        judging = Judging.of(sorted(judging_texts(db, spec, champion)))
        _, at_work = begin(folder, [], spec=spec, names=names_of(db))
        with at_work:
            records = usable(at_work, documents, spec, judging)
        newest = sorted(records, key=_newest_first)
        older = list(_older(db, spec, champion))
        copies, unread = _copies([record.text for record in (*newest, *older)], basis.training_data)
        kept = [record for number, record in enumerate(newest) if number not in copies]
        known = [record for number, record in enumerate(older, start=len(newest)) if number in copies]
        left_out = len(copies)
        _require_enough(spec, kept, begins, len(newest) - len(kept), basis)
        with SnapshotFile(folder / "rows.parquet") as rows:
            rows.add("holdout", kept[:MOST_RECENT])
            rows.add(KNOWN, known)
        uri = artifact_url("evaluations", spec.name, f"offer-{file_sha256(rows.file)[:16]}.parquet")
        return JudgingRows(
            uri=uri,
            sha256=write_file(uri, rows.file, once=True),
            count=min(len(kept), MOST_RECENT),
            left_out=left_out,
            unexcluded=unexcluded(basis, unread),
        )


def unexcluded(basis: Basis, unread: int) -> str | None:
    """Say what nobody can exclude about the rows that judge a version; None when all is. Pure."""
    if basis.trained_until is not None:
        return None
    if basis.training_data is None:
        return (
            "nobody said what it was trained on (`--trained-until`, `--training-data`): it may know the rows that "
            "judge it"
        )
    if unread:
        return f"{unread} rows of {basis.training_data} could not be read: it may know the rows that judge it"
    return None


def _older(db: Engine, spec: ModelSpec, champion: int) -> Iterator[Record]:
    """Give the rows beside fresh ones that judge every version of the model: its reference and the golden set."""
    profile = reference_of(db, spec.name, champion)
    rows = read_rows(profile.uri, profile.sha256) if profile is not None else []
    for row in (*rows, *golden_rows(spec)):
        if row["reference"] is not None:
            yield Record(
                source="", place=0, request_id=str(row["request_id"]), prompt=row["prompt"], reference=row["reference"]
            )


def _copies(texts: Sequence[str], training_data: str | None) -> tuple[set[int], int]:
    """Give the numbers of the texts that are copies of a training text, and how many training rows are unreadable."""
    copies, unread = set[int](), 0
    if training_data is None or not texts:
        return copies, unread
    words = Words.of(texts)
    for trained, broken in _batches(documents_of(SourceSpec(name=TRAINING_DATA, url=training_data))):
        unread += broken
        copies |= Judging.of(trained).contaminated(words)
    return copies, unread


def _batches(rows: Rows) -> Iterator[tuple[Sequence[str], int]]:
    """Give the texts of some rows at a time, and how many of those rows are broken."""
    while some := list(islice(rows, _TOGETHER)):
        texts = [row.text for row in some if not isinstance(row, Broken)]
        yield texts, len(some) - len(texts)


def _newest_first(record: Record) -> tuple[float, str]:
    return -(record.at.timestamp() if record.at is not None else 0.0), stable_hash(record.text)


def _require_enough(spec: ModelSpec, kept: Sequence[Record], since: datetime, left_out: int, basis: Basis) -> None:
    needed = spec.gate.min_documents
    if len(kept) >= needed:
        return
    without = f" that are no copies of its training data ({left_out} are)" if left_out else ""
    cure = "wait until more references have come"
    if basis.trained_until is not None:
        cure += ", or say `--training-data FILE` instead of `--trained-until`"
    raise ContractError(
        f"{spec.name}: the log holds {len(kept)} distinct documents with references since {since:%Y-%m-%d %H:%M}Z"
        f"{without}; the gate needs {needed} to judge a version; {cure}"
    )
