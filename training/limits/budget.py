"""What trainings take from the fleet's budget of GPU-hours, whoever asked for them."""

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import SCHEDULED, Incident
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.database import database_errors
from datasets_defs.store.gpu_charges import Charged, charge


def of_attempt(incident: Incident, spec: ModelSpec) -> Charged:
    """Give the training of an incident's attempt; its key is `model|incident|attempt`.

    One that a schedule asked for may try several settings, and pays for all of them.
    """
    seconds = spec.longest_seconds if incident.signal == SCHEDULED else spec.retrain.max_seconds
    return of_training(f"{incident.model}|{incident.id}|{incident.attempt}", spec, seconds)


def of_training(key: str, spec: ModelSpec, seconds: float) -> Charged:
    """Give a training of so many seconds."""
    return Charged(key=key, model=spec.name, seconds=seconds, hours=gpu_hours(spec, seconds))


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


def gpu_hours(spec: ModelSpec, seconds: float) -> float:
    """Give the GPU-hours of a training of so many seconds, on one GPU at least."""
    return seconds / 3600 * max(1, spec.gpus, spec.retrain.min_free_gpus)
