"""Finding work that is due and that nobody is doing, and mending what only mirrors the ledger."""

import logging
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from datasets_defs.conditions import RingKey
from datasets_defs.errors import ContractError, DriftloopError
from datasets_defs.incidents import Incident, State, Wake, due
from datasets_defs.ledger import Ledger
from datasets_defs.models import model_names
from datasets_defs.records import beat
from datasets_defs.settings import settings

log = logging.getLogger(__name__)
_CONTENDING = (State.RETRAINING, State.EVALUATING, State.APPROVING, State.PROMOTING)
"""States in which an incident's challenger contends; afterwards it is champion, or out."""
MAX_RUNS = 5
"""Runs of one step that came to nothing, each with its own retries, before a person is called."""


def mend_and_find(*, db: Engine, actor: str, now: datetime) -> dict[Wake, list[RingKey]]:
    """Mend what mirrors the ledger, then give fresh keys for the wake-ups that are due."""
    mend(db=db, actor=actor, now=now)
    return rings_due(db=db, actor=actor, now=now)


def rings_due(*, db: Engine, actor: str, now: datetime) -> dict[Wake, list[RingKey]]:
    """Make fresh wake-ups for the incidents that need one.

    A step that `MAX_RUNS` runs began without getting on is not begun again: its incident is escalated. The retries of
    one run count once, so that a peer which is away for some minutes calls nobody.
    """
    ledger = Ledger(db)
    patience = timedelta(seconds=settings().reconcile_interval_seconds)
    rings: dict[Wake, list[RingKey]] = {wake: [] for wake in Wake}
    for incident in ledger.open_incidents():
        work = due(incident, now, patience)
        if work is None:
            continue
        runs = _runs_since_progress(ledger, incident)
        if runs < MAX_RUNS:
            rings[work.wake].append(ledger.ring(incident.id))
            continue
        reason = f"{incident.state} was begun by {runs} runs and never finished; a person has to look"
        try:
            ledger.move(incident, State.ESCALATED, actor=actor, reason=reason)
        except ContractError as err:  # it got on meanwhile; the others' rings must not be lost for it
            log.info("%s", err)
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
                    challenger=incident.challenger_version if incident and incident.state in _CONTENDING else None,
                )
            done[model] = "an unanswered approval ran out" if expired else "in line"
        except DriftloopError as err:  # one model's trouble is not the others'
            done[model] = str(err)
    beat(db, "reconcile", done)
    return done


def _runs_since_progress(ledger: Ledger, incident: Incident) -> int:
    runs = set()
    for event in reversed(ledger.events(incident.model, incident_id=incident.id)):
        if event.kind == "claimed":
            runs.add(event.actor)
        elif event.kind == "moved" and event.state in (State.RETRAINING, State.EVALUATING, State.PROMOTING):
            return len(runs | {event.actor})
        elif event.kind in ("moved", "progress"):
            break
    return len(runs)
