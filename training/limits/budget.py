"""The fleet's budget of GPU-hours in PostgreSQL: what each training attempt takes from it, once."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.incidents import Incident
from datasets_defs.core.settings import settings
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors
from training.limits.governor import WEEK_WINDOWS, Charge, GovernorDecision, bucket_level, may_spend


def charge(on: Connection, incident: Incident, spec: ModelSpec, now: datetime | None = None) -> GovernorDecision:
    """Take an attempt's GPU-hours from the budget within a transaction; an attempt that was charged stands charged.

    Trainings of all models come one after another here, from this call to the transaction's end. `now` is the
    database's clock unless given; one that was set back gives nothing back.
    """
    table, key = tables.gpu_charge, charge_key(incident)
    on.execute(text("SELECT pg_advisory_xact_lock(hashtext('driftloop gpu hours'))"))
    charges = _charges(on)
    if on.scalar(select(table.c.key).where(table.c.key == key)) is not None:
        return GovernorDecision(go=True, reason=f"attempt {incident.attempt} is charged already")
    at: datetime = now or on.execute(select(func.clock_timestamp())).scalar_one()
    if charges and charges[-1].at > at:
        at = charges[-1].at
    hours = gpu_hours(spec, spec.retrain.max_seconds)
    decision = may_spend(hours, charges, now=at, capacity=settings().gpu_hours_per_week, refill=_refill())
    if decision.go:
        on.execute(insert(table).values(key=key, model=incident.model, at=at, gpu_hours=hours))
    return decision


def settle(db: Engine, incident: Incident, spec: ModelSpec, seconds: float) -> None:
    """Replace what was set aside for an attempt by what it used, at most what was set aside; the first time counts."""
    table = tables.gpu_charge
    used = func.least(table.c.gpu_hours, gpu_hours(spec, seconds))
    with database_errors("settling a training's GPU-hours"), db.begin() as on:
        on.execute(
            update(table)
            .where(table.c.key == charge_key(incident), ~table.c.settled)
            .values(gpu_hours=used, settled=True)
        )


def level(db: Engine, now: datetime) -> float | None:
    """Read how many GPU-hours are left now; None: no limit is set."""
    capacity = settings().gpu_hours_per_week
    if capacity is None:
        return None
    with database_errors("reading the GPU-hours' budget"), db.connect() as on:
        return bucket_level(_charges(on), now, capacity, _refill().total_seconds())


def charge_key(incident: Incident) -> str:
    """Name an attempt: `model|incident|attempt`."""
    return f"{incident.model}|{incident.id}|{incident.attempt}"


def gpu_hours(spec: ModelSpec, seconds: float) -> float:
    """Give the GPU-hours of a training of so many seconds, on one GPU at least."""
    return seconds / 3600 * max(1, spec.gpus, spec.retrain.min_free_gpus)


def _charges(on: Connection) -> list[Charge]:
    table = tables.gpu_charge.c
    rows = on.execute(select(table.at, table.gpu_hours).order_by(table.at, table.key))
    return [Charge(row.at, row.gpu_hours) for row in rows]


def _refill() -> timedelta:
    return WEEK_WINDOWS * settings().window_length
