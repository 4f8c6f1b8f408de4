"""Pauses: models that the loop only watches and tells of, until a time, because a person said so."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from datasets_defs import tables
from datasets_defs.database import database_errors
from datasets_defs.errors import ContractError
from datasets_defs.history import clean_text

if TYPE_CHECKING:
    from datasets_defs.ledger import Ledger

LONGEST = timedelta(days=90)
"""A longer pause is a model that nobody wants to keep good: take its file away instead."""


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


def pause(ledger: "Ledger", model: str, *, lasting: timedelta, actor: str, reason: str) -> Pause:
    """Pause a model from now on; a pause that lasts is replaced.

    Once this returns no step is begun any more; one that was begun before it finishes.

    Raises:
        ContractError: it would last for no time, or for more than `LONGEST`.
    """
    if not timedelta() < lasting <= LONGEST:
        raise ContractError(f"a pause of {lasting} was asked for; it may last up to {LONGEST.days} days")
    table = tables.pause
    with ledger.transaction() as on:
        ledger.open_of(model, connection=on, lock=True)  # a claim under way comes first, and stands
        values = {
            "reason": clean_text(reason),
            "actor": actor,
            "since": func.clock_timestamp(),
            "until": func.clock_timestamp() + lasting,
        }
        row = on.execute(
            insert(table)
            .values(model=model, **values)
            .on_conflict_do_update(index_elements=[table.c.model], set_=values)
            .returning(table)
        ).one()
        found = Pause(**row._mapping)
        said = f"paused until {found.until:%Y-%m-%d %H:%M}Z: {found.reason}"
        ledger.note(model, "paused", said, {"until": found.until.isoformat()}, actor=actor, connection=on)
    return found


def resume(ledger: "Ledger", model: str, *, actor: str, reason: str) -> bool:
    """End a pause; says whether one lasted. What is due then, `reconcile` rings within its period."""
    with ledger.transaction() as on:
        lasted = pause_in(on, model) is not None
        on.execute(delete(tables.pause).where(tables.pause.c.model == model))
        if lasted:
            ledger.note(model, "resumed", reason, {}, actor=actor, connection=on)
    return lasted


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
