"""Pauses: models that the loop only watches and tells of, until a time, because a person said so."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, func, select

from datasets_defs.store import tables
from datasets_defs.store.database import database_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """One row of `pause`, while it lasts."""

    model: str
    reason: str
    actor: str
    since: datetime
    until: datetime

    def __str__(self) -> str:
        return f"{self.model} is paused until {self.until:%Y-%m-%d %H:%M}Z by {self.actor}: {self.reason}"


def pause_of(db: Engine, model: str, now: datetime) -> Pause | None:
    """Read the pause of a model that lasts at a time; None: the loop acts.

    Raises:
        TransientError: PostgreSQL is away.
    """
    return pauses(db, now).get(model)


def pauses(db: Engine, now: datetime) -> dict[str, Pause]:
    """Read all pauses that last at a time, by model.

    Raises:
        TransientError: PostgreSQL is away.
    """
    table = tables.pause
    query = select(table).where(table.c.since <= now, table.c.until > now)
    with database_errors("reading pauses"), db.connect() as on:
        return {row.model: Pause(**row._mapping) for row in on.execute(query)}


def pause_in(on: Connection, model: str) -> Pause | None:
    """Read the pause of a model that lasts now, by the database's clock, within a transaction."""
    table, now = tables.pause, func.clock_timestamp()
    row = on.execute(
        select(table).where(table.c.model == model, table.c.since <= now, table.c.until > now)
    ).one_or_none()
    return Pause(**row._mapping) if row is not None else None
