"""Training documents on their way from their sources to a snapshot, in batches: memory does not grow with them.

First pass: each document is checked, redacted, held against those before it and those that judge, and put aside on
disk. Second pass, where something is strangely frequent: phrases. What is dropped goes to a file with its reason.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from datasets_defs.core.errors import ContractError
from datasets_defs.redaction.names import Names
from datasets_defs.spec.training import DataSpec, SourceSpec
from training.prepare.batches import BATCH_ROWS, Batch, batches, trim, within_quota
from training.prepare.checks import Record, utf8_size
from training.prepare.corpus import Broken, documents_of
from training.prepare.duplicates import Seen
from training.prepare.ngrams import Words
from training.prepare.overlap import Judging
from training.prepare.phrases import Phrase, PhraseCounter, holds, repeats_itself
from training.prepare.policy import Policy
from training.prepare.rejects import Rejects
from training.prepare.report import DUPLICATE, HELD_OUT_USER, NEAR_DUPLICATE, OVER_QUOTA, OVERLAP, Report, SourceReport

log = logging.getLogger(__name__)
_TRIMMED_EACH = 8
"""Batches after which freed memory is given back."""
MOST_LOOKED_AT = 20_000
"""Documents among which phrases are counted exactly; of more, every so many batches are looked at."""
MOST_NAMED = 50
"""Phrases that a report names."""
_KEPT = pa.schema(
    [
        ("source", pa.string()),
        ("place", pa.int64()),
        ("request_id", pa.string()),
        ("prompt", pa.string()),
        ("reference", pa.string()),
        ("user_id", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("contributor", pa.string()),
    ]
)


class Preparation:
    """One preparation, in a folder of its own that is thrown away afterwards."""

    def __init__(self, folder: Path, spec: DataSpec, names: Names, *, older: Sequence[str] = ()) -> None:
        self.report = Report()
        self.rejects = folder / "rejected.parquet"
        """What was dropped: source, place, request id, reason, and the beginning of the content."""
        self._spec, self._older = spec, older
        self._policy = Policy(spec, names)
        self._seen = Seen(folder)
        self._judging, self._users = Judging.of([]), frozenset[str]()
        self._broken: set[str] = set()
        self._folder, self._stages = folder, 0
        self._begin()
        self._dropped = Rejects(self.rejects, self.report, self._policy.finders)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        self._writer.close()
        self.close_rejects()
        self._seen.close()

    def close_rejects(self) -> None:
        """Finish the file of what was dropped."""
        self._dropped.close()

    def take(self, name: str, rows: Iterable[Record | Broken], quota: SourceSpec | None = None) -> None:
        """First pass over a source: keep what may be trained on, on disk, until its quota is reached."""
        report = self.report.of(name)
        for number, batch in enumerate(batches(rows), start=1):
            self._step(name, batch, report, quota)
            if OVER_QUOTA in report.dropped:
                break
            if number % _TRIMMED_EACH == 0:
                trim()

    def take_corpus(self, source: SourceSpec) -> None:
        """Do so with a corpus; one that is broken is said, and stops nothing."""
        report = self.report.of(source.name)
        try:
            self.take(source.name, documents_of(source), source)
        except ContractError as err:
            report.broken = str(err)
        if (why := report.why_broken(self._spec.max_rejected_share)) is not None:
            self._broken.add(source.name)
            report.broken = f"{why}: nothing of it is used"
        if report.broken is not None:
            log.warning("data source %s: %s", source.name, report.broken)

    def keep_apart(self, judging: Judging, users: Iterable[str]) -> None:
        """From now on leave out what overlaps with these texts, and what these users wrote."""
        self._judging, self._users = judging, frozenset(users)

    def settled(self) -> Iterator[Any]:
        """Give, as record batches, what was kept since the last call, without injected phrases and broken corpora."""
        spool, phrases = self._spool, self._phrases
        self._writer.close()
        self._begin()
        self.report.floods = self._seen.floods()
        strange = self._strange(spool, phrases) if phrases is not None and phrases.suspects else {}
        injected = np.array(sorted(key for key in strange if strange[key].kind == "injected"), dtype=np.uint64)
        for batch in _spooled(spool):
            name = batch["source"][0].as_py()
            if name in self._broken:
                self.report.of(name).kept = self.report.of(name).bytes = 0
                continue
            hit = holds(Words.of(_texts(batch)), injected) if len(injected) else {}
            for at, key in hit.items():
                self.drop(records_of(batch.slice(at, 1))[0], f"the injected phrase “{strange[key].said[:120]}”")
            yield batch.take(np.delete(np.arange(batch.num_rows), list(hit))) if hit else batch
        spool.unlink()

    def _begin(self) -> None:
        """Begin a new file for what is kept, and new counts of phrases."""
        self._stages += 1
        self._spool = self._folder / f"kept-{self._stages}.arrow"
        self._writer: Any = pa.ipc.new_stream(self._spool, _KEPT)
        least = self._spec.phrase_documents
        self._phrases = PhraseCounter(least) if least is not None else None

    def _strange(self, spool: Path, phrases: PhraseCounter) -> dict[int, Phrase]:
        every = math.ceil(phrases.documents / MOST_LOOKED_AT)
        for batch in islice(_spooled(spool), 0, None, every):
            phrases.look(Words.of(_texts(batch)))
        for at in range(0, min(len(self._older), MOST_LOOKED_AT), BATCH_ROWS):
            phrases.look_at_older(Words.of(self._older[at : at + BATCH_ROWS]))
        strange = {key: phrase for key, phrase in phrases.judge().items() if not self._allowed(phrase)}
        for phrase in sorted(set(strange.values()), key=lambda phrase: (-phrase.documents, phrase.said))[:MOST_NAMED]:
            self.report.phrases.append(
                {"phrase": phrase.said, "kind": phrase.kind, "documents": phrase.documents, "older": phrase.older}
            )
        return strange

    def drop(self, record: Record, reason: str) -> None:
        """Leave out a document that had been kept so far."""
        report = self.report.of(record.source)
        report.kept -= 1
        report.bytes -= utf8_size(record.text)
        self._dropped.add(record.source, record.place, record.request_id, reason, record.text)

    def _step(self, name: str, rows: list[Record | Broken], report: SourceReport, quota: SourceSpec | None) -> None:
        report.rows += len(rows)
        batch = Batch([row for row in rows if isinstance(row, Record)], {})
        for row in rows:
            if isinstance(row, Broken):
                self._dropped.add(name, row.place, "", row.reason, row.content)
                if row.rest_lost:
                    report.broken = f"{row.reason}: {self._dropped.shown(row.content)}"
        self._policy.prepare(batch, report)
        left, words = self._compare(batch, report)
        kept = within_quota(batch, report, quota)
        if self._phrases is not None and kept:
            self._phrases.count(self._narrowed(batch, left, words)[1])
        for at, reason in batch.reasons.items():
            record = batch.records[at]
            self._dropped.add(name, record.place, record.request_id, reason, record.text)
        if kept:
            columns = [pa.array([getattr(document, field.name) for document in kept], field.type) for field in _KEPT]
            self._writer.write_batch(pa.record_batch(columns, schema=_KEPT))

    def _compare(self, batch: Batch, report: SourceReport) -> tuple[list[int], Words]:
        """Drop what came before, what repeats itself, and what is in another language; give the rest with its words."""
        left = batch.left()
        for at, copies in zip(left, self._seen.copies([batch.records[at].text for at in left]), strict=True):
            if copies > 1:
                batch.drop(at, DUPLICATE)
        left = batch.left()
        words = Words.of([batch.records[at].text for at in left])
        self._by_words(batch, left, words)
        self._policy.choose_languages(batch, report)
        left, words = self._narrowed(batch, left, words)
        if self._spec.near_duplicates is not None:
            for at, near in zip(left, self._seen.near(words, self._spec.near_duplicates), strict=True):
                if near:
                    batch.drop(at, NEAR_DUPLICATE)
        return left, words

    def _by_words(self, batch: Batch, left: list[int], words: Words) -> None:
        for number, times in repeats_itself(words).items():
            batch.drop(left[number], f"a phrase that it repeats {'100' if times >= 100 else '20'} times or more")
        for number in self._judging.contaminated(words):
            batch.drop(left[number], OVERLAP)
        for at in left:
            if batch.records[at].user_id in self._users:
                batch.drop(at, HELD_OUT_USER)

    @staticmethod
    def _narrowed(batch: Batch, numbers: list[int], words: Words) -> tuple[list[int], Words]:
        left = [at for at in numbers if at not in batch.reasons]
        return left, words if len(left) == len(numbers) else Words.of([batch.records[at].text for at in left])

    def _allowed(self, strange: Phrase) -> bool:
        text = strange.said.casefold()
        allowed = [" ".join(phrase.casefold().split()) for phrase in self._spec.allow_phrases]
        return any(phrase in text or text in phrase for phrase in allowed)


def _spooled(file: Path) -> Iterator[Any]:
    with pa.OSFile(str(file)) as content, pa.ipc.open_stream(content) as reader:
        yield from reader


def _texts(batch: Any) -> list[str]:
    pairs = zip(batch["prompt"].to_pylist(), batch["reference"].to_pylist(), strict=True)
    return [prompt + reference for prompt, reference in pairs]


def records_of(batch: Any) -> list[Record]:
    """Give the documents of a record batch."""
    columns = [batch[name].to_pylist() for name in _KEPT.names]
    return [Record(**dict(zip(_KEPT.names, cells, strict=True))) for cells in zip(*columns, strict=True)]
