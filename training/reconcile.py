"""Finding work that is due and that nobody is doing, and mending what only mirrors the ledger."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from datasets_defs.conditions import RingKey
from datasets_defs.errors import DriftloopError
from datasets_defs.incidents import State, Wake, due
from datasets_defs.ledger import Ledger
from datasets_defs.models import model_names
from datasets_defs.records import beat
from datasets_defs.settings import settings

MAX_CLAIMS = 5
"""Claims of one step that came to nothing before a person is called."""


def mend_and_find(*, db: Engine, actor: str, now: datetime) -> dict[Wake, list[RingKey]]:
    """Mend what mirrors the ledger, then give fresh keys for the wake-ups that are due."""
    mend(db=db, actor=actor, now=now)
    return rings_due(db=db, actor=actor, now=now)


def rings_due(*, db: Engine, actor: str, now: datetime) -> dict[Wake, list[RingKey]]:
    """Make fresh wake-ups for the incidents that need one.

    A step that was begun `MAX_CLAIMS` times without getting on is not begun again: its incident is escalated.
    """
    ledger = Ledger(db)
    patience = timedelta(seconds=settings().reconcile_interval_seconds)
    rings: dict[Wake, list[RingKey]] = {wake: [] for wake in Wake}
    for incident in ledger.open_incidents():
        work = due(incident, now, patience)
        if work is None:
            continue
        claims = _claims_since_last_move(ledger, incident.model, incident.id)
        if claims >= MAX_CLAIMS:
            reason = f"{incident.state} was begun {claims} times and never finished; a person has to look"
            ledger.move(incident, State.ESCALATED, actor=actor, reason=reason)
            continue
        rings[work.wake].append(ledger.ring(incident.id))
    return rings


def mend(*, db: Engine, actor: str, now: datetime) -> dict[str, Any]:
    """Bring the registry's aliases in line with the ledger and let unanswered approvals run out, model by model."""
    from training.approval import expire
    from training.registry import Registry

    registry = Registry(settings().mlflow_url)
    ledger = Ledger(db)
    done: dict[str, Any] = {}
    for model in model_names():
        try:
            expired = expire(model, now=now, db=db, actor=actor)
            champion = ledger.champion(model)
            incident = ledger.open_of(model)
            if champion is not None:
                registry.sync_aliases(
                    model,
                    champion=champion.version,
                    previous=champion.previous_version,
                    challenger=incident.challenger_version if incident else None,
                )
            done[model] = "an unanswered approval ran out" if expired else "in line"
        except DriftloopError as err:  # one model's trouble is not the others'
            done[model] = str(err)
    beat(db, "reconcile", done)
    return done


def _claims_since_last_move(ledger: Ledger, model: str, incident_id: int) -> int:
    claims = 0
    for event in reversed(ledger.events(model, incident_id=incident_id)):
        if event.kind == "claimed":
            claims += 1
        elif event.kind == "moved":
            return claims + (event.state in (State.RETRAINING, State.EVALUATING, State.PROMOTING))
    return claims
