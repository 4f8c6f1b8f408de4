"""The fleet's budget of GPU-hours in PostgreSQL: what each training takes from it, once, whoever asked for it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from sqlalchemy import Connection, Engine, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import Incident
from datasets_defs.core.settings import settings
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors
from training.limits.governor import WEEK_WINDOWS, Charge, GovernorDecision, bucket_level, may_spend


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """A training that the fleet pays."""

    key: str
    """Names it once and for all."""
    model: str
    seconds: float
    """How long it may take."""
    hours: float
    """GPU-hours of that time."""

    @classmethod
    def attempt(cls, incident: Incident, spec: ModelSpec) -> Self:
        """Give the training of an incident's attempt; its key is `model|incident|attempt`."""
        return cls.of(f"{incident.model}|{incident.id}|{incident.attempt}", spec, spec.retrain.max_seconds)

    @classmethod
    def of(cls, key: str, spec: ModelSpec, seconds: float) -> Self:
        """Give a training of so many seconds."""
        return cls(key=key, model=spec.name, seconds=seconds, hours=gpu_hours(spec, seconds))


def charge(on: Connection, of: Charged, now: datetime | None = None, *, at_any_price: bool = False) -> GovernorDecision:
    """Take a training's GPU-hours from the budget within a transaction; one that was charged stands charged.

    Trainings of all models come one after another here, from this call to the transaction's end. `now` is the
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


def charge_by_hand(db: Engine, of: Charged, *, at_any_price: bool = False) -> None:
    """Take the GPU-hours of a training that a person asked for.

    Raises:
        ContractError: the fleet cannot pay it now; says when it can.
        TransientError: PostgreSQL is away.
    """
    with database_errors("taking GPU-hours from the budget"), db.begin() as on:
        decision = charge(on, of, at_any_price=at_any_price)
    if not decision.go and not at_any_price:
        when = f", or wait until {decision.not_before:%Y-%m-%d %H:%M}Z" if decision.not_before is not None else ""
        raise ContractError(f"{decision.reason}; raise DRIFTLOOP_GPU_HOURS_PER_WEEK{when}")


def settle(db: Engine, of: Charged, seconds: float) -> None:
    """Replace what was set aside for a training by what it used, at most what was set aside; the first time counts."""
    table = tables.gpu_charge
    used = func.least(table.c.gpu_hours, of.hours * seconds / of.seconds)
    with database_errors("settling a training's GPU-hours"), db.begin() as on:
        on.execute(update(table).where(table.c.key == of.key, ~table.c.settled).values(gpu_hours=used, settled=True))


def level(db: Engine, now: datetime) -> float | None:
    """Read how many GPU-hours are left now; None: no limit is set."""
    capacity = settings().gpu_hours_per_week
    if capacity is None:
        return None
    with database_errors("reading the GPU-hours' budget"), db.connect() as on:
        return bucket_level(_charges(on), now, capacity, _refill().total_seconds())


def gpu_hours(spec: ModelSpec, seconds: float) -> float:
    """Give the GPU-hours of a training of so many seconds, on one GPU at least."""
    return seconds / 3600 * max(1, spec.gpus, spec.retrain.min_free_gpus)


def _charges(on: Connection) -> list[Charge]:
    table = tables.gpu_charge.c
    rows = on.execute(select(table.at, table.gpu_hours).order_by(table.at, table.key))
    return [Charge(row.at, row.gpu_hours) for row in rows]


def _refill() -> timedelta:
    return WEEK_WINDOWS * settings().window_length
