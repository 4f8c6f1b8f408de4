"""The life of an incident as data: states, allowed moves, and what is due when nobody acts. Pure."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from datasets_defs.core.offers import Offer


class State(StrEnum):
    """Where an incident stands."""

    OPEN = "open"
    """Confirmed; waits for triage, for more evidence, or for its next attempt."""
    RETRAINING = "retraining"
    """A challenger is being trained, or stands registered and waits for its evaluation."""
    EVALUATING = "evaluating"
    """Champion and challenger are being scored on the same frozen rows."""
    APPROVING = "approving"
    """The gate accepted the challenger; waits for a person where the spec asks for one."""
    ROLLOUT = "rollout"
    """The challenger answers a growing share of the users, who are compared with the others."""
    PROMOTING = "promoting"
    """The champion is being changed, or serving has yet to confirm it."""
    PROBATION = "probation"
    """The new champion serves and is being judged."""
    QUARANTINED = "quarantined"
    """The data is broken: nothing is trained until it is whole again."""
    REJECTED = "rejected"
    """The challenger was not good enough; another attempt follows or a person is called."""
    ESCALATED = "escalated"
    """The loop is out of automatic answers; a person decides."""
    RESOLVED = "resolved"
    """Ended: the model is good again."""
    ROLLED_BACK = "rolled_back"
    """Ended: the previous champion serves again."""


TERMINAL = frozenset({State.RESOLVED, State.ROLLED_BACK})
"""States in which an incident has ended; every other one counts as open (one per model)."""

TRANSITIONS: dict[State, frozenset[State]] = {
    State.OPEN: frozenset({State.RETRAINING, State.QUARANTINED, State.ESCALATED, State.RESOLVED, State.ROLLED_BACK}),
    State.RETRAINING: frozenset({State.EVALUATING, State.OPEN, State.QUARANTINED, State.ESCALATED, State.RESOLVED}),
    State.EVALUATING: frozenset({State.APPROVING, State.REJECTED, State.OPEN, State.ESCALATED, State.RESOLVED}),
    State.APPROVING: frozenset(
        {State.ROLLOUT, State.PROMOTING, State.REJECTED, State.OPEN, State.ESCALATED, State.RESOLVED}
    ),
    State.ROLLOUT: frozenset({State.PROMOTING, State.ROLLED_BACK, State.ESCALATED}),
    State.PROMOTING: frozenset({State.PROBATION, State.OPEN, State.ESCALATED}),
    State.PROBATION: frozenset({State.RESOLVED, State.ROLLED_BACK, State.OPEN, State.ESCALATED}),
    State.QUARANTINED: frozenset({State.OPEN, State.RESOLVED, State.ESCALATED}),
    State.REJECTED: frozenset({State.OPEN, State.RETRAINING, State.RESOLVED, State.ESCALATED}),
    State.ESCALATED: frozenset({State.OPEN, State.RETRAINING, State.RESOLVED, State.ROLLED_BACK}),
    State.RESOLVED: frozenset(),
    State.ROLLED_BACK: frozenset(),
}
"""Allowed moves. `docs/reference/states.md` draws them."""

BY_HAND = "by_hand"
"""Signal of an incident that a person opened by offering a version: nothing measures it, so it never stands."""

SCHEDULED = "schedule"
"""Signal of an incident that a schedule opened to have a challenger trained: nothing is wrong, and it never stands."""
NO_ALARM = frozenset({BY_HAND, SCHEDULED})
"""Signals that nothing measures."""


def attempt_name(incident_id: int, attempt: int) -> str:
    """Name a training attempt in artifacts, folders and heartbeats; one model's attempts differ in it."""
    return f"incident-{incident_id}-attempt-{attempt}"


class Cause(StrEnum):
    """Why a model is degraded, as triage sees it."""

    DATA_BREAK = "data_break"
    """The data is broken: it says nothing about the model."""
    INFRASTRUCTURE = "infrastructure"
    """The machines, and not the model."""
    REGRESSION_AFTER_PROMOTION = "regression_after_promotion"
    """The harm came with the last promotion."""
    INPUT_SHIFT = "input_shift"
    """The prompts are of another kind than the reference's."""
    QUALITY_LOSS = "quality_loss"
    """The answers or the loss got worse, and the input did not shift."""


class HarmKind(StrEnum):
    """Which prompts make a model's loss rise."""

    SAME = "same"
    """Those that it always had: serving or weights are broken, and no retrain cures that."""
    NEW = "new"
    """Kinds that it never learned: what a retrain is for."""


