"""End an incident that went away by itself, and take a quarantined one up again when its data is whole."""

from datetime import UTC, datetime

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome
from datasets_defs.core.incidents import NO_ALARM, Incident, State
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from monitors.verdicts.conclude import judged_window
from monitors.verdicts.confirm import is_quiet
from monitors.verdicts.newest import NewestVerdicts
from monitors.verdicts.rules import rule_of

_WAITING = (State.OPEN, State.QUARANTINED, State.REJECTED, State.ESCALATED)
"""States in which nobody is at work on the incident."""


def standing_signals(incident: Incident, spec: ModelSpec, newest: NewestVerdicts) -> list[str]:
    """List the incident's signals that have not been OK for long enough; one that cannot be judged stands.

    A signal that the spec no longer has does not stand: nothing will ever be measured of it again.
    """
    rules = {signal: rule_of(spec, signal) for signal in incident.evidence}
    return [signal for signal, rule in rules.items() if rule is not None and not _is_quiet(signal, 2 * rule.of, newest)]


def _is_quiet(signal: str, count: int, newest: NewestVerdicts) -> bool:
    last = newest.of(signal, 1)
    # sensors run side by side: another one's verdict on this very window may be a moment away, no older than that
    is_current = bool(last) and last[0].window.end >= newest.window.start
    return is_current and is_quiet(newest.of(signal, count, waiting=False), count)


def resolve_if_quiet(model: str, *, until: datetime, db: Engine, actor: str) -> Outcome:
    """Resolve the model's waiting incident when all its signals have been OK for twice their confirmation windows.

    Raises:
        ContractError: the spec is wrong, or the incident moved on meanwhile.
        TransientError: PostgreSQL is away.
    """
    ledger, spec = Ledger(db), spec_of(model)
    incident = ledger.open_of(model)
    if incident is None or incident.state not in _WAITING:
        return Outcome(f"{model} has no incident that waits")
    if (holder := incident.holder(datetime.now(UTC))) is not None:
        return Outcome(f"incident {incident.id} is in the hands of {holder}")
    if incident.is_ordered:
        return Outcome(f"incident {incident.id} waits for its training on schedule")
    signals = sorted(incident.evidence.keys() - NO_ALARM)
    window = judged_window(until)
    standing = standing_signals(incident, spec, NewestVerdicts(db=db, model=model, window=window))
    if not standing:
        reason = f"{', '.join(signals)} OK in every window for twice as long as it takes to confirm"
        if incident.is_by_hand:
            reason = "what a person offered is decided on, and no signal is bad"
        elif incident.is_no_alarm:
            reason = "what was trained on schedule is decided on, and no signal is bad"
        ledger.move(incident, State.RESOLVED, actor=actor, reason=reason)
        return Outcome(f"incident {incident.id} resolved: {reason}")
    if incident.state is State.QUARANTINED and "data" in signals and "data" not in standing:
        reason = f"the data is whole again; {', '.join(standing)} stand"
        whole = window.end - 2 * spec.drift.confirm.of * settings().window_length
        since = max(incident.degraded_since, whole)  # what is older may be broken, and is not trained on
        ledger.move(incident, State.OPEN, actor=actor, reason=reason, not_before=None, degraded_since=since)
        return Outcome(f"incident {incident.id} leaves quarantine: {reason}")  # reconcile finds it due, and rings
    return Outcome(f"incident {incident.id} stays {incident.state}: {', '.join(standing)} not quiet")
