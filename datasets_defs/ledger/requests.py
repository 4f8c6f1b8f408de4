"""Which incident a run of a DAG is about, whether an event woke it or a person triggered it."""

from datetime import UTC, datetime

from sqlalchemy import Engine

from datasets_defs.core.conditions import RingKey
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import Wake
from datasets_defs.core.requests import Request, chosen, key_said
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store.incidents import is_incident_of, written_by


def key_of(request: Request, wake: Wake | None, *, db: Engine, actor: str) -> RingKey | str:
    """Give the key of a run's incident; a sentence where there is nothing to do.

    Without an event's key it is the incident that this run has begun with, or else the oldest whose step is due. Who
    asked is noted in the history before anything is done. Without a `wake` no incident is taken up anew.

    Raises:
        TransientError: PostgreSQL is away.
    """
    ledger = Ledger(db)
    if request.key is not None:
        key = key_said(request.key)
        if isinstance(key, RingKey) and not is_incident_of(db, key.incident_id, key.model):
            return f"partition key {request.key!r}: {key.model} has no incident {key.incident_id}; nothing is done"
        return key
    begun = written_by(db, actor)
    if begun is not None:
        return ledger.ring(begun)
    if wake is None:
        return "this run took up no incident, so there is nothing to do after it"
    incident = chosen(wake, request, ledger.open_incidents(), datetime.now(UTC))
    if isinstance(incident, str):
        return incident
    reason = f"asked for by {request.who}: {request.reason}"
    ledger.note(incident.model, EventKind.NOTE, reason, {"by": request.who}, actor=actor, incident=incident)
    return ledger.ring(incident.id)
