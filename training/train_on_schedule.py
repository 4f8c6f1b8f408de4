"""The step that orders a training though nothing is wrong: an incident of its own kind, on every retrain's road."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome, RingKey
from datasets_defs.core.errors import ContractError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.faults import reached
from datasets_defs.core.gpu_budget import GovernorDecision
from datasets_defs.core.incidents import SCHEDULED, Incident, attempt_name
from datasets_defs.core.settings import settings
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.pauses import pause_of
from datasets_defs.ledger.retirements import retirement_of
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.schedule import MOST_TRIALS
from datasets_defs.store.gpu_charges import level
from datasets_defs.store.incidents import written_by
from datasets_defs.store.verdicts import newest_verdicts
from training.limits.admission import begin, evidence_of
from training.limits.budget import gpu_hours
from training.limits.ordering import OrderEvidence, may_order
from training.search.tried import all_tried
from training.trainers.choice import trainer_of
from training.trainers.contract import Job, Trainer
from training.trainers.watch import is_wanted, watch

log = logging.getLogger(__name__)

CLOCKS = timedelta(seconds=1)
"""A champion that was just made may have the time of another machine's clock."""


def order(model: str | None, *, why: str, db: Engine, actor: str, now: datetime | None = None) -> Outcome:
    """Open the incident of a training that a schedule, a person or other data asks for; the ring is for its training.

    A refusal is one event of the history with its reason. A run that does it again goes on with the incident that it
    opened, and says a refusal once.

    Raises:
        ContractError: the spec is wrong.
        TransientError: PostgreSQL is away.
    """
    if not model:
        return Outcome("for which model? Choose it in the form")
    ledger, at = Ledger(db), now or datetime.now(UTC)
    if (begun := written_by(db, actor)) is not None:
        return Outcome(f"incident {begun} stands", ledger.ring(begun))
    if (retired := retirement_of(db, model)) is not None:
        return Outcome(str(retired))
    spec, champion = spec_of(model), ledger.champion(model)
    if champion is None:
        reason = f"there is no champion to train from; run `driftloop bootstrap {model}`"
        return _refused(ledger, model, reason, actor=actor)
    decision = may_order(_evidence(ledger, spec, champion, at), spec.retrain)
    if not decision.go:
        return _refused(ledger, model, decision.reason, actor=actor)
    opened = _open(ledger, champion, decision, why=why, actor=actor, now=at)
    if opened is None:
        return _refused(ledger, model, "an incident was opened at the same moment", actor=actor)
    reached("order.made")
    return Outcome(f"incident {opened.id}: {decision.reason}", ledger.ring(opened.id))


def settings_to_try(key: str, *, db: Engine, actor: str) -> list[dict[str, Any]]:
    """Begin the attempt and name its trials, as arguments of `try_setting`; none where the YAML has no `search`.

    None, too, where the governor has the last word and says no, or another run has the incident.

    Raises:
        ContractError: the key or the spec is wrong, or the incident moved meanwhile.
        TransientError: PostgreSQL is away.
    """
    ring = RingKey.parse(key)
    spec = spec_of(ring.model)
    if spec.search is None:
        return []
    begun = begin(ring, db=db, actor=actor)
    if isinstance(begun, Outcome):
        log.info("%s", begun.reason)
        return []
    return [{"key": key, "attempt": begun.attempt, "number": number} for number in range(spec.search.count)]


