"""Reads incidents; only the ledger opens and moves them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Exists, Select, and_, exists, func, or_, select
from sqlalchemy.sql import ColumnElement

from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import TERMINAL, Action, Cause, Incident, State
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors

_table = tables.incident
_terminal = [state.value for state in TERMINAL]


def incident_of(row: Any) -> Incident:
    """Read an incident from a row of its table."""
    values = dict(row._mapping)
    return Incident(
        **{
            **values,
            "state": State(values["state"]),
            "cause": Cause(values["cause"]) if values["cause"] else None,
            "action": Action(values["action"]) if values["action"] else None,
        }
    )


def all_incidents(on: Connection) -> list[Incident]:
    """Read every incident, oldest first."""
    return [incident_of(row) for row in on.execute(select(_table).order_by(_table.c.id))]


def incidents_of(on: Connection, model: str) -> list[Incident]:
    """Read every incident of a model, oldest first."""
    return [incident_of(row) for row in on.execute(select(_table).where(_table.c.model == model).order_by(_table.c.id))]


def count_incidents(on: Connection) -> dict[str, int]:
    """Count the incidents ever opened, by model."""
    rows = on.execute(select(_table.c.model, func.count().label("number")).group_by(_table.c.model))
    return {row.model: row.number for row in rows}


def open_incidents(on: Connection) -> Iterator[Incident]:
    """Read the open incidents without their evidence."""
    return _without_evidence(on, _table.c.state.not_in(_terminal))


def incidents_since(on: Connection, since: datetime) -> Iterator[Incident]:
    """Read the incidents that are open or ended since a time, newest first, without their evidence."""
    return _without_evidence(on, or_(_table.c.state.not_in(_terminal), _table.c.closed_at >= since))


def newest_incidents(on: Connection, model: str, *, limit: int) -> Iterator[Incident]:
    """Read a model's newest incidents, newest first, without their evidence."""
    return _without_evidence(on, _table.c.model == model, limit=limit)


def last_retrained(engine: Engine, model: str) -> datetime | None:
    """Read when the last retrained incident ended; one that a person resolved lets the loop start afresh at once."""
    event = tables.incident_event.c
    by_hand = select(event.incident_id).where(
        event.model == model,
        event.kind == EventKind.MOVED,
        event.state == State.RESOLVED,
        event.actor.startswith("cli:"),
    )
    query = select(func.max(_table.c.closed_at)).where(
        _table.c.model == model, _table.c.attempt > 0, _table.c.id.not_in(by_hand)
    )
    with database_errors("reading the last retrained incident"), engine.connect() as on:
        closed: datetime | None = on.scalar(query)
    return closed


def disturbed(model: ColumnElement[str], start: ColumnElement[datetime], end: ColumnElement[datetime]) -> Exists:
    """Give, for a query, whether an incident stood over a window, or the model was degraded in it."""
    return exists().where(
        _table.c.model == model,
        func.least(_table.c.degraded_since, _table.c.opened_at) < end,
        or_(_table.c.closed_at.is_(None), _table.c.closed_at > start),
    )


def troubled(model: ColumnElement[str], start: ColumnElement[datetime], end: ColumnElement[datetime]) -> Exists:
    """Give, for a query, whether an incident stood over a window that is open, or in which something was wrong.

    Something was wrong when the data was broken, the model got worse, it was rolled back, or a challenger was trained.
    A false alarm has no cause.
    """
    wrong = or_(
        _table.c.cause.in_([Cause.DATA_BREAK, Cause.QUALITY_LOSS, Cause.REGRESSION_AFTER_PROMOTION]),
        _table.c.state == State.ROLLED_BACK,
        _table.c.challenger_version.is_not(None),
    )
    return exists().where(
        _table.c.model == model,
        func.least(_table.c.degraded_since, _table.c.opened_at) < end,
        or_(_table.c.closed_at.is_(None), and_(_table.c.closed_at > start, wrong)),
    )


def stands_open(incident_id: ColumnElement[Any]) -> Exists:
    """Give, for a query, whether the incident of a number is open."""
    return exists().where(_table.c.id == incident_id, _table.c.state.not_in(_terminal))


def contenders() -> Select[Any]:
    """Give the query for `model` and `version` of the challengers of open incidents."""
    return select(_table.c.model, _table.c.challenger_version.label("version")).where(
        _table.c.state.not_in(_terminal), _table.c.challenger_version.is_not(None)
    )


def _without_evidence(on: Connection, which: ColumnElement[bool], *, limit: int | None = None) -> Iterator[Incident]:
    columns = [column for column in _table.c if column.name != "evidence"]
    return map(incident_of, on.execute(select(*columns).where(which).order_by(_table.c.id.desc()).limit(limit)))


LONGEST_RUN = timedelta(days=15)
"""A run of a DAG lasts no longer: a trainer is watched for fourteen days."""


def is_incident_of(db: Engine, incident_id: int, model: str) -> bool:
    """Say whether there is an incident with this number, and whether it is the model's."""
    query = select(exists().where(_table.c.id == incident_id, _table.c.model == model))
    with database_errors("reading an incident"), db.connect() as on:
        return bool(on.scalar(query))


def written_by(db: Engine, actor: str) -> int | None:
    """Read which incident a run that is under way wrote of last; None: it wrote of none."""
    event = tables.incident_event.c
    recent = select(_table.c.id).where(_table.c.updated_at > func.now() - LONGEST_RUN)
    query = select(event.incident_id).where(event.actor == actor, event.incident_id.in_(recent))
    with database_errors("reading the history"), db.connect() as on:
        newest: int | None = on.scalar(query.order_by(event.at.desc()).limit(1))
    return newest
