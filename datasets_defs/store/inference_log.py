"""The inference log: batches in by COPY, windows and training documents out, references joined late."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine, Text, bindparam, func, or_, select, text
from sqlalchemy.dialects.postgresql import ARRAY, insert

from datasets_defs.core.plain import clean_text, plain
from datasets_defs.core.windows import Window
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """One answered request."""

    model: str
    request_id: str
    at: datetime
    prompt: str
    completion: str | None = None
    model_version: int | None = None
    prompt_bits_per_byte: float | None = None
    completion_bits_per_byte: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    latency_seconds: float | None = None
    user_id: str | None = None
    session_id: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A prompt with what a person wrote for it: the only kind of text that is trained on."""

    request_id: str
    at: datetime
    prompt: str
    reference: str
    user_id: str | None = None

    @property
    def text(self) -> str:
        """Prompt and reference as one text."""
        return self.prompt + self.reference


_columns = [column.name for column in tables.inference.columns]
_read = [column for column in tables.inference.columns if column.name != "model"]


def append(engine: Engine, rows: Sequence[Inference]) -> int:
    """Write a batch by COPY; give how many were new. Rows whose (model, request id) is known are left alone."""
    if not rows:
        return 0
    with database_errors("writing the inference log"), engine.begin() as on:
        ensure_partitions(on, {row.at.astimezone(UTC).date() for row in rows})
        on.execute(text("CREATE TEMP TABLE batch (LIKE inference INCLUDING DEFAULTS) ON COMMIT DROP"))
        cursor = on.connection.cursor()
        with cursor.copy(f"COPY batch ({', '.join(_columns)}) FROM STDIN") as copy:  # column names are ours
            for row in rows:
                copy.write_row([_cell(getattr(row, name)) for name in _columns])
        known = "SELECT 1 FROM inference i WHERE i.model = b.model AND i.request_id = b.request_id"
        result = on.execute(
            text(
                f"INSERT INTO inference SELECT DISTINCT ON (model, request_id) b.* FROM batch b "  # noqa: S608 constants
                f"WHERE NOT EXISTS ({known}) ORDER BY model, request_id, at ON CONFLICT DO NOTHING"
            )
        )
        return result.rowcount


def ensure_partitions(on: Connection, days: Iterable[Any]) -> None:
    """Make the day partitions that are missing; safe when several writers do it at once."""
    for day in sorted(set(days)):
        name = f"inference_{day:%Y%m%d}"
        if on.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is not None:
            continue
        on.execute(text("SELECT pg_advisory_xact_lock(hashtext('inference partitions'))"))
        on.execute(
            text(
                f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF inference "
                f"FOR VALUES FROM ('{day}T00:00:00Z') TO ('{day + timedelta(days=1)}T00:00:00Z')"
            )
        )


def add_feedback(
    engine: Engine, model: str, request_id: str, *, reference: str | None = None, score: float | None = None
) -> None:
    """Keep a late reference or score; a later word on the same request replaces the earlier one."""
    values = {
        "model": model,
        "request_id": clean_text(request_id),
        "reference": clean_text(reference) if reference is not None else None,
        "score": score,
    }
    said = {name: value for name, value in values.items() if value is not None}
    with database_errors("writing feedback"), engine.begin() as on:
        on.execute(
            insert(tables.feedback)
            .values(values)
            .on_conflict_do_update(index_elements=["model", "request_id"], set_={**said, "received_at": func.now()})
        )


def add_feedback_batch(engine: Engine, model: str, rows: Sequence[tuple[str, str | None, float | None]]) -> None:
    """Keep many late words at once: (request id, reference, score); saying the same again changes nothing.

    Within the batch too, a later word on a request replaces an earlier one.
    """
    latest: dict[str, tuple[str | None, float | None]] = {}
    for request_id, reference, score in rows:  # a row that brings only the score does not take the reference away
        before = latest.get(request_id, (None, None))
        latest[request_id] = (before[0] if reference is None else reference, before[1] if score is None else score)
    values = [
        {
            "model": model,
            "request_id": clean_text(request_id),
            "reference": clean_text(reference) if reference is not None else None,
            "score": score,
        }
        for request_id, (reference, score) in latest.items()
    ]
    if not values:
        return
    late, said = tables.feedback.c, insert(tables.feedback).excluded
    new = {"reference": func.coalesce(said.reference, late.reference), "score": func.coalesce(said.score, late.score)}
    changed = or_(*(late[name].is_distinct_from(value) for name, value in new.items()))
    with database_errors("writing feedback"), engine.begin() as on:
        on.execute(
            insert(tables.feedback).on_conflict_do_update(
                index_elements=["model", "request_id"], set_={**new, "received_at": func.now()}, where=changed
            ),
            values,
        )


