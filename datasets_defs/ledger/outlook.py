"""What the loop does next by itself for a model, when, and why: from its open incident alone. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from datasets_defs.core.incidents import Action, Incident, State, Wake, due
from datasets_defs.core.windows import EPOCH, Window
from datasets_defs.spec.model import ModelSpec

_END_OF_TIME = datetime.max.replace(tzinfo=UTC)
_STEPS = {
    Wake.TRIAGE: "look again (triage)",
    Wake.RETRAIN: "train a challenger",
    Wake.EVALUATE: "evaluate challenger v{version}",
    Wake.APPROVE: "ask a person about v{version}",
    Wake.PROMOTE: "promote v{version}",
    Wake.ROLL_BACK: "roll back",
}
_AFTER_TRIAGE = {
    Action.RETRAIN: "start a retraining",
    Action.ROLL_BACK: "roll back",
    Action.SCALE: "look again after asking for capacity",
    Action.WATCH: "look again at the shift",
    Action.ASK: "take the silence for an answer",
}
_WHILE_OPEN = {
    Action.RETRAIN: "the input costs more than it did",
    Action.ROLL_BACK: "the model got worse right after a promotion",
    Action.SCALE: "the GPUs are full",
    Action.WATCH: "the input has shifted and does no harm that is known",
    Action.ASK: "a person is asked: driftloop answer {model} retrain, accept or ignore",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """The next automatic action."""

    action: str
    """What, in words that follow "next:"."""
    at: datetime | None
    """When it begins or is decided, at the latest; not after now: it is under way. None: it has no time of its own."""
    why: str
    """One sentence; what it waits for."""

    def __str__(self) -> str:
        return f"{self.action}, {self.at:%Y-%m-%d %H:%M:%S}Z" if self.at is not None else self.action


def outlook(
    incident: Incident | None,
    *,
    now: datetime,
    paused_until: datetime | None,
    reconcile_period: timedelta,
    spec: ModelSpec | None,
) -> Outlook:
    """Say what happens next; `spec` is None when the model's YAML is gone or wrong, `paused_until` when it acts.

    A step that waits to be begun is given the time of the reconciliation that would begin it if its wake-up was lost.
    """
    asks = incident is not None and incident.state is State.APPROVING and not incident.approved
    if incident is not None and not asks and (holder := incident.holder(now)) is not None:
        return _under_way(incident, holder, now, reconcile_period)
    plan = _plan(incident, now, reconcile_period, spec)
    goes_on = incident is not None and incident.goes_on_in_a_pause
    paused = paused_until is not None and now < paused_until and not goes_on
    if not paused or incident is None or not incident.is_open or plan.at is None or incident.state is State.ESCALATED:
        suffix = f"; paused until {_clock(paused_until)}: told, not acted on" if paused and paused_until else ""
        return Outlook(action=plan.action, at=plan.at, why=plan.why + suffix)
    return Outlook(action="nothing while it is paused", at=paused_until, why=f"then: {plan.action} ({plan.why})")


def _plan(incident: Incident | None, now: datetime, period: timedelta, spec: ModelSpec | None) -> Outlook:
    window = _next_window_end(now, spec)
    judged = "judge the next window"
    if spec is None and (incident is None or incident.is_open):
        return Outlook(action="none", at=None, why="its file in models/ is missing or wrong, so every step fails")
    if incident is None:
        return Outlook(action=judged, at=window, why="no incident is open")
    match incident.state:
        case State.RESOLVED | State.ROLLED_BACK:
            return Outlook(action="none", at=None, why=f"the incident has ended: {incident.state}")
        case State.ESCALATED:
            why = "the loop is out of automatic answers; it ends by itself only once every signal is quiet"
            return Outlook(action="none: a person decides", at=None, why=why)
        case State.QUARANTINED:
            return Outlook(action=f"{judged}'s data", at=window, why="nothing is trained until the data is whole again")
        case State.APPROVING if not incident.approved:
            return _unanswered(incident, now, period, spec)
        case State.PROBATION if incident.action is not Action.ROLL_BACK:
            need = spec.probation_windows if spec is not None else 0
            return Outlook(action=f"{judged} of the probation", at=window, why=f"{need} good windows end it")
        case _:
            return _step(incident, now, period, spec)


def _next_look(now: datetime, period: timedelta, spec: ModelSpec | None) -> Outlook:
    steps = ", ".join(f"{share:.0%}" for share in spec.steps.steps) if spec is not None and spec.steps else "none"
    why = f"its steps are {steps}; a challenger that is surely worse goes back at once"
    return Outlook(action="compare both versions' users", at=_tick(now, period), why=why)


def _step(incident: Incident, now: datetime, period: timedelta, spec: ModelSpec | None) -> Outlook:
    """Give the step that the ledger's table of what is due names, at the reconciliation that finds it undone."""
    if incident.state is State.ROLLOUT:
        return _next_look(now, period, spec)
    at = _rung_again(incident, now, period)
    work = due(incident, _END_OF_TIME, period)
    action = _STEPS[work.wake] if work is not None else "none"
    action = action.format(version=incident.challenger_version)
    if incident.state is State.REJECTED:
        most = spec.retrain.max_attempts if spec is not None else 0
        spent = incident.attempt >= most
        action = "call a person" if spent else "make another attempt"
        why = f"attempt {incident.attempt} of {most} was rejected{_waits(incident, now)}"
        return Outlook(action=action, at=at, why=why)
    if incident.state is State.OPEN and incident.action in _AFTER_TRIAGE:
        why = _WHILE_OPEN[incident.action].format(model=incident.model)
        return Outlook(action=_AFTER_TRIAGE[incident.action], at=at, why=why + _waits(incident, now))
    return Outlook(action=action, at=at, why=_why_undone(incident) + _waits(incident, now))


