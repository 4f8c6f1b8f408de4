"""Asking for more serving capacity: a webhook of the user's, or a person."""

from datetime import UTC, datetime

import httpx
from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome, RingKey
from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.incidents import Action, State
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.pauses import pause_of
from datasets_defs.spec.files import spec_of

PATIENCE_WINDOWS = 3
"""Windows to wait for the asked capacity before triage looks again."""


def scale_gpu(key: str, *, db: Engine, actor: str) -> Outcome:
    """Ask for capacity once per wake-up; the wake-up's key is the webhook's Idempotency-Key.

    Raises:
        TransientError: the webhook is away or overloaded.
        ContractError: the key or the spec is wrong.
    """
    ring = RingKey.parse(key)
    ledger = Ledger(db)
    incident = ledger.incident(ring.incident_id)
    if incident.state is not State.OPEN:
        return Outcome(f"incident {incident.id} is {incident.state}; no capacity is asked for")
    if incident.action not in (None, Action.SCALE):
        return Outcome(f"incident {incident.id}: triage says {incident.action}, no longer scale")
    if (paused := pause_of(db, incident.model, datetime.now(UTC))) is not None:
        return Outcome(str(paused))
    spec = spec_of(incident.model)
    again = datetime.now(UTC) + spec.window_count(PATIENCE_WINDOWS)
    if spec.scale.webhook is None:
        reason = f"{incident.model} needs more GPU capacity and its spec names no scale.webhook: a person has to add it"
        ledger.move(incident, State.ESCALATED, actor=actor, reason=reason, evidence=incident.evidence)
        return Outcome(reason)
    content = {"model": incident.model, "incident": incident.id, "evidence": incident.evidence}
    try:
        _post(spec.scale.webhook, key, content)
    except ContractError as err:
        ledger.move(incident, State.ESCALATED, actor=actor, reason=f"{err}: a person has to add capacity")
        return Outcome(str(err))
    reason = f"asked {httpx.URL(spec.scale.webhook).host} for more capacity; triage looks again at {again:%H:%M:%S}Z"
    ledger.move(incident, incident.state, actor=actor, reason=reason, not_before=again)
    return Outcome(reason)


def _post(url: str, key: str, content: dict[str, object]) -> None:
    try:
        answer = httpx.post(url, json=content, headers={"Idempotency-Key": key}, timeout=30)
    except httpx.TransportError as err:
        raise TransientError(f"scale.webhook {url} is not reachable: {err}") from err
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error:
        raise TransientError(f"scale.webhook {url} answered {answer.status_code}; will be asked again")
    if not answer.is_success:
        raise ContractError(f"scale.webhook {url} refused with {answer.status_code}: {answer.text[:200]}")
