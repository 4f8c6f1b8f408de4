"""More serving capacity: by the loop itself for a time, by a webhook of the user's, or by a person."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from sqlalchemy import Engine

from datasets_defs.core.conditions import About, Condition, Outcome, RingKey
from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.incidents import Action, Incident, State
from datasets_defs.core.requests import Request
from datasets_defs.core.settings import settings
from datasets_defs.fleet import for_each
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.pauses import pause_of
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.scaling import ScaleByPerson, ScaleByWebhook, Scaler
from datasets_defs.store.gpu_scaling import stays
from monitors.scaling.decision import ScaleDecision, ScaleEvidence, not_known_bad
from monitors.scaling.stays import CapacityRequest, go_up
from monitors.scaling.stays import come_down as down
from monitors.verdicts.conclude import judged_window
from monitors.verdicts.newest import NewestVerdicts

PATIENCE_WINDOWS = 3
"""Windows to wait for the asked capacity before triage looks again."""
_CALLS = (About.CAPACITY, About.MACHINES)


def scale_gpu(key: str, *, db: Engine, actor: str, now: datetime | None = None) -> Outcome:
    """Add capacity, or ask for it, once per wake-up; the wake-up's key is the webhook's Idempotency-Key.

    Raises:
        TransientError: who gives capacity is away or overloaded.
        ContractError: the key or the spec is wrong.
    """
    ring, at = RingKey.parse(key), now or datetime.now(UTC)
    ledger = Ledger(db)
    incident = ledger.incident(ring.incident_id)
    if incident.state is not State.OPEN:
        return Outcome(f"incident {incident.id} is {incident.state}; no capacity is asked for")
    if incident.action not in (None, Action.SCALE):
        return Outcome(f"incident {incident.id}: triage says {incident.action}, no longer scale")
    if (paused := pause_of(db, incident.model, datetime.now(UTC))) is not None:
        return Outcome(str(paused))
    spec = spec_of(incident.model)
    conditions = _conditions(db, incident, spec, at)
    if (reason := not_known_bad(conditions)) is not None:
        return _later(ledger, incident, reason, at + spec.window_count(1), actor=actor)
    match spec.scale:
        case ScaleByPerson():
            reason = f"{incident.model} needs more GPU capacity and its spec names no `scale`: a person has to add it"
            ledger.move(incident, State.ESCALATED, actor=actor, reason=reason, evidence=incident.evidence)
            return Outcome(reason)
        case ScaleByWebhook(webhook=url):
            return _ask(ledger, incident, spec, url, key, at, actor=actor)
        case scaler:
            evidence = ScaleEvidence(
                now=at, present=None, stay=None, last_change=None, conditions=conditions,
                window=settings().window_length,
            )  # fmt: skip
            return _scale(ledger, incident, spec, scaler, key, evidence, actor=actor)


def scale_in_form(asked: Request, form: Mapping[str, Any] | None, *, key: str, db: Engine) -> str | None:
    """Do what a person chose in the DAG's form, once for each run; None where they chose no number of GPUs.

    Raises:
        ContractError: no model is chosen, or it cannot be done; says why.
        TransientError: PostgreSQL or who gives capacity is away.
    """
    chosen = form or {}
    if asked.key is not None or chosen.get("gpu_count") is None:
        return None
    if asked.model is None:
        raise ContractError("a number of GPUs is chosen and no model; choose a model, too")
    decision = scale_by_hand(
        asked.model, db=db, actor=asked.who, reason=asked.reason, gpus=int(chosen["gpu_count"]),
        lasting=timedelta(hours=float(chosen["hours"])), key=f"{asked.model}|{key}",
    )  # fmt: skip
    if not decision.go:
        raise ContractError(f"{asked.model}: {decision.reason}")
    return decision.reason


def scale_by_hand(
    model: str, *, db: Engine, actor: str, reason: str, gpus: int, lasting: timedelta, key: str
) -> ScaleDecision:
    """Have so many GPUs serve a model for a time, as a person asks; bounds and budget hold for people, too.

    What one `key` asks for is done, and paid for, once.

    Raises:
        ContractError: the YAML names nobody that the loop scales by, or who gives capacity refuses.
        TransientError: PostgreSQL or who gives capacity is away.
    """
    at, spec = datetime.now(UTC), spec_of(model)
    if isinstance(spec.scale, ScaleByPerson | ScaleByWebhook):
        raise ContractError(
            f"{model}: scale.kind is {spec.scale.kind!r}, by which the loop sets nothing; "
            f"choose kubernetes, command or metric in models/{model}.yaml"
        )
    evidence = ScaleEvidence(
        now=at, present=None, stay=None, last_change=None, by_hand=True, gpus=gpus, lasting=lasting
    )
    asked = CapacityRequest(model=model, key=f"{model}|by-hand|{key}", actor=actor, why=reason)
    return go_up(Ledger(db), asked, spec.scale, evidence)


def come_down(*, db: Engine, actor: str, now: datetime) -> dict[str, str]:
    """Finish every change of capacity that was cut short, and take down what is over; one model stops no other.

    Raises:
        DriftloopError: it failed for some model; the next run tries it again.
    """
    ledger, known = Ledger(db), stays(db)
    done = for_each(sorted(known), lambda model: down(ledger, model, now=now, actor=actor))
    for failure in done.failures.values():
        raise failure
    return dict(done.outcomes)


def _conditions(db: Engine, incident: Incident, spec: ModelSpec, now: datetime) -> dict[str, Condition]:
    """Read how the signals stand that speak of machines; a verdict on an older window says nothing of now."""
    newest = NewestVerdicts(db=db, model=incident.model, window=judged_window(now))
    names = [name for name in incident.evidence if spec.about(name) in _CALLS] or list(incident.evidence)
    conditions = {}
    for name in names:
        verdicts = newest.of(name, 1)
        is_current = bool(verdicts) and verdicts[0].window.end >= newest.window.start
        conditions[name] = verdicts[0].condition if is_current else Condition.NO_DATA
    return conditions


def _scale(
    ledger: Ledger, incident: Incident, spec: ModelSpec, scaler: Scaler, key: str, evidence: ScaleEvidence,
    *, actor: str,
) -> Outcome:  # fmt: skip
    """Add capacity, and say when triage looks again, or call a person where the loop has no more to give."""
    try:
        asked = CapacityRequest(
            model=incident.model, key=key, actor=actor, why=f"incident {incident.id}", incident=incident
        )
        decision = go_up(ledger, asked, scaler, evidence)
    except ContractError as err:
        ledger.move(incident, State.ESCALATED, actor=actor, reason=f"{err}: a person has to add capacity")
        return Outcome(str(err))
    if decision.is_at_most or (not decision.go and decision.not_before is None):
        ledger.move(incident, State.ESCALATED, actor=actor, reason=f"{decision.reason}: a person has to add capacity")
        return Outcome(decision.reason)
    again = decision.not_before or evidence.now + spec.window_count(PATIENCE_WINDOWS)
    return _later(ledger, incident, decision.reason, again, actor=actor)


def _later(ledger: Ledger, incident: Incident, reason: str, again: datetime, *, actor: str) -> Outcome:
    sentence = f"{reason}; triage looks again at {again:%H:%M:%S}Z"
    ledger.move(incident, incident.state, actor=actor, reason=sentence, not_before=again)
    return Outcome(sentence)


def _ask(
    ledger: Ledger, incident: Incident, spec: ModelSpec, url: str, key: str, now: datetime, *, actor: str
) -> Outcome:
    content = {"model": incident.model, "incident": incident.id, "evidence": incident.evidence}
    try:
        _post(url, key, content)
    except ContractError as err:
        ledger.move(incident, State.ESCALATED, actor=actor, reason=f"{err}: a person has to add capacity")
        return Outcome(str(err))
    reason = f"asked {httpx.URL(url).host} for more capacity"
    return _later(ledger, incident, reason, now + spec.window_count(PATIENCE_WINDOWS), actor=actor)


def _post(url: str, key: str, content: dict[str, object]) -> None:
    try:
        answer = httpx.post(url, json=content, headers={"Idempotency-Key": key}, timeout=30)
    except httpx.TransportError as err:
        raise TransientError(f"scale.webhook {url} is not reachable: {err}") from err
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error:
        raise TransientError(f"scale.webhook {url} answered {answer.status_code}; will be asked again")
    if not answer.is_success:
        raise ContractError(f"scale.webhook {url} refused with {answer.status_code}: {answer.text[:200]}")