def _under_way(incident: Incident, holder: str, now: datetime, period: timedelta) -> Outlook:
    work = due(incident, _END_OF_TIME, period)
    if work is None:  # a person's rollback, say: nobody takes it up if it dies
        return Outlook(action="finish the step at work", at=now, why=f"{holder} is at work")
    again = _rung_again(incident, now, period)
    why = f"{holder} is at work; if it dies, it is begun again by {_clock(again)}"
    return Outlook(action=_STEPS[work.wake].format(version=incident.challenger_version), at=now, why=why)


def _unanswered(incident: Incident, now: datetime, period: timedelta, spec: ModelSpec | None) -> Outlook:
    windows = spec.approval_windows if spec is not None else 0
    ends = incident.updated_at + (spec.window_count(windows) if spec is not None else timedelta())
    version = incident.challenger_version
    return Outlook(
        action=f"refuse challenger v{version} if nobody answers",
        at=_tick(max(now, ends), period),
        why=f"a person is asked: driftloop approve {incident.model}, or reject; silence for {windows} windows is a no",
    )


def _why_undone(incident: Incident) -> str:
    if incident.claimed_by is not None:
        return f"{incident.claimed_by} began it and is gone"
    if incident.rung_at is None:
        return "nobody was woken for it yet"
    return f"woken {_clock(incident.rung_at)}; if nobody begins, it is rung again"


def _waits(incident: Incident, now: datetime) -> str:
    if incident.not_before is None or incident.not_before <= now:
        return ""
    return f"; not before {_clock(incident.not_before)}"


def _rung_again(incident: Incident, now: datetime, period: timedelta) -> datetime:
    """Give the first reconciliation at which nothing keeps the step back any more."""
    at = _tick(max(moment for moment in (now, incident.not_before, incident.lease_until) if moment is not None), period)
    rung = incident.rung_at
    if rung is None or not rung - period < at < rung + period:  # one from the future tells of a clock set back
        return at
    return _tick(rung + period, period)


def _tick(at: datetime, period: timedelta) -> datetime:
    """Give the first reconciliation at or after a time; they are aligned to the clock."""
    return EPOCH - ((EPOCH - at) // period) * period


def _next_window_end(now: datetime, spec: ModelSpec | None) -> datetime | None:
    if spec is None:
        return None
    length = spec.window_count(1)
    return Window.last_complete(now, length).end + length


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"
