"""Documents of one source that go through the preparation together: memory holds one batch, not the source."""

import ctypes
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from datasets_defs.spec.training import SourceSpec
from training.prepare.checks import Record, utf8_size
from training.prepare.corpus import Broken
from training.prepare.report import OVER_QUOTA, SourceReport

BATCH_BYTES, BATCH_ROWS = 2**20, 2_000
"""A batch ends with the row that reaches the one or the other."""


@dataclass(slots=True)
class Batch:
    """Documents of one source that go through the steps together."""

    records: list[Record]
    reasons: dict[int, str]
    """Why a document is dropped, by its place in `records`."""

    def left(self) -> list[int]:
        """Give the places of the documents that nothing speaks against so far."""
        return [at for at in range(len(self.records)) if at not in self.reasons]

    def drop(self, at: int, reason: str) -> None:
        """Leave a document out."""
        self.reasons[at] = reason


def batches(rows: Iterable[Record | Broken]) -> Iterator[list[Record | Broken]]:
    """Cut rows into batches of so many bytes or rows, whichever comes first."""
    batch: list[Record | Broken] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.prompt) + len(row.reference) if isinstance(row, Record) else len(row.content)
        if size >= BATCH_BYTES or len(batch) >= BATCH_ROWS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def within_quota(batch: Batch, report: SourceReport, quota: SourceSpec | None) -> list[Record]:
    """Give what is kept of a batch, and count it; the rest is over the quota."""
    kept = []
    for at in batch.left():
        record = batch.records[at]
        size = utf8_size(record.text)
        if quota is not None and (
            report.kept >= (quota.max_documents or math.inf) or report.bytes + size > (quota.max_bytes or math.inf)
        ):
            batch.drop(at, OVER_QUOTA)
            continue
        kept.append(record)
        report.kept += 1
        report.bytes += size
    return kept


@cache
def _trimmer() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def trim() -> None:
    """Give freed memory back, where the C library does so: between what is kept it leaves holes that add up."""
    if (release := _trimmer()) is not None:
        release(0)
