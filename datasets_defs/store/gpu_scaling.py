"""Capacity that was added for a time: one stay per model, moved by compare-and-set only."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Engine, func, select, update
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.store import tables
from datasets_defs.store.database import database_errors


class StayState(StrEnum):
    """Where a stay stands."""

    RISING = "rising"
    """Decided and paid for; whoever gives capacity has not confirmed it yet."""
    UP = "up"
    FALLING = "falling"
    """Over; whoever gives capacity has not confirmed it yet."""
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """One row of `gpu_scaling`."""

    id: int
    model: str
    key: str
    newest_key: str
    state: StayState
    before: int
    replicas: int
    gpus_per_replica: int
    target: dict[str, Any]
    begun_at: datetime
    changed_at: datetime
    until: datetime
    ended_at: datetime | None
    actor: str
    reason: str

    @property
    def gpus(self) -> int:
        """GPUs that it adds."""
        return max(0, self.replicas - self.before) * self.gpus_per_replica


def open_stay(on: Connection, model: str) -> Stay | None:
    """Read a model's stay that is not down again, and keep others from changing it until the transaction's end."""
    table = tables.gpu_scaling
    which = (table.c.model == model, table.c.state != StayState.DOWN)
    row = on.execute(select(table).where(*which).with_for_update()).one_or_none()
    return _stay(row) if row is not None else None


def stay_of(on: Connection, key: str) -> Stay | None:
    """Read the stay that a request began or changed last."""
    table = tables.gpu_scaling
    row = on.execute(select(table).where((table.c.key == key) | (table.c.newest_key == key))).first()
    return _stay(row) if row is not None else None


def last_change(on: Connection, model: str) -> datetime | None:
    """Read when a model's capacity was changed last."""
    table = tables.gpu_scaling
    at: datetime | None = on.scalar(select(func.max(table.c.changed_at)).where(table.c.model == model))
    return at


def begin_stay(on: Connection, **values: Any) -> Stay:
    """Write a new stay; a model has one at a time."""
    row = on.execute(insert(tables.gpu_scaling).values(state=StayState.RISING, **values).returning(tables.gpu_scaling))
    return _stay(row.one())


def change_stay(on: Connection, stay: Stay, **values: Any) -> Stay | None:
    """Change a stay that is still as it was read; None: it is not."""
    table = tables.gpu_scaling
    which = (
        table.c.id == stay.id, table.c.state == stay.state, table.c.newest_key == stay.newest_key,
        table.c.until == stay.until,
    )  # fmt: skip
    row = on.execute(update(table).where(*which).values(values).returning(table)).one_or_none()
    return _stay(row) if row is not None else None


def stays(db: Engine) -> dict[str, Stay]:
    """Read the stays that are not down again, by model.

    Raises:
        TransientError: PostgreSQL is away.
    """
    table = tables.gpu_scaling
    with database_errors("reading added capacity"), db.connect() as on:
        rows = on.execute(select(table).where(table.c.state != StayState.DOWN))
        return {row.model: _stay(row) for row in rows}


def _stay(row: Any) -> Stay:
    return Stay(**{**row._mapping, "state": StayState(row.state)})
