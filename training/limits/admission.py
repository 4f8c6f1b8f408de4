"""How a training attempt begins: the governor asked, the incident claimed and the GPU-hours charged as one step."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, func, select

from datasets_defs.core.conditions import Outcome, RingKey
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.faults import reached
from datasets_defs.core.gpu_budget import GovernorDecision
from datasets_defs.core.incidents import Action, Incident, State
from datasets_defs.core.settings import settings
from datasets_defs.core.windows import Window
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.pauses import pause_of
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors
from datasets_defs.store.documents import count_documents
from datasets_defs.store.evaluations import Evaluation, newest_evaluations
from datasets_defs.store.gpu_charges import charge
from datasets_defs.store.heartbeats import GPU_CAPACITY, heartbeats
from datasets_defs.store.incidents import last_retrained
from training.limits.budget import of_attempt
from training.limits.governor import FUTILITY_DAYS, Evaluated, GovernorEvidence, may_retrain


class _OverBudgetError(Exception):
    """Takes the claim back with its transaction."""

    def __init__(self, decision: GovernorDecision) -> None:
        super().__init__(decision.reason)
        self.decision = decision


def begin(key: RingKey, *, db: Engine, actor: str, now: datetime | None = None) -> Incident | Outcome:
    """Claim the wake-up's incident for a training attempt; an Outcome says why not.

    Raises:
        ContractError: the key or the spec is wrong, or the incident moved meanwhile.
        TransientError: PostgreSQL is away.
    """
    ledger = Ledger(db)
    spec, incident = spec_of(key.model), ledger.incident(key.incident_id)
    if incident.state is State.OPEN:
        if (paused := pause_of(db, spec.name, datetime.now(UTC))) is not None:
            return Outcome(str(paused))
        refusal = _overtaken(incident, actor, datetime.now(UTC)) or _ask_governor(
            ledger, incident, spec, actor=actor, now=now or datetime.now(UTC)
        )
        if refusal is not None:
            return refusal
    try:
        claimed = _claimed_and_charged(ledger, key, spec, actor=actor, now=now)
    except _OverBudgetError as err:
        return _hold(ledger, ledger.incident(key.incident_id), err.decision, actor=actor)
    reached("retrain.claimed")
    return claimed


def _claimed_and_charged(
    ledger: Ledger, key: RingKey, spec: ModelSpec, *, actor: str, now: datetime | None
) -> Incident | Outcome:
    with ledger.transaction() as on:
        claim = ledger.claim(
            key,
            frm={State.OPEN},
            to=State.RETRAINING,
            actor=actor,
            lease=settings().lease,
            reason=f"training attempt of incident {key.incident_id}",
            connection=on,
        )
        if claim.incident is None:
            return Outcome(claim.reason)
        decision = charge(on, of_attempt(claim.incident, spec), now)
        if not decision.go:
            raise _OverBudgetError(decision)
    return claim.incident


def _overtaken(incident: Incident, actor: str, now: datetime) -> Outcome | None:
    """Find out that the wake-up came late: triage has decided otherwise since, or somebody is rolling back."""
    if incident.action not in (None, Action.RETRAIN):
        return Outcome(f"incident {incident.id}: triage says {incident.action}, no longer retrain")
    if (holder := incident.holder(now)) not in (None, actor):
        return Outcome(f"incident {incident.id} is in the hands of {holder}")
    return None


def _ask_governor(ledger: Ledger, incident: Incident, spec: ModelSpec, *, actor: str, now: datetime) -> Outcome | None:
    if incident.not_before is not None and now < incident.not_before:
        return Outcome(f"incident {incident.id}: not before {incident.not_before:%H:%M:%S}Z")
    evidence = evidence_of(ledger.engine, spec, since=incident.fresh_since, attempts=incident.attempt, now=now)
    decision = may_retrain(evidence, spec.retrain)
    if decision.go:
        if incident.challenger_version is not None:  # of an earlier attempt: it must not pass for this one's
            ledger.move(incident, State.OPEN, actor=actor, reason=decision.reason, challenger_version=None)
            reached("retrain.cleared")
        return None
    return _hold(ledger, incident, decision, actor=actor)


def evidence_of(db: Engine, spec: ModelSpec, *, since: datetime, attempts: int, now: datetime) -> GovernorEvidence:
    """Read what the governor looks at; documents since then are fresh.

    Raises:
        TransientError: PostgreSQL is away.
    """
    fresh = _fresh(db, since, spec, now)
    return GovernorEvidence(
        now=now,
        window_length=settings().window_length,
        last_closed_at=last_retrained(db, spec.name),
        fresh_documents=fresh,
        apart=_apart(db, since, spec, now, fresh),
        attempts=attempts,
        recent_starts=_recent_starts(db, spec, now),
        free_gpus=_free_gpus(db, now) if spec.retrain.min_free_gpus else None,
        evaluations=_evaluations(db, spec, now),
    )


def _hold(ledger: Ledger, incident: Incident, decision: GovernorDecision, *, actor: str) -> Outcome:
    """Let an incident wait until it may ask again, or call a person where waiting does not help.

    Nothing is wrong with a model that is trained on schedule: it does not wait, and the next time comes by itself.
    """
    if incident.is_scheduled:
        reason = f"no training on schedule this time: {decision.reason}"
        ledger.move(incident, State.RESOLVED, actor=actor, reason=reason)
        return Outcome(f"incident {incident.id}: {reason}")
    to = State.OPEN if decision.not_before is not None else State.ESCALATED
    # people hear of it once, not at every window that it lasts
    first = to is State.OPEN and incident.not_before is None
    ledger.move(
        incident,
        to,
        actor=actor,
        reason=f"no retrain now: {decision.reason}",
        evidence={"retrain": "waits"} if first else {},
        not_before=decision.not_before,
    )
    reached("retrain.held")
    return Outcome(f"incident {incident.id}: no retrain now: {decision.reason}")


def _fresh(db: Engine, since: datetime, spec: ModelSpec, now: datetime) -> int:
    """Count the prompts with references since the model degraded, up to what a snapshot takes."""
    within, most = Window(since, now), spec.retrain.max_documents
    return count_documents(db, spec.name, within, most=most, anonymous=spec.trust.anonymous)


def _apart(db: Engine, since: datetime, spec: ModelSpec, now: datetime, fresh: int) -> int:
    """Count the references that are not trained on, since nobody known sent them."""
    if spec.trust.anonymous or fresh >= spec.retrain.min_documents:
        return 0
    within, most = Window(since, now), spec.retrain.max_documents
    return count_documents(db, spec.name, within, most=most) - fresh


def _evaluations(db: Engine, spec: ModelSpec, now: datetime) -> tuple[Evaluated, ...]:
    """Read how the model's newest challengers were judged, newest first, since a person last resolved an incident."""
    event = tables.incident_event.c
    by_hand = select(func.max(event.at)).where(
        event.model == spec.name,
        event.kind == EventKind.MOVED,
        event.state == State.RESOLVED,
        event.actor.startswith("cli:"),
    )
    with database_errors("reading what people resolved"), db.connect() as on:
        resolved: datetime | None = on.scalar(by_hand)
    oldest = now - timedelta(days=FUTILITY_DAYS)
    after = oldest if resolved is None else max(oldest, resolved)
    return tuple(
        Evaluated(
            accepted=evaluation.decision == "accept", best_gain=_best_gain(evaluation), needed=spec.gate.min_gain_share
        )
        for evaluation in newest_evaluations(db, spec.name, limit=spec.retrain.futile_after, after=after)
    )


def _best_gain(evaluation: Evaluation) -> float | None:
    low = evaluation.scores.get("recent", {}).get("low")
    return -low if low is not None else None


def _free_gpus(db: Engine, now: datetime) -> float | None:
    """Read what `watch_gpu` last saw; None when that was more than two windows ago, or it could not tell."""
    at, seen = heartbeats(db).get(GPU_CAPACITY, (None, {}))
    if at is None or now - at > 2 * settings().window_length:
        return None
    free: float | None = seen.get("free")
    return free


def _recent_starts(db: Engine, spec: ModelSpec, now: datetime) -> tuple[datetime, ...]:
    """Read when attempts of the loop's own began within the budget's stretch of time, oldest first."""
    event = tables.incident_event.c
    query = (
        select(event.at)
        .where(event.model == spec.name, event.kind == EventKind.MOVED, event.state == State.RETRAINING)
        .where(event.actor.not_like("cli:%"), event.actor != "registry")  # what is offered is not trained
        .where(event.at > now - spec.window_count(spec.retrain.budget.windows))
        .order_by(event.at)
    )
    with database_errors("reading when training attempts began"), db.connect() as on:
        return tuple(on.scalars(query))
