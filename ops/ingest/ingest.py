"""`driftloop ingest`: a log that somebody else's server wrote, into the inference log."""

import getpass
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from sqlalchemy import Engine

from datasets_defs.core.contributors import INGEST
from datasets_defs.core.errors import ContractError
from datasets_defs.rows.files import find, rows_of
from datasets_defs.rows.row import Rows, Unreadable
from datasets_defs.store import inference_log
from datasets_defs.store.feedback import add_feedback_batch
from datasets_defs.store.inference_log import first_day_kept
from datasets_defs.store.quarantined import quarantine
from ops.ingest.rows import Row, parse

BATCH_ROWS = 2_000
AHEAD = timedelta(hours=1)
"""Later than this after now no clock is; what is, is a local time without its zone, or a wrong unit."""


@dataclass(slots=True, kw_only=True)
class Summary:
    """What became of a file's rows."""

    rows: int = 0
    new: int = 0
    known: int = 0
    """Rows whose request was in the log before, left as they were."""
    feedback: int = 0
    """References and scores kept; a later word on the same request replaces the earlier one."""
    naive_times: int = 0
    """Times without a zone, taken as UTC."""
    quarantined: Counter[str] = field(default_factory=Counter)
    """Rows kept apart, by reason."""
    past: int = 0
    """Requests that are past the log's retention: the next `maintain` drops them."""
    oldest: datetime | None = None
    """When the oldest request was answered."""
    ahead: int = 0
    """Requests that were answered in the future, as their times say."""
    attributes: Counter[str] = field(default_factory=Counter)
    """What is kept as attributes, by name: columns without a meaning of their own."""

    def retention_needed(self, now: datetime) -> int:
        """Give for how many days the log has to be kept so that the next `maintain` drops none of the requests."""
        return 0 if self.oldest is None else (now - self.oldest).days + 1


def ingest(
    db: Engine,
    model: str,
    file: Path,
    progress: Callable[[float], None] = lambda _: None,
    *,
    now: datetime | None = None,
) -> Summary:
    """Read a file, or those of a pattern, into the model's log; reading it again changes nothing.

    `progress` hears shares of each file.

    A row that cannot be read is quarantined with its number and reason, and the others go on. Requests that are past
    the log's retention at `now` (the clock's unless given) are counted: they are judged and trained on until they go.

    Raises:
        ContractError: the file is missing, or of a kind that is not read.
        TransientError: PostgreSQL is away; run it again.
    """
    files = find(str(file))
    if texts := [source.path for source in files if source.kind == "txt"]:
        raise ContractError(f"{texts[0]} is plain text; give requests as .jsonl, .json, .csv, .tsv or .parquet")
    summary, at = Summary(), now or datetime.now(UTC)
    for source in files:
        parsed = _parsed(rows_of(source, progress=progress), model, summary)
        while batch := list(islice(parsed, BATCH_ROWS)):
            _write(db, model, file if len(files) == 1 else Path(source.path), batch, summary)
            _count_times(batch, at, summary)
    progress(1.0)
    return summary


@dataclass(frozen=True, slots=True)
class _Bad:
    number: int
    reason: str
    content: str


def _parsed(rows: Rows, model: str, summary: Summary) -> Iterator[Row | _Bad]:
    for number, content in rows:
        summary.rows += 1
        if isinstance(content, Unreadable):
            yield _Bad(number, content.reason, content.content)
            continue
        try:
            row = parse(content, model)
        except ValueError as err:
            yield _Bad(number, str(err), repr(content))
            continue
        summary.naive_times += row.naive_time
        summary.attributes.update(list(row.inference.attributes) if row.inference is not None else ())
        yield row


def _count_times(batch: list[Row | _Bad], now: datetime, summary: Summary) -> None:
    times = [row.inference.at for row in batch if isinstance(row, Row) and row.inference is not None]
    before = first_day_kept(now)
    summary.past += sum(at < before for at in times)
    summary.ahead += sum(at > now + AHEAD for at in times)
    summary.oldest = min([*times, *([summary.oldest] if summary.oldest is not None else [])], default=None)


def _write(db: Engine, model: str, file: Path, batch: list[Row | _Bad], summary: Summary) -> None:
    good = [item for item in batch if isinstance(item, Row)]
    bad = [item for item in batch if isinstance(item, _Bad)]
    requests = [row.inference for row in good if row.inference is not None]
    new = inference_log.append(db, requests)
    feedback = [row.feedback for row in good if row.feedback is not None]
    told = [(item.request_id, item.reference, item.score) for item in feedback]
    add_feedback_batch(db, model, told, contributor=INGEST + getpass.getuser())
    summary.feedback += len(feedback)
    quarantine(db, model, str(file.expanduser().resolve()), [(item.number, item.reason, item.content) for item in bad])
    summary.new += new
    summary.known += len(requests) - new
    summary.quarantined.update(item.reason for item in bad)