def count_rows(engine: Engine, model: str, window: Window) -> int:
    """Count the model's requests in a window."""
    table = tables.inference.c
    query = select(func.count()).where(table.model == model, table.at >= window.start, table.at < window.end)
    with database_errors("reading the inference log"), engine.connect() as on:
        return on.scalar(query) or 0


def oldest_row(engine: Engine, model: str) -> datetime | None:
    """Read when the model's oldest logged request was answered; None without any."""
    query = select(func.min(tables.inference.c.at)).where(tables.inference.c.model == model)
    with database_errors("reading the inference log"), engine.connect() as on:
        oldest: datetime | None = on.scalar(query)
    return oldest


def read_window(engine: Engine, model: str, window: Window, *, limit: int) -> list[dict[str, Any]]:
    """Read a window's rows as plain dicts, at most `limit` of them, chosen by the hash of their request id.

    Keys: `request_id, at, model_version, prompt, completion, prompt_bits_per_byte, completion_bits_per_byte,
    prompt_tokens, completion_tokens, latency_seconds, user_id, session_id, attributes`. The choice is the same every
    time and independent of arrival order.
    """
    table = tables.inference.c
    query = (
        select(*_read)
        .where(table.model == model, table.at >= window.start, table.at < window.end)
        .order_by(func.md5(table.request_id))
        .limit(limit)
    )
    with database_errors("reading the inference log"), engine.connect() as on:
        return [dict(row._mapping) for row in on.execute(query)]


def read_requests(engine: Engine, model: str, window: Window, request_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Read the rows of these requests that fall into a window, by request id; keys as of `read_window`."""
    table = tables.inference.c
    asked = func.unnest(bindparam("ids", list(request_ids), ARRAY(Text))).select()
    query = (
        select(*_read)
        .where(table.model == model, table.at >= window.start, table.at < window.end, table.request_id.in_(asked))
        .order_by(table.request_id)
    )
    with database_errors("reading the inference log"), engine.connect() as on:
        return [dict(row._mapping) for row in on.execute(query)]


def read_origins(
    engine: Engine, model: str, request_ids: Sequence[str]
) -> dict[str, tuple[str | None, dict[str, Any] | None]]:
    """Read user and attributes of requests by request id; those that the log does not hold any more are left out."""
    table = tables.inference.c
    asked = func.unnest(bindparam("ids", list(request_ids), ARRAY(Text))).select()
    query = select(table.request_id, table.user_id, table.attributes).where(
        table.model == model, table.request_id.in_(asked)
    )
    with database_errors("reading the inference log"), engine.connect() as on:
        return {row.request_id: (row.user_id, row.attributes) for row in on.execute(query)}


def read_documents(
    engine: Engine, model: str, window: Window, *, limit: int, longest: int | None = None
) -> list[Document]:
    """Read prompts with their references, newest first, at most `limit`; rows without a reference are left out.

    Of each text at most `longest` characters are read: whoever drops longer ones need not hold them.
    """
    log, late = tables.inference.c, tables.feedback.c
    texts = [
        (func.left(column, longest) if longest is not None else column).label(column.name)
        for column in (log.prompt, late.reference)
    ]
    query = (
        select(log.request_id, log.at, log.user_id, *texts)
        .join_from(tables.inference, tables.feedback, (log.model == late.model) & (log.request_id == late.request_id))
        .where(log.model == model, log.at >= window.start, log.at < window.end, late.reference.is_not(None))
        .order_by(log.at.desc(), log.request_id)
        .limit(limit)
    )
    with database_errors("reading training documents"), engine.connect() as on:
        return [Document(**row._mapping) for row in on.execute(query)]


def quarantine(engine: Engine, model: str, source: str, rows: Sequence[tuple[int, str, str]]) -> None:
    """Keep rows that could not be read: (row number, reason, content). The same row is kept once."""
    if not rows:
        return
    values = [
        {
            "model": model,
            "source": clean_text(source),  # a file's name may be no UTF-8
            "row_number": number,
            "reason": clean_text(reason),
            "content": clean_text(content)[:10_000],
        }
        for number, reason, content in rows
    ]
    with database_errors("writing quarantined rows"), engine.begin() as on:
        on.execute(insert(tables.quarantined_row).values(values).on_conflict_do_nothing())


def drop_partitions(engine: Engine, before: datetime) -> list[str]:
    """Drop the day partitions that end by `before`; give their names."""
    with database_errors("dropping old partitions"), engine.begin() as on:
        names = on.scalars(
            text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'inference'::regclass")
        ).all()
        last = f"inference_{(before.astimezone(UTC) - timedelta(days=1)):%Y%m%d}"
        old = sorted(name for name in names if name <= last)
        for name in old:
            on.execute(text(f"DROP TABLE {name}"))
        return old


def _cell(value: Any) -> Any:
    match value:
        case str():
            return clean_text(value)
        case dict():
            return Jsonb(plain(value))
        case _:
            return value
