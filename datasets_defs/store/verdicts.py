"""What monitors and components write down: verdicts, reference profiles, heartbeats."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, exists, false, func, select, true
from sqlalchemy.dialects.postgresql import distinct_on, insert

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.plain import clean_text, plain
from datasets_defs.core.settings import settings
from datasets_defs.core.windows import Window
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors


def save_verdict(engine: Engine, verdict: Verdict) -> None:
    """Keep a verdict; judging the same window again replaces it."""
    values = {
        "model": verdict.model,
        "signal": verdict.signal,
        "window_start": verdict.window.start,
        "window_end": verdict.window.end,
        "condition": verdict.condition,
        "reason": clean_text(verdict.reason),
        "method": verdict.method,
        "score": verdict.score,
        "limit": verdict.limit,
        "champion_version": verdict.champion_version,
        "evidence": plain(verdict.evidence),
    }
    table = tables.verdict
    with database_errors("saving a verdict"), engine.begin() as on:
        on.execute(
            insert(table)
            .values(values)
            .on_conflict_do_update(index_elements=table.primary_key, set_={**values, "judged_at": func.now()})
        )


def recent_verdicts(
    engine: Engine,
    model: str,
    signal: str,
    *,
    until: datetime,
    count: int,
    having: str | None = None,
    waiting: bool = True,
) -> list[Verdict]:
    """Read the newest verdicts of one signal on windows that ended by `until`, newest first.

    With `having`, only those whose evidence has that key count; without `waiting`, those that wait for more do not.
    """
    table = tables.verdict.c
    waits = func.coalesce(table.evidence["waits"].as_boolean(), false())
    query = (
        select(tables.verdict)
        .where(table.model == model, table.signal == signal, table.window_end <= until)
        .where(true() if having is None else table.evidence.has_key(having))
        .where(true() if waiting else ~waits)
        .order_by(table.window_end.desc())
        .limit(count)
    )
    with database_errors("reading verdicts"), engine.connect() as on:
        return [verdict_of(row, row.evidence) for row in on.execute(query)]


STALE_AFTER_WINDOWS = 3
"""Windows after which a newest verdict says nothing of the present any more."""


def newest_verdicts(engine: Engine, model: str, *, now: datetime) -> list[Verdict]:
    """Read the newest verdict of each of the model's signals; one that is too old to count is STALE."""
    patience = STALE_AFTER_WINDOWS * settings().window_length
    table = tables.verdict.c
    query = (
        select(tables.verdict)
        .where(table.model == model)
        .ext(distinct_on(table.signal))
        .order_by(table.signal, table.window_end.desc())
    )
    with database_errors("reading verdicts"), engine.connect() as on:
        return [verdict_of(row, row.evidence).as_of(now, patience=patience) for row in on.execute(query)]


def newest_verdicts_by_model(engine: Engine, models: Collection[str], *, now: datetime) -> dict[str, list[Verdict]]:
    """Read the newest verdict of each signal of several models in one query, without their evidence."""
    patience = STALE_AFTER_WINDOWS * settings().window_length
    table = tables.verdict.c
    query = (
        select(*(column for column in table if column is not table.evidence))
        .where(table.model.in_(models))
        .ext(distinct_on(table.model, table.signal))
        .order_by(table.model, table.signal, table.window_end.desc())
    )
    newest: dict[str, list[Verdict]] = {model: [] for model in models}
    with database_errors("reading verdicts"), engine.connect() as on:
        for row in on.execute(query):
            newest[row.model].append(verdict_of(row, {}).as_of(now, patience=patience))
    return newest


def verdict_of(row: Any, evidence: dict[str, Any]) -> Verdict:
    """Read a verdict from a row of its table, with as much of its evidence as was asked for."""
    return Verdict(
        model=row.model,
        signal=row.signal,
        window=Window(row.window_start, row.window_end),
        condition=Condition(row.condition),
        reason=row.reason,
        method=row.method,
        score=row.score,
        limit=row.limit,
        champion_version=row.champion_version,
        evidence=evidence,
    )


def broken_spans(on: Connection, model: str, since: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
    """Read when the model's data was found broken between two times, as spans that do not touch, oldest first."""
    verdict = tables.verdict.c
    query = (
        select(verdict.window_start, verdict.window_end)
        .where(
            verdict.model == model,
            verdict.signal == "data",
            verdict.condition == Condition.BAD,
            verdict.window_start < until,
            verdict.window_end > since,
        )
        .order_by(verdict.window_start)
    )
    spans: list[tuple[datetime, datetime]] = []
    for start, end in on.execute(query):
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return spans


def in_broken_window(model: str) -> ColumnElement[bool]:
    """Write that a row of the inference log lies in a window whose data was found broken."""
    log, verdict = tables.inference.c, tables.verdict.c
    return exists().where(
        verdict.model == model,
        verdict.signal == "data",
        verdict.condition == Condition.BAD,
        verdict.window_start <= log.at,
        verdict.window_end > log.at,
    )
