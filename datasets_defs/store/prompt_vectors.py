"""Where some prompts of each window lie: vectors in, the nearest to one vector out. The texts stay in the log."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import psycopg
from sqlalchemy import Engine, TextClause, text

from datasets_defs.core.windows import Window
from datasets_defs.store.database import database_errors

DAY_PROMPTS = 1_200
"""Prompts of a day that stay; more come where windows are shorter than an hour."""
_READ_AT_ONCE = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedPrompt:
    """A prompt as the log holds it."""

    request_id: str
    at: datetime
    prompt: str
    version: int | None = None
    """Which version answered; None in a foreign log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A request whose prompt lies near."""

    request_id: str
    at: datetime
    similarity: float
    """Cosine of the angle between both: 1 is the same, 0 has nothing in common."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """A request and where its prompt lies."""

    request_id: str
    at: datetime
    vector: Sequence[float]


def first_prompt_at(db: Engine, model: str, within: Window) -> datetime | None:
    """Read when the first prompt that is not empty was answered in a stretch of time."""
    with database_errors("looking for prompts"), db.connect() as on:
        first: datetime | None = on.scalar(
            text("SELECT at FROM inference WHERE model = :model AND at >= :start AND at < :end "
                 "AND octet_length(prompt) > 0 ORDER BY at LIMIT 1"),
            {"model": model, "start": within.start, "end": within.end},
        )  # fmt: skip
    return first


def some_prompts(db: Engine, model: str, window: Window, *, most: int) -> list[LoggedPrompt]:
    """Read some prompts of a window that are not empty, chosen by the hash of their request id: every time the same.

    No other prompt is unpacked for it.
    """
    query = text(
        "SELECT request_id, at, prompt, model_version AS version FROM inference WHERE model = :model AND at >= :start "
        "AND at < :end AND octet_length(prompt) > 0 ORDER BY md5(request_id), request_id, at LIMIT :most"
    )
    values = {"model": model, "start": window.start, "end": window.end, "most": most}
    with database_errors("reading prompts of a window"), db.connect() as on:
        return [LoggedPrompt(**row._mapping) for row in on.execute(query, values)]


def prompts_of_requests(db: Engine, model: str, requests: Sequence[tuple[str, datetime]]) -> list[LoggedPrompt]:
    """Read the prompts of requests, in their order; those that the log does not hold any more are left out."""
    if not requests:
        return []
    query = text(
        "SELECT i.request_id, i.at, i.prompt, i.model_version AS version "
        "FROM unnest(CAST(:ids AS text[]), CAST(:times AS timestamptz[])) WITH ORDINALITY AS asked (id, at, n) "
        "JOIN inference i ON i.model = :model AND i.request_id = asked.id AND i.at = asked.at "
        "WHERE i.at >= :first AND i.at <= :last ORDER BY asked.n"
    )
    ids, times = zip(*requests, strict=True)
    values = {"model": model, "ids": [*ids], "times": [*times], "first": min(times), "last": max(times)}
    with database_errors("reading prompts of the log"), db.connect() as on:
        return [LoggedPrompt(**row._mapping) for row in on.execute(query, values)]


def save_vectors(db: Engine, model: str, window: Window, space: str, some: Sequence[Indexed]) -> None:
    """Keep a window's vectors, all or none; doing it again changes nothing."""
    if not some:
        return
    values = {
        "model": model, "window_end": window.end, "space": space,
        "ids": [prompt.request_id for prompt in some], "times": [prompt.at for prompt in some],
        "vectors": ["{" + ",".join(f"{number:.8g}" for number in prompt.vector) + "}" for prompt in some],
    }  # fmt: skip
    with database_errors("keeping prompts as vectors"), db.begin() as on:
        on.execute(_SAVE, values)


def indexed_until(db: Engine, model: str) -> datetime | None:
    """Read the end of the newest window of which vectors are kept; None without any."""
    with database_errors("reading what is indexed"), db.connect() as on:
        end: datetime | None = on.scalar(
            text("SELECT max(window_end) FROM prompt_vector WHERE model = :model"), {"model": model}
        )
    return end


def count_indexed(db: Engine, model: str, within: Window) -> dict[str, int]:
    """Count the prompts that are indexed in a stretch of time, by space."""
    query = text(
        "SELECT space, count(*) AS prompts FROM prompt_vector "
        "WHERE model = :model AND at >= :start AND at < :end GROUP BY space"
    )
    with database_errors("counting what is indexed"), db.connect() as on:
        rows = on.execute(query, {"model": model, "start": within.start, "end": within.end})
        return {row.space: row.prompts for row in rows}


