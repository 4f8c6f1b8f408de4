"""The triage step of the loop: read what stands, decide, record it once, and say who is to be rung."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome, RingKey
from datasets_defs.core.faults import reached
from datasets_defs.core.incidents import Action, Incident, State
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from monitors.incidents.answering import SILENCE, accept, question_of, record
from monitors.incidents.quiet import standing_signals
from monitors.incidents.triage_evidence import Degradation, read_evidence
from monitors.incidents.triage_rules import TriageEvidence, triage
from monitors.incidents.unmeasured import DriftAnswer, NextStep, next_step
from monitors.verdicts.conclude import judged_window
from monitors.verdicts.newest import NewestVerdicts

NONE = "none"
"""Action of a decision that wakes nobody."""
_PATIENCE_WINDOWS = {Action.WATCH: 24, Action.SCALE: 3}
"""Windows until an incident that stays open with this action is looked at again, unless a signal joins."""
_MOVES = {Action.QUARANTINE: State.QUARANTINED, Action.ALERT: State.ESCALATED}


def decide(key: str, *, db: Engine, actor: str, now: datetime | None = None) -> dict[str, Any]:
    """Triage the incident of a wake-up; give `{"incident": id, "action": …, "reason": …}` as a plain dict.

    The action is one of `Action` or `none`. A decision is recorded when it is new; deciding the same again changes
    nothing and gives it again, so that a retried task still rings.

    Raises:
        ContractError: the key or the spec is wrong, or another step took the incident meanwhile.
        TransientError: PostgreSQL is away.
    """
    ledger, at = Ledger(db), now or datetime.now(UTC)
    incident = ledger.incident(RingKey.parse(key).incident_id)
    spec = spec_of(incident.model)
    if (holder := incident.holder(datetime.now(UTC))) is not None:
        return _said(incident, None, f"incident {incident.id} is in the hands of {holder}")
    if incident.state is State.REJECTED:
        incident = _take_up(ledger, incident, spec, at, actor=actor)
        reached("triage.taken_up")
    if incident.state is not State.OPEN:
        again = incident.action is not None and _MOVES.get(incident.action) is incident.state
        return _said(incident, incident.action if again else None, f"incident {incident.id} is {incident.state}")
    if ledger.is_rolled_back_for(incident):
        return _said(incident, Action.ROLL_BACK, f"incident {incident.id}: a rollback for it was cut short and goes on")
    newest = NewestVerdicts(db=db, model=incident.model, window=judged_window(at))
    standing = standing_signals(incident, spec, newest)
    if not standing:
        return _said(incident, None, f"incident {incident.id}: every signal is quiet; it will be resolved")
    degradation = Degradation(
        signals=frozenset(standing), degraded_since=incident.degraded_since, attempts=incident.attempt
    )
    evidence = read_evidence(degradation, spec, ledger.champion(incident.model), newest)
    incident, step = _next(ledger, incident, spec, evidence, at, actor=actor)
    return _carry_out(ledger, incident, spec, step, standing, at, actor=actor)


def _carry_out(
    ledger: Ledger, incident: Incident, spec: ModelSpec, step: NextStep, standing: list[str], at: datetime,
    *, actor: str,
) -> dict[str, Any]:  # fmt: skip
    """Write a decision down and give it, or end the incident whose drift was accepted."""
    if step.accepted_by is not None:
        done = accept(ledger, incident, spec, who=step.accepted_by, now=at, actor=actor)
        reached("triage.accepted")
        return _said(incident, None, f"incident {incident.id}: {done}")
    decision = step.decision
    waits = incident.not_before is not None and at < incident.not_before
    if waits and decision.action is Action.RETRAIN and incident.action is Action.RETRAIN:
        return _said(
            incident, None, f"incident {incident.id}: the next attempt waits until {incident.not_before:%H:%M:%S}Z"
        )
    _record(ledger, incident, spec, step, standing, at, actor=actor)
    reached("triage.decided")
    return _said(incident, decision.action, decision.reason)


def ring_for(decision: dict[str, Any] | None, action: Action, *, db: Engine) -> Outcome:
    """Ring for one action: the outcome has a ring only when the decision asks for that action.

    There is no decision where a person marked the task that takes it.
    """
    if decision is None:
        return Outcome("the task that decides was marked by hand, so nothing was decided")
    if decision["action"] != action:
        return Outcome(f"triage says {decision['action']}: {decision['reason']}")
    ring = Ledger(db).ring(int(decision["incident"]))
    reached("triage.rung")
    return Outcome(str(decision["reason"]), ring)


def _take_up(ledger: Ledger, incident: Incident, spec: ModelSpec, now: datetime, *, actor: str) -> Incident:
    """Move a rejected incident on: back to open for another attempt, or to a person when none is left."""
    if incident.not_before is not None and now < incident.not_before:
        return incident
    most = spec.retrain.max_attempts
    if incident.attempt >= most:
        reason = f"{incident.attempt} of {most} attempts were not good enough; a person decides"
        return ledger.move(incident, State.ESCALATED, actor=actor, reason=reason)
    reason = f"attempt {incident.attempt} of {most} was rejected; triage looks again"
    return ledger.move(
        incident, State.OPEN, actor=actor, reason=reason, not_before=None, challenger_version=None, approved=False
    )


def _next(
    ledger: Ledger, incident: Incident, spec: ModelSpec, evidence: TriageEvidence, now: datetime, *, actor: str
) -> tuple[Incident, NextStep]:
    """Decide; a question about drift whose time is over is answered as the YAML says."""
    decision = triage(evidence)
    step = next_step(decision, evidence, question_of(ledger, incident, spec, now=now))
    if not step.is_silence:
        return incident, step
    reason = f"nobody answered within {spec.approval_windows} windows"
    answer = DriftAnswer(spec.drift.unanswered)
    record(ledger, incident, answer, spec, who=SILENCE, actor=actor, reason=reason, now=now)
    reached("triage.silent")
    incident = ledger.incident(incident.id)
    return incident, next_step(decision, evidence, question_of(ledger, incident, spec, now=now))


def _record(
    ledger: Ledger, incident: Incident, spec: ModelSpec, step: NextStep, standing: list[str], now: datetime,
    *, actor: str,
) -> None:  # fmt: skip
    decision = step.decision
    to = _MOVES.get(decision.action, State.OPEN)
    known = (incident.cause, incident.action) == (decision.cause, decision.action)
    patience = _PATIENCE_WINDOWS.get(decision.action)
    due_again = incident.not_before is None or now >= incident.not_before
    if known and to is incident.state and not (patience and due_again):
        return
    changes: dict[str, Any] = {"cause": decision.cause, "action": decision.action}
    if step.not_before is not None:
        changes["not_before"] = step.not_before
    elif patience:
        changes["not_before"] = now + spec.window_count(patience)
    elif not known:
        changes["not_before"] = None  # what an earlier decision waited for is no longer waited for
    ledger.move(
        incident,
        to,
        actor=actor,
        reason=decision.reason,
        evidence={"cause": decision.cause, "action": decision.action, "signals": standing},
        **changes,
    )


def _said(incident: Incident, action: Action | None, reason: str) -> dict[str, Any]:
    return {"incident": incident.id, "action": str(action) if action is not None else NONE, "reason": reason}
