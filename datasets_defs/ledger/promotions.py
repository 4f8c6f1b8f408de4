"""Reads the changes of champion; only `Champions` makes them."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, func, select, true
from sqlalchemy.sql import ColumnElement

from datasets_defs.store import tables
from datasets_defs.store.database import database_errors
from datasets_defs.store.evaluations import judged_in

_table = tables.promotion


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionChange:
    """One row of `promotion`."""

    model: str
    incident_id: int | None
    kind: str
    """`bootstrap`, `promote`, `roll_back`, `revert`, `drill` or `drill_end`."""
    from_version: int | None
    to_version: int
    token: int
    """Champion token that the change set; within a model they are in order."""
    reason: str
    actor: str
    at: datetime
    confirmed_at: datetime | None
    """When serving reported the version."""

    @property
    def is_confirmed(self) -> bool:
        """Whether serving reported the version."""
        return self.confirmed_at is not None


_columns = [_table.c[field.name] for field in fields(ChampionChange)]


def change_with(engine: Engine, model: str, token: int) -> ChampionChange | None:
    """Read the change that set a champion token; None if it is not recorded."""
    changes = _read(engine, _table.c.model == model, _table.c.token == token)
    return changes[0] if changes else None


def changes_of(engine: Engine, model: str) -> list[ChampionChange]:
    """Read a model's changes, oldest first."""
    return _read(engine, _table.c.model == model)


def is_made_by(engine: Engine, model: str, reason: str) -> bool:
    """Say whether a change of a model's champion was made for this very reason, and confirmed by serving."""
    return any(change.is_confirmed for change in _read(engine, _table.c.model == model, _table.c.reason == reason))


def changes_of_version(engine: Engine, model: str, version: int) -> list[ChampionChange]:
    """Read the changes to and from a version, oldest first."""
    return _read(engine, _table.c.model == model, (_table.c.to_version == version) | (_table.c.from_version == version))


def changes_of_incident(engine: Engine, incident_id: int) -> list[ChampionChange]:
    """Read the changes that an incident brought, oldest first."""
    return _read(engine, _table.c.incident_id == incident_id)


def all_changes(on: Connection) -> list[ChampionChange]:
    """Read every change, in the order in which they were made."""
    return [ChampionChange(**row._mapping) for row in on.execute(select(*_columns).order_by(_table.c.id))]


def count_changes(on: Connection) -> dict[tuple[str, str], int]:
    """Count the changes ever made, by model and kind."""
    query = select(_table.c.model, _table.c.kind, func.count().label("number")).group_by(_table.c.model, _table.c.kind)
    return {(row.model, row.kind): row.number for row in on.execute(query)}


def changes_with_grounds(
    on: Connection, *, model: str | None = None, since: datetime | None = None, limit: int | None = None
) -> Iterator[Any]:
    """Read changes, newest first, each with the evaluation and the reference of its version.

    Beside the columns of a change: `decision`, `gate_reason`, `scores` and `rows_sha256` of the evaluation, `source`
    and `reference_sha256` of the reference.
    """
    reference = tables.reference_profile.c
    evaluated = judged_in(_table.c.incident_id, _table.c.to_version)
    query = (
        select(
            *_columns,
            evaluated.c.decision,
            evaluated.c.reason.label("gate_reason"),
            evaluated.c.scores,
            evaluated.c.rows_sha256,
            reference.source,
            reference.sha256.label("reference_sha256"),
        )
        .select_from(
            _table.outerjoin(evaluated, true()).outerjoin(
                tables.reference_profile,
                (reference.model == _table.c.model) & (reference.version == _table.c.to_version),
            )
        )
        .where(true() if model is None else _table.c.model == model)
        .where(true() if since is None else _table.c.at >= since)
        .order_by(_table.c.at.desc(), _table.c.token.desc())
        .limit(limit)
    )
    return iter(on.execute(query))


def _read(engine: Engine, *which: ColumnElement[bool]) -> list[ChampionChange]:
    query = select(*_columns).where(*which).order_by(_table.c.model, _table.c.token)
    with database_errors("reading the promotions"), engine.connect() as on:
        return [ChampionChange(**row._mapping) for row in on.execute(query)]
