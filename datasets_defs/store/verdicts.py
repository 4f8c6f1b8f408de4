"""What monitors and components write down: verdicts, reference profiles, heartbeats."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    CTE,
    ColumnElement,
    Connection,
    Engine,
    Row,
    Text,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import insert

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


def _of_signals(signals: Sequence[str]) -> ColumnElement[bool]:
    """Write that a verdict is on one of some signals; a name that ends in a colon stands for all that begin so."""
    name = tables.verdict.c.signal
    return or_(
        *(name.startswith(signal, autoescape=True) if signal.endswith(":") else name == signal for signal in signals)
    )


def was_judged(engine: Engine, model: str, signals: Sequence[str], window_end: datetime) -> bool:
    """Say whether any of some signals was judged on the window that ended then."""
    table = tables.verdict.c
    query = select(exists().where(table.model == model, table.window_end == window_end, _of_signals(signals)))
    with database_errors("reading verdicts"), engine.connect() as on:
        return bool(on.scalar(query))


def newest_end(engine: Engine, model: str, signals: Sequence[str], *, until: datetime) -> datetime | None:
    """Read the end of the newest window by `until` on which any of some signals was judged."""
    table = tables.verdict.c
    query = select(func.max(table.window_end)).where(
        table.model == model, table.window_end <= until, _of_signals(signals)
    )
    with database_errors("reading verdicts"), engine.connect() as on:
        newest: datetime | None = on.scalar(query)
    return newest


STALE_AFTER_WINDOWS = 3
"""Windows after which a newest verdict says nothing of the present any more."""


def newest_verdicts(engine: Engine, model: str, *, now: datetime) -> list[Verdict]:
    """Read the newest verdict of each of the model's signals; one that is too old to count is STALE."""
    rows = _newest(engine, [model], [tables.verdict.c.evidence])
    return [verdict_of(row, row.evidence).as_of(now, patience=_patience()) for row in rows]


def newest_verdicts_by_model(
    engine: Engine, models: Collection[str], *, now: datetime, evidence_keys: Collection[str] = ()
) -> dict[str, list[Verdict]]:
    """Read the newest verdict of each signal of several models in one query; of its evidence these keys alone."""
    keys = {f"said_{number}": key for number, key in enumerate(evidence_keys)}
    rows = _newest(engine, models, [tables.verdict.c.evidence[key].label(label) for label, key in keys.items()])
    newest: dict[str, list[Verdict]] = {model: [] for model in models}
    for row in rows:
        evidence = {key: value for label, key in keys.items() if (value := row._mapping[label]) is not None}
        newest[row.model].append(verdict_of(row, evidence).as_of(now, patience=_patience()))
    return newest


def _patience() -> timedelta:
    return STALE_AFTER_WINDOWS * settings().window_length


def _newest(engine: Engine, models: Collection[str], more: Sequence[ColumnElement[Any]]) -> Sequence[Row[Any]]:
    """Read the newest verdict of each signal; two looks at the index for each, however long the history is."""
    if not models:
        return []
    table, signals = tables.verdict.c, _signals_of(models)
    newest = (
        select(*(column for column in table if column is not table.evidence), *more)
        .where(table.model == signals.c.model, table.signal == signals.c.signal)
        .order_by(table.window_end.desc(), table.window_start.desc())
        .limit(1)
        .lateral("newest")
    )
    query = select(newest).select_from(signals.join(newest, true())).order_by(newest.c.model, newest.c.signal)
    with database_errors("reading verdicts"), engine.connect() as on:
        return on.execute(query).all()


def _signals_of(models: Collection[str]) -> CTE:
    """Write the signals that were ever judged of some models, each found from the one before it by the index."""
    table = tables.verdict.c
    asked = func.unnest(literal(list(models), ARRAY(Text))).table_valued("model", name="asked").render_derived()
    first = select(func.min(table.signal)).where(table.model == asked.c.model).scalar_subquery()
    signals = select(asked.c.model, first.label("signal")).cte("signals", recursive=True)
    after = select(func.min(table.signal)).where(table.model == signals.c.model, table.signal > signals.c.signal)
    return signals.union_all(select(signals.c.model, after.scalar_subquery()).where(signals.c.signal.is_not(None)))


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