class Action(StrEnum):
    """What triage asks for."""

    QUARANTINE = "quarantine"
    """Train nothing on the data until it is whole again."""
    ALERT = "alert"
    """Call a person."""
    SCALE = "scale"
    """Ask for more serving capacity."""
    ROLL_BACK = "roll_back"
    """Make the previous champion serve again."""
    WATCH = "watch"
    """Change nothing, and judge the next windows."""
    ASK = "ask"
    """Ask a person what drift calls for whose harm cannot be measured."""
    RETRAIN = "retrain"
    """Train a challenger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One row of the ledger."""

    id: int
    model: str
    state: State
    signal: str
    """The signal whose confirmation opened it."""
    opened_at: datetime
    updated_at: datetime
    """When the state last changed."""
    degraded_since: datetime
    """Start of the first window that counts as bad; fresh training data begins here."""
    attempt: int = 0
    """Retraining attempts begun."""
    rings: int = 0
    """Wake-ups sent; makes every partition key new."""
    rung_at: datetime | None = None
    token: int = 0
    """Fencing token: grows with every claim and move; a holder with an older one can no longer write."""
    claimed_by: str | None = None
    lease_until: datetime | None = None
    not_before: datetime | None = None
    """Earliest time of the next automatic action."""
    cause: Cause | None = None
    action: Action | None = None
    challenger_version: int | None = None
    approved: bool = False
    """Whether the challenger may be promoted (by the spec's `promotion: auto`, or by a person)."""
    ordered_by: str | None = None
    """The person at whose word the next step is taken; None: at the loop's own."""
    closed_at: datetime | None = None
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether the incident has not ended."""
        return self.state not in TERMINAL

    @property
    def awaits_training(self) -> bool:
        """Whether its present attempt has yet to give a challenger."""
        return self.state is State.RETRAINING and self.challenger_version is None

    @property
    def goes_on_in_a_pause(self) -> bool:
        """Whether its step is taken in a pause, too: it was begun, or a person ordered it, whoever takes it up."""
        is_begun = self.awaits_training or self.state in (State.EVALUATING, State.PROMOTING)
        is_offered = self.offer is not None and self.state in (State.RETRAINING, State.APPROVING)
        return is_begun or is_offered or self.ordered_by is not None

    @property
    def is_by_hand(self) -> bool:
        """Whether nothing but a person's offer opened it: no signal is bad."""
        return set(self.evidence) == {BY_HAND}

    @property
    def is_no_alarm(self) -> bool:
        """Whether no signal is bad: a person's offer or a schedule opened it."""
        return bool(self.evidence) and self.evidence.keys() <= NO_ALARM

    @property
    def is_scheduled(self) -> bool:
        """Whether nothing but a schedule opened it."""
        return set(self.evidence) == {SCHEDULED}

    @property
    def is_ordered(self) -> bool:
        """Whether its training on schedule has not begun."""
        return self.is_scheduled and self.state is State.OPEN and self.attempt == 0

    @property
    def fresh_since(self) -> datetime:
        """From when on documents are fresh: since it degraded, or what a schedule said, whichever was earlier."""
        since = self.evidence.get(SCHEDULED, {}).get("fresh_since")
        return min(self.degraded_since, datetime.fromisoformat(since)) if since else self.degraded_since

    @property
    def offer(self) -> Offer | None:
        """What a person offered, as long as that is the incident's challenger."""
        evidence = self.evidence.get(BY_HAND)
        if evidence is None or (evidence["version"], evidence["attempt"]) != (self.challenger_version, self.attempt):
            return None
        return Offer.of(evidence)

    def holder(self, now: datetime) -> str | None:
        """Who is at work on it now; None when nobody's claim is live."""
        return self.claimed_by if self.lease_until is not None and now < self.lease_until else None


class Wake(StrEnum):
    """Which consumer a wake-up is for; the values are the names of the Assets."""

    TRIAGE = "triage_due"
    RETRAIN = "retrain_requested"
    EVALUATE = "challenger_registered"
    APPROVE = "approval_requested"
    PROMOTE = "challenger_accepted"
    ROLL_BACK = "rollback_requested"
    SCALE = "scale_requested"


@dataclass(frozen=True, slots=True)
class Due:
    """Work that stands undone: whom to wake, and why."""

    wake: Wake
    reason: str


def may_move(frm: State, to: State) -> bool:
    """Say whether the table of transitions allows a move."""
    return to in TRANSITIONS[frm]


def due(
    incident: Incident, now: datetime, patience: timedelta, *, paused: bool = False, cut_short: bool = False
) -> Due | None:
    """Find the wake-up that an incident needs, or None while somebody works on it or nothing is to be done.

    `patience` is how long a wake-up may go unanswered before it counts as lost. One that was rung in the future, by a
    clock that was set back since, says nothing. A paused model needs none but for what was begun, or ordered by a
    person. `cut_short`: a rollback that changed the champion was killed; it goes on, since what it cured stays cured.
    """
    if paused and not (incident.goes_on_in_a_pause or cut_short):
        return None
    if not incident.is_open or (incident.not_before is not None and now < incident.not_before):
        return None
    if incident.lease_until is not None and now < incident.lease_until:
        return None
    if incident.rung_at is not None and incident.rung_at - patience < now < incident.rung_at + patience:
        return None
    why = "its holder is gone" if incident.claimed_by else "nobody answered the last wake-up"
    wake = Wake.ROLL_BACK if cut_short else _wake_for(incident)
    if wake is None:
        return None
    return Due(wake, f"incident {incident.id} is {incident.state} since {incident.updated_at:%H:%M:%S}Z and {why}")


def _wake_for(incident: Incident) -> Wake | None:
    """Name the consumer whose step an incident's state asks for; None: it waits for a person or for time."""
    match incident.state:
        case State.OPEN if incident.is_ordered:
            return Wake.RETRAIN
        case State.OPEN | State.REJECTED:
            return Wake.TRIAGE
        case State.RETRAINING if incident.challenger_version is None:
            return Wake.RETRAIN
        case State.RETRAINING | State.EVALUATING:
            return Wake.EVALUATE
        case State.APPROVING if not incident.approved:
            return Wake.APPROVE
        case State.APPROVING | State.PROMOTING:
            return Wake.PROMOTE
        case State.PROBATION if incident.action is Action.ROLL_BACK:
            return Wake.ROLL_BACK
        case _:
            return None