def try_setting(trial: Mapping[str, Any], *, db: Engine, actor: str, trainer: Trainer | None = None) -> str:
    """Have one setting tried where the model's trainings run, and hold the incident meanwhile; say what came of it.

    Killed anywhere and run again it finds the trainer at work, or what it left. Where another run has the incident by
    now nothing is done: that one tries what is left.

    Raises:
        ContractError: the key is wrong, or another run took over meanwhile.
        TransientError: PostgreSQL is away, or the trainer died; the next try goes on from its last checkpoint.
    """
    ring, ledger = RingKey.parse(str(trial["key"])), Ledger(db)
    incident = ledger.incident(ring.incident_id)
    job = Job(model=ring.model, incident_id=ring.incident_id, attempt=trial["attempt"], trial=trial["number"])
    if not is_wanted(incident, job):
        return f"{job.name} is wanted no more: incident {incident.id} is {incident.state}"
    if incident.claimed_by != actor:
        return f"incident {incident.id} is in the hands of {incident.claimed_by}"
    result = watch(
        trainer or trainer_of(spec_of(ring.model), db),
        job,
        hold=lambda: ledger.renew(incident, settings().lease),
        incident=lambda: ledger.incident(incident.id),
    )
    return result.message


def hand_over(key: str, *, db: Engine, actor: str) -> Outcome:
    """Wake the training of the run's incident, unless that ended or somebody else has it.

    Raises:
        ContractError: the key is wrong, or the incident moved on meanwhile.
        TransientError: PostgreSQL is away.
    """
    ledger = Ledger(db)
    incident = ledger.incident(RingKey.parse(key).incident_id)
    stands = f"incident {incident.id} is {incident.state}"
    if not (incident.is_ordered or incident.awaits_training):
        return Outcome(stands)
    if (holder := incident.holder(datetime.now(UTC))) not in (None, actor):
        return Outcome(f"{stands} and in the hands of {holder}")
    if incident.claimed_by == actor:
        tried = len(all_tried(incident.model, attempt_name(incident.id, incident.attempt), MOST_TRIALS))
        reason = f"{tried} settings were tried; the best one's model becomes the challenger"
        ledger.move(incident, incident.state, actor=actor, reason=reason, evidence={"search": tried})
    return Outcome(f"{stands}: its training is woken", ledger.ring(incident.id))


def _evidence(ledger: Ledger, spec: ModelSpec, champion: Champion, now: datetime) -> OrderEvidence:
    db = ledger.engine
    paused = pause_of(db, spec.name, now)
    data = next((verdict for verdict in newest_verdicts(db, spec.name, now=now) if verdict.signal == "data"), None)
    return OrderEvidence(
        governor=evidence_of(db, spec, since=min(champion.since, now - CLOCKS), attempts=0, now=now),
        open_incident=ledger.open_of(spec.name),
        paused=str(paused) if paused is not None else None,
        data=data.condition if data is not None else None,
        data_reason=data.reason if data is not None else "",
        hours_left=level(db, now),
        hours_needed=gpu_hours(spec, spec.longest_seconds),
    )


def _open(
    ledger: Ledger, champion: Champion, decision: GovernorDecision, *, why: str, actor: str, now: datetime
) -> Incident | None:
    """Open the incident; None where another one was opened since the decision."""
    evidence = {"fresh_since": champion.since.isoformat(), "why": why, "by": actor}
    reason = f"a challenger is trained on schedule, since {why}: {decision.reason}"
    with ledger.transaction() as on:
        if ledger.open_of(champion.model, connection=on, lock=True) is not None:
            return None
        incident, is_new = ledger.open_incident(
            champion.model, signal=SCHEDULED, degraded_since=now, reason=reason, evidence=evidence, actor=actor,
            connection=on,
        )  # fmt: skip
        if not is_new:
            raise ContractError(f"{champion.model}: an incident was opened at the same moment; nothing is trained")
        reached("order.making")
    return incident


def _refused(ledger: Ledger, model: str, reason: str, *, actor: str) -> Outcome:
    """Write a refusal into the history, once for each run."""
    newest = ledger.newest_of(model, EventKind.SCHEDULE_REFUSED)
    if newest is None or newest.actor != actor:
        ledger.note(model, EventKind.SCHEDULE_REFUSED, f"no training on schedule this time: {reason}", {}, actor=actor)
    return Outcome(f"{model}: no training on schedule this time: {reason}")