def has_pgvector(db: Engine) -> bool:
    """Say whether this database has the extension `vector`, which compares inside the server."""
    with database_errors("looking for pgvector"), db.connect() as on:
        return on.scalar(text("SELECT 1 FROM pg_extension WHERE extname = 'vector'")) is not None


def nearest_by_pgvector(
    db: Engine, model: str, space: str, asked: Sequence[float], within: Window, *, most: int
) -> list[Neighbour]:
    """Let pgvector give the prompts that lie nearest, exactly: every vector of the model is looked at."""
    query = text(
        "SELECT request_id, at, -(vector::vector <#> CAST(CAST(:asked AS real[]) AS vector)) AS similarity "
        f"{_WITHIN} ORDER BY similarity DESC, at DESC, request_id LIMIT :most"
    )
    values = {**_values(model, space, within), "asked": [*map(float, asked)], "most": most}
    with database_errors("asking pgvector for the nearest prompts"), db.connect() as on:
        return [Neighbour(**row._mapping) for row in on.execute(query, values)]


def vector_blocks(
    db: Engine, model: str, space: str, within: Window
) -> Iterator[tuple[list[tuple[str, datetime]], list[bytes]]]:
    """Give all vectors of a model in blocks: requests, and numbers as PostgreSQL sends them (`array_send`)."""
    query = (
        "SELECT request_id, at, array_send(vector) FROM prompt_vector WHERE model = %(model)s AND space = %(space)s "
        "AND at >= %(start)s AND at < %(end)s"
    )
    with database_errors("reading where prompts lie"), db.connect() as pooled, pooled.begin():
        on = cast("psycopg.Connection", pooled.connection.driver_connection)  # binary rows are not SQLAlchemy's
        with on.cursor(name="vectors") as cursor:
            cursor.execute(query, _values(model, space, within), binary=True)
            while block := cursor.fetchmany(_READ_AT_ONCE):
                yield [(request_id, at) for request_id, at, _ in block], [vector for _, _, vector in block]


def tidy_vectors(db: Engine, *, day: Window) -> int:
    """Delete a past day's vectors whose request the log does not hold any more, and those beyond `DAY_PROMPTS`.

    Which ones stay does not depend on what came first: it is by the hash of the request id.
    """
    values = {"start": day.start, "end": day.end, "most": DAY_PROMPTS}
    with database_errors("tidying where prompts lie"), db.begin() as on:
        return on.execute(_ERASED, values).rowcount + on.execute(_THINNED, values).rowcount


def days_indexed(db: Engine) -> list[datetime]:
    """Read the UTC days of which vectors are kept, oldest first, by their beginning."""
    query = text("SELECT DISTINCT date_trunc('day', at, 'UTC') AS day FROM prompt_vector ORDER BY 1")
    with database_errors("reading which days are indexed"), db.connect() as on:
        return [*on.scalars(query)]


def _values(model: str, space: str, within: Window) -> dict[str, Any]:
    return {"model": model, "space": space, "start": within.start, "end": within.end}


_SAVE: TextClause = text(  # one statement: fifty would take longer than making the vectors
    "INSERT INTO prompt_vector (model, window_end, space, request_id, at, vector) "
    "SELECT :model, :window_end, :space, id, at, CAST(vector AS real[]) FROM unnest(CAST(:ids AS text[]), "
    "CAST(:times AS timestamptz[]), CAST(:vectors AS text[])) AS given (id, at, vector) ON CONFLICT DO NOTHING"
)
_WITHIN = "FROM prompt_vector WHERE model = :model AND space = :space AND at >= :start AND at < :end"
_ERASED: TextClause = text(
    "DELETE FROM prompt_vector p WHERE p.at >= :start AND p.at < :end AND NOT EXISTS (SELECT FROM inference i "
    "WHERE i.model = p.model AND i.request_id = p.request_id AND i.at = p.at AND i.at >= :start AND i.at < :end)"
)
_THINNED: TextClause = text(
    "DELETE FROM prompt_vector p USING (SELECT model, window_end, request_id, row_number() OVER "
    "(PARTITION BY model ORDER BY md5(request_id), request_id) AS n FROM prompt_vector "
    "WHERE at >= :start AND at < :end) AS ranked "
    "WHERE ranked.n > :most AND p.model = ranked.model AND p.window_end = ranked.window_end "
    "AND p.request_id = ranked.request_id"
)
