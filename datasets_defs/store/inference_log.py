"""The inference log: batches in, windows out, references joined late."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Engine,
    Text,
    TextClause,
    bindparam,
    delete,
    func,
    make_url,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from datasets_defs.core.plain import clean_text, plain
from datasets_defs.core.windows import Window
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors
from datasets_defs.store.partitions import drop_days, ensure_days
from datasets_defs.store.places import place


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
    messages: list[Any] | None = None
    choices: list[Any] | None = None
    finish_reason: str | None = None
    first_token_seconds: float | None = None
    client: str | None = None


_columns = [column.name for column in tables.inference.columns]
_KEPT_ASIDE = frozenset({"model", "messages", "choices"})
"""Not read with a window: the model is known, and `prompt` and `completion` say the rest in one form for all."""
_read = [column for column in tables.inference.columns if column.name not in _KEPT_ASIDE]


_dialect = make_url("postgresql+psycopg://").get_dialect()()
_types = {
    column.name: "text" if isinstance(column.type, JSONB) else column.type.compile(dialect=_dialect)
    for column in tables.inference.columns
}
"""How each column's values travel: JSON as text."""


def append(engine: Engine, rows: Sequence[Inference]) -> int:
    """Write a batch in one statement; give how many were new. Rows whose (model, request id) is known are left alone.

    The ids are claimed first, in a table that holds them for all days: of two writers of one request, whatever times
    they give it, one wins. Nothing temporary is made, and no day but the rows' own is touched.
    """
    if not rows:
        return 0
    ensure_days(engine, {row.at.astimezone(UTC).date() for row in rows})
    batch = {name: [_cell(getattr(row, name)) for row in rows] for name in _columns}
    with database_errors("writing the inference log"), engine.begin() as on:
        return on.execute(_APPEND, batch).rowcount


def _append_statement() -> TextClause:
    given = ", ".join(f"CAST(:{name} AS {type_}[])" for name, type_ in _types.items())
    names = ", ".join(_columns)
    kinds = {column.name: column.type for column in tables.inference.columns}
    cells = ", ".join(f"b.{name}::jsonb" if isinstance(kinds[name], JSONB) else f"b.{name}" for name in _columns)
    return text(
        f"WITH batch AS (SELECT DISTINCT ON (model, request_id) * FROM unnest({given}) AS b ({names}) "  # noqa: S608 names are ours
        "ORDER BY model, request_id, at), "
        "claimed AS (INSERT INTO request_key (model, request_id, at) SELECT model, request_id, at FROM batch "
        "ON CONFLICT DO NOTHING RETURNING model, request_id) "
        f"INSERT INTO inference ({names}) SELECT {cells} FROM batch b JOIN claimed USING (model, request_id)"
    )


_APPEND = _append_statement()


def count_rows(engine: Engine, model: str, window: Window) -> int:
    """Count the model's requests in a window."""
    table = tables.inference.c
    query = select(func.count()).where(table.model == model, table.at >= window.start, table.at < window.end)
    with database_errors("reading the inference log"), engine.connect() as on:
        return on.scalar(query) or 0


def count_prompts(engine: Engine, model: str, version: int, window: Window, *, most: int) -> int:
    """Count a window's requests with a prompt that a version answered, up to `most`; no text leaves the database.

    A foreign log, which names no version, counts as the version's.
    """
    table = tables.inference.c
    some = (
        select(table.at)
        .where(table.model == model, table.at >= window.start, table.at < window.end)
        .where(or_(table.model_version == version, table.model_version.is_(None)), func.btrim(table.prompt) != "")
        .limit(most)
    )
    with database_errors("counting the inference log"), engine.connect() as on:
        return on.scalar(select(func.count()).select_from(some.subquery())) or 0


def oldest_row(engine: Engine, model: str) -> datetime | None:
    """Read when the model's oldest logged request was answered; None without any."""
    query = select(func.min(tables.request_key.c.at)).where(tables.request_key.c.model == model)
    with database_errors("reading the inference log"), engine.connect() as on:
        oldest: datetime | None = on.scalar(query)
    return oldest


def read_window(engine: Engine, model: str, window: Window, *, limit: int) -> list[dict[str, Any]]:
    """Read a window's rows as plain dicts, at most `limit` of them, chosen by the hash of their request id.

    Keys: `request_id, at, model_version, prompt, completion, prompt_bits_per_byte, completion_bits_per_byte,
    prompt_tokens, completion_tokens, latency_seconds, user_id, session_id, attributes, finish_reason,
    first_token_seconds, client`. The choice is the same every time and independent of arrival order.
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
    table, keys = tables.inference.c, tables.request_key.c
    asked = func.unnest(bindparam("ids", list(request_ids), ARRAY(Text))).select()
    times = select(func.min(keys.at), func.max(keys.at)).where(keys.model == model, keys.request_id.in_(asked))
    with database_errors("reading the inference log"), engine.connect() as on:
        first, last = on.execute(times).one()
        if first is None:
            return {}
        query = select(table.request_id, table.user_id, table.attributes).where(
            table.model == model, table.at >= first, table.at <= last, table.request_id.in_(asked)
        )
        return {row.request_id: (row.user_id, row.attributes) for row in on.execute(query)}


def asked_by(engine: Engine, model: str, request_id: str) -> str | None:
    """Name the key that asked a request; None: it was none, or the log does not hold the request, or not yet."""
    table, keys = tables.inference.c, tables.request_key.c
    at = select(keys.at).where(keys.model == model, keys.request_id == request_id).scalar_subquery()
    query = select(table.client).where(table.model == model, table.request_id == request_id, table.at == at)
    with database_errors("reading the inference log"), engine.connect() as on:
        client: str | None = on.scalar(query)
    return client


def drop_before(engine: Engine, before: datetime) -> list[str]:
    """Drop the log's days that end by `before`, with what was known of their requests; give the days' names."""
    dropped, midnight = drop_days(engine, before), _midnight(before)
    with database_errors("dropping old request ids"), engine.begin() as on:
        on.execute(delete(tables.request_key).where(tables.request_key.c.at < midnight))
    return dropped


def first_day_kept(now: datetime) -> datetime:
    """Give the beginning of the oldest day that the log's retention keeps."""
    return _midnight(now - place("inference").age)


def _midnight(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _cell(value: Any) -> Any:
    match value:
        case str():
            return clean_text(value)
        case dict() | list():
            return json.dumps(plain(value))
        case _:
            return value
