"""The page's queries for verdicts: the newest of each signal, those of the windows shown, and the latest report."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, Text, case, column, false, func, select, true, values

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.settings import settings
from datasets_defs.store import tables
from datasets_defs.store.verdicts import STALE_AFTER_WINDOWS, verdict_of
from ops.page.state import NOW_AND_THEN, WORST_FIRST, ReportLink

BySignal = dict[str, dict[str, Verdict]]
"""Verdicts by model and signal."""
ByWindow = dict[str, dict[datetime, Condition | None]]
"""Conditions by model and the end of the window."""
_verdict = tables.verdict.c
_waits = func.coalesce(_verdict.evidence["waits"].as_boolean(), false())
_light = (
    _verdict.model, _verdict.signal, _verdict.window_start, _verdict.window_end, _verdict.condition, _verdict.reason,
    _verdict.method, _verdict.score, _verdict.limit, _verdict.champion_version, _waits.label("waits"),
)  # fmt: skip
"""A verdict without its evidence, which can be long."""


def newest_verdicts(on: Connection, expected: Mapping[str, Sequence[str]], now: datetime) -> BySignal:
    """Read the newest verdict of each expected signal, however old: one look-up in the index for each, in one query."""
    pairs = [(model, signal) for model, signals in expected.items() for signal in (*signals, *NOW_AND_THEN)]
    if not pairs:
        return {}
    asked = values(column("model", Text), column("signal", Text), name="asked").data(pairs)
    newest = (
        select(*_light)
        .where(_verdict.model == asked.c.model, _verdict.signal == asked.c.signal)
        .order_by(_verdict.window_end.desc(), _verdict.window_start.desc())
        .limit(1)
        .lateral("newest")
    )
    patience = STALE_AFTER_WINDOWS * settings().window_length
    by_model: BySignal = {}
    for row in on.execute(select(newest).select_from(asked.join(newest, true()))):
        verdict = verdict_of(row, {"waits": row.waits}).as_of(now, patience=patience)
        if not (verdict.signal in NOW_AND_THEN and verdict.condition is Condition.STALE):
            by_model.setdefault(verdict.model, {})[verdict.signal] = verdict
    return {
        model: dict(sorted(signals.items(), key=lambda item: _order(item[0]))) for model, signals in by_model.items()
    }


def _order(signal: str) -> tuple[int, str]:
    """Give the order in which signals are shown: data, drift and loss first, what is looked at now and then last."""
    first = ("data", "drift", "loss")
    return (first.index(signal) if signal in first else 9 if signal in NOW_AND_THEN else 5, signal)


def verdicts_since(on: Connection, model: str, since: datetime) -> Iterator[Verdict]:
    """Read the verdicts on a model's windows that ended after a time, oldest first, without their evidence."""
    query = select(*_light).where(_verdict.model == model, _verdict.window_end > since).order_by(_verdict.window_end)
    return (verdict_of(row, {"waits": row.waits}) for row in on.execute(query))


def worst_by_window(on: Connection, models: Sequence[str], since: datetime) -> ByWindow:
    """Read the worst condition of each window by model; None where all that was judged only waits."""
    rank = case(
        *((_verdict.condition == condition.value, place) for place, condition in enumerate(WORST_FIRST)), else_=None
    )
    query = (
        select(_verdict.model, _verdict.window_end, func.min(rank).filter(~_waits).label("rank"))
        .where(_verdict.model.in_(models), _verdict.window_end > since, _verdict.signal.not_in(NOW_AND_THEN))
        .group_by(_verdict.model, _verdict.window_end)
    )
    by_model: ByWindow = {}
    for row in on.execute(query):
        by_model.setdefault(row.model, {})[row.window_end] = None if row.rank is None else WORST_FIRST[row.rank]
    return by_model


def report_of(on: Connection, model: str) -> ReportLink | None:
    """Read where the model's latest drift report is; None: there is none."""
    link = _verdict.evidence["report_html"].as_string()
    query = (
        select(_verdict.window_end, _verdict.reason, link.label("url"))
        .where(_verdict.model == model, _verdict.signal == "drift_report", link.is_not(None))
        .order_by(_verdict.window_end.desc())
        .limit(1)
    )
    row = on.execute(query).one_or_none()
    return ReportLink(window_end=row.window_end, reason=row.reason, url=row.url) if row is not None else None
