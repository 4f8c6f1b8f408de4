"""The way up and down: what is decided is written and paid in one transaction, then given, then confirmed.

Killed between any two of these, the next run finds the stay where it is and goes on: a number of replicas is set, never
added to, and a key is paid for once.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.faults import reached
from datasets_defs.core.gpu_budget import GovernorDecision
from datasets_defs.core.incidents import Incident
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.scaling import Scaler
from datasets_defs.store.gpu_charges import Charged, charge, charged_hours, settle
from datasets_defs.store.gpu_scaling import (
    Stay,
    StayState,
    begin_stay,
    change_stay,
    last_change,
    open_stay,
    stay_of,
)
from monitors.scaling.decision import ScaleDecision, ScaleEvidence, may_scale
from monitors.scaling.givers import Giver, giver_of, scaler_of


class _TooDearError(Exception):
    """Takes the decision back with its transaction."""

    def __init__(self, decision: GovernorDecision) -> None:
        super().__init__(decision.reason)
        self.decision = decision


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityRequest:
    """Who asks for capacity, and why."""

    model: str
    key: str
    """Of the request: what it asks for is done, and paid for, once."""
    actor: str
    why: str
    incident: Incident | None = None


def go_up(ledger: Ledger, asked: CapacityRequest, spec: Scaler, evidence: ScaleEvidence) -> ScaleDecision:
    """Add capacity for a time, once for each key; give the decision that was taken for it.

    `evidence` says what is measured and asked for; what stands is read here.

    Raises:
        TransientError: PostgreSQL or who gives capacity is away; the next try goes on.
        ContractError: who gives capacity refuses; the stay is over, and its GPU-hours are given back.
    """
    model, giver = asked.model, giver_of(asked.model, spec)
    with ledger.transaction() as on:
        known, there, changed = stay_of(on, asked.key), open_stay(on, model), last_change(on, model)
    if known is not None:
        _give(ledger, known, actor=asked.actor)
        return ScaleDecision(
            go=True, reason=known.reason, before=known.before, replicas=known.replicas, until=known.until
        )
    present = giver.present(there.replicas if there is not None else spec.min_replicas)
    seen = replace(evidence, present=present, stay=there, last_change=changed)
    decision = may_scale(seen, spec)
    if not decision.go:
        return decision
    try:
        stay = _decided(ledger, asked, spec, decision, there)
    except _TooDearError as err:
        return replace(decision, go=False, reason=err.decision.reason, not_before=err.decision.not_before)
    reached("scale.decided")
    _give(ledger, stay, actor=asked.actor, incident=asked.incident)
    return decision


def _decided(ledger: Ledger, asked: CapacityRequest, spec: Scaler, decision: ScaleDecision, there: Stay | None) -> Stay:
    """Write the stay, take its GPU-hours and append to the history, all or nothing."""
    values: dict[str, Any] = {
        "newest_key": asked.key, "replicas": decision.replicas, "until": decision.until, "actor": asked.actor,
        "reason": decision.reason, "gpus_per_replica": spec.gpus_per_replica, "target": spec.model_dump(mode="json"),
    }  # fmt: skip
    with ledger.locked(asked.model) as on:
        now = open_stay(on, asked.model)
        if (now and (now.id, now.newest_key)) != (there and (there.id, there.newest_key)):
            raise TransientError(f"{asked.model}: somebody else changed its capacity at that moment; look again")
        hours = decision.gpu_hours
        cost = Charged(key=f"scale|{asked.key}", model=asked.model, seconds=3600 * hours, hours=hours)
        spent = charge(on, cost) if hours else None
        if spent is not None and not spent.go:
            raise _TooDearError(spent)
        if now is None:
            stay = begin_stay(on, model=asked.model, key=asked.key, before=decision.before, **values)
        else:
            stay = _changed(on, now, **values, state=StayState.RISING)
        reason = f"{decision.reason}: {asked.why}"
        _note(ledger, stay, reason, actor=asked.actor, incident=asked.incident, on=on)
    return stay


def come_down(ledger: Ledger, model: str, *, now: datetime, actor: str, at_once: str | None = None) -> str:
    """Finish what was begun, and take down what is over; with `at_once`, a reason, also what is not. Say what was done.

    Raises:
        TransientError: PostgreSQL or who gives capacity is away; the next try goes on.
        ContractError: who gives capacity refuses.
    """
    with ledger.transaction() as on:
        stay = open_stay(on, model)
    if stay is None:
        return f"{model}: no capacity was added"
    if stay.state is not StayState.FALLING and (at_once is not None or now >= stay.until):
        why = at_once or f"its time was over at {stay.until:%Y-%m-%d %H:%M}Z"
        stay = _falling(ledger, stay, why, now=now, actor=actor)
        reached("scale.falling")
    if stay.state is StayState.UP:
        return f"{model}: {stay.replicas} replicas until {stay.until:%Y-%m-%d %H:%M}Z, then {stay.before}"
    return _give(ledger, stay, actor=actor)


def _falling(ledger: Ledger, stay: Stay, why: str, *, now: datetime, actor: str) -> Stay:
    """Write down that a stay is over, and give back the GPU-hours that it did not use."""
    with ledger.locked(stay.model) as on:
        fallen = _changed(on, stay, state=StayState.FALLING, reason=why)
        _note(ledger, fallen, why, actor=actor, on=on)
    unused = stay.gpus * max(0.0, (stay.until - now).total_seconds()) / 3600
    if unused:
        _give_back(ledger, stay, unused)
    return fallen


def _give_back(ledger: Ledger, stay: Stay, hours: float) -> None:
    """Give GPU-hours back that the newest request of a stay had set aside; at most those, and once."""
    key = f"scale|{stay.newest_key}"
    if taken := charged_hours(ledger.engine, key):
        cost = Charged(key=key, model=stay.model, seconds=taken, hours=taken)
        settle(ledger.engine, cost, max(0.0, taken - hours))


def _give(ledger: Ledger, stay: Stay, *, actor: str, incident: Incident | None = None) -> str:
    """Have who gives capacity do what a stay says, and confirm it; one that is confirmed is left alone."""
    giver = giver_of(stay.model, scaler_of(stay.target))
    match stay.state:
        case StayState.RISING:
            return _rise(ledger, stay, giver, actor=actor, incident=incident)
        case StayState.FALLING:
            return _fall(ledger, stay, giver, actor=actor)
        case _:
            return f"{stay.model}: {stay.reason}"


def _rise(ledger: Ledger, stay: Stay, giver: Giver, *, actor: str, incident: Incident | None) -> str:
    try:
        giver.set(stay.replicas, before=stay.before)
    except ContractError as err:
        reason = f"{giver.name} refuses: {err}"
        _give_back(ledger, stay, float("inf"))
        _confirmed(ledger, stay, StayState.DOWN, reason, actor=actor, incident=incident)
        raise
    reached("scale.given")
    reason = f"{giver.name} has {stay.replicas} replicas until {stay.until:%Y-%m-%d %H:%M}Z"
    _confirmed(ledger, stay, StayState.UP, reason, actor=actor, incident=incident)
    return reason


def _fall(ledger: Ledger, stay: Stay, giver: Giver, *, actor: str) -> str:
    """Return to the number of before, unless somebody else has set another one meanwhile."""
    present = giver.present(stay.replicas)
    if present in (stay.replicas, None):
        giver.set(stay.before, before=stay.before)
        reached("scale.taken")
        reason = f"{giver.name} has {stay.before} replicas again: {stay.reason}"
    elif present == stay.before:
        reason = f"{giver.name} has {stay.before} replicas again: {stay.reason}"
    else:
        reason = f"{giver.name} has {present} replicas, which somebody else set: they are left alone"
    _confirmed(ledger, stay, StayState.DOWN, reason, actor=actor)
    return reason


def _confirmed(
    ledger: Ledger, stay: Stay, to: StayState, reason: str, *, actor: str, incident: Incident | None = None
) -> None:
    with ledger.locked(stay.model) as on:
        changes: dict[str, Any] = {"state": to, "changed_at": func.clock_timestamp()}
        if to is StayState.DOWN:
            changes["ended_at"] = func.clock_timestamp()
        done = change_stay(on, stay, **changes)
        if done is not None:  # else another run has confirmed it
            _note(ledger, done, reason, actor=actor, incident=incident, on=on)


def _changed(on: Connection, stay: Stay, **values: Any) -> Stay:
    done = change_stay(on, stay, changed_at=func.clock_timestamp(), **values)
    if done is None:
        raise TransientError(f"{stay.model}: somebody else changed its capacity at that moment; it is looked at again")
    return done


def _note(
    ledger: Ledger, stay: Stay, reason: str, *, actor: str, on: Connection, incident: Incident | None = None
) -> None:
    evidence = {
        "step": stay.state, "replicas": stay.replicas, "before": stay.before, "until": stay.until.isoformat(),
        "gpus": stay.gpus, "key": stay.newest_key,
    }  # fmt: skip
    ledger.note(stay.model, EventKind.SCALED, reason, evidence, actor=actor, incident=incident, connection=on)
