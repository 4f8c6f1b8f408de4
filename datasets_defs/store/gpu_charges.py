"""GPU-hours in PostgreSQL: what each training, job and addition of capacity takes from the fleet's budget, once."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.gpu_budget import WEEK_WINDOWS, Charge, GovernorDecision, bucket_level, may_spend
from datasets_defs.core.settings import settings
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """What the fleet pays."""

    key: str
    """Names it once and for all."""
    model: str
    seconds: float
    """How long it may take."""
    hours: float
    """GPU-hours of that time."""


def charge(on: Connection, of: Charged, now: datetime | None = None, *, at_any_price: bool = False) -> GovernorDecision:
    """Take GPU-hours from the budget within a transaction; what was charged stands charged.

    All who ask come one after another here, from this call to the transaction's end. `now` is the
    database's clock unless given; one that was set back gives nothing back. With `at_any_price` what the fleet cannot
    pay is taken all the same, and counts.
    """
    table = tables.gpu_charge
    on.execute(text("SELECT pg_advisory_xact_lock(hashtext('driftloop gpu hours'))"))
    charges = _charges(on)
    if on.scalar(select(table.c.key).where(table.c.key == of.key)) is not None:
        return GovernorDecision(go=True, reason=f"{of.key} is charged already")
    at: datetime = now or on.execute(select(func.clock_timestamp())).scalar_one()
    if charges and charges[-1].at > at:
        at = charges[-1].at
    decision = may_spend(of.hours, charges, now=at, capacity=settings().gpu_hours_per_week, refill=_refill())
    if decision.go or at_any_price:
        on.execute(insert(table).values(key=of.key, model=of.model, at=at, gpu_hours=of.hours))
    return decision


def settle(db: Engine, of: Charged, seconds: float) -> None:
    """Replace what was set aside by what it used, at most what was set aside; the first time counts."""
    table = tables.gpu_charge
    used = func.least(table.c.gpu_hours, of.hours * seconds / of.seconds)
    with database_errors("settling GPU-hours"), db.begin() as on:
        on.execute(update(table).where(table.c.key == of.key, ~table.c.settled).values(gpu_hours=used, settled=True))


def charged_hours(db: Engine, key: str) -> float | None:
    """Read what was taken under a key; None: nothing was."""
    with database_errors("reading the GPU-hours' budget"), db.connect() as on:
        hours: float | None = on.scalar(select(tables.gpu_charge.c.gpu_hours).where(tables.gpu_charge.c.key == key))
    return hours


def level(db: Engine, now: datetime) -> float | None:
    """Read how many GPU-hours are left now; None: no limit is set."""
    capacity = settings().gpu_hours_per_week
    if capacity is None:
        return None
    with database_errors("reading the GPU-hours' budget"), db.connect() as on:
        return bucket_level(_charges(on), now, capacity, _refill().total_seconds())


def _charges(on: Connection) -> list[Charge]:
    table = tables.gpu_charge.c
    rows = on.execute(select(table.at, table.gpu_hours).order_by(table.at, table.key))
    return [Charge(row.at, row.gpu_hours) for row in rows]


def _refill() -> timedelta:
    return WEEK_WINDOWS * settings().window_length
