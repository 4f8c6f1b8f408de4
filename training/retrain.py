"""The step that makes a challenger: governor, claim, and a trainer that lives apart from the task which watches it."""

from datetime import datetime

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome, RingKey
from datasets_defs.core.errors import ContractError
from datasets_defs.core.faults import reached
from datasets_defs.core.incidents import Incident, State
from datasets_defs.core.settings import settings
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.gpu_charges import settle
from training.limits.admission import begin
from training.limits.budget import of_attempt
from training.trainers.choice import trainer_of
from training.trainers.contract import Ending, Job, JobResult, Trainer
from training.trainers.watch import watch


def retrain(
    key: str, *, db: Engine, actor: str, now: datetime | None = None, trainer: Trainer | None = None
) -> Outcome:
    """Have a challenger trained for the wake-up's incident; the ring is for its evaluation.

    Killed anywhere and run again, by this run or the next, it finds the trainer that is at work, or what came of it.

    Raises:
        ContractError: the key or the spec is wrong, or another run took over.
        TransientError: PostgreSQL is away, or the trainer died; the next try goes on from its last checkpoint.
    """
    ring, ledger = RingKey.parse(key), Ledger(db)
    spec, incident = spec_of(ring.model), ledger.incident(ring.incident_id)
    if incident.state is State.RETRAINING and incident.challenger_version is not None:
        return Outcome(f"version {incident.challenger_version} stands registered", ledger.ring(incident.id))
    begun = begin(ring, db=db, actor=actor, now=now)
    if isinstance(begun, Outcome):
        return begun
    return _attempt(ledger, begun, spec, actor=actor, trainer=trainer or trainer_of(spec, db))


def _attempt(ledger: Ledger, incident: Incident, spec: ModelSpec, *, actor: str, trainer: Trainer) -> Outcome:
    champion = ledger.champion(spec.name)
    if champion is None:
        reason = f"{spec.name} has no champion to train from; run `driftloop bootstrap {spec.name}`"
        ledger.move(incident, State.ESCALATED, actor=actor, reason=reason)
        return Outcome(reason)
    try:
        result = watch(
            trainer,
            Job.of(incident),
            hold=lambda: ledger.renew(incident, settings().lease),
            incident=lambda: ledger.incident(incident.id),
        )
    except ContractError as err:  # the place that trains refuses; whoever lost the claim cannot write this
        reason = f"training attempt {incident.attempt}: {err}"
        ledger.move(incident, State.ESCALATED, actor=actor, reason=reason)
        return Outcome(reason)
    return _take(ledger, incident, spec, result, champion, actor=actor)


def _take(
    ledger: Ledger, incident: Incident, spec: ModelSpec, result: JobResult, champion: Champion, *, actor: str
) -> Outcome:
    """Move the incident by what came of its training."""
    if result.ending is not Ending.REGISTERED:
        to = State.QUARANTINED if result.ending is Ending.DATA_BREAK else State.ESCALATED
        if to is State.QUARANTINED:
            settle(ledger.engine, of_attempt(incident, spec), 0)  # no step was trained on these rows
            reached("retrain.settled")
        ledger.move(incident, to, actor=actor, reason=f"training attempt {incident.attempt}: {result.message}")
        reached("retrain.ended")
        return Outcome(result.message)
    reason = f"challenger version {result.version}, trained from version {champion.version}, is registered"
    ledger.move(incident, State.RETRAINING, actor=actor, reason=reason, challenger_version=result.version)
    reached("retrain.taken")
    from training.registry.aliases import mirrored  # MLflow takes seconds to import
    from training.registry.registry import Registry

    present = ledger.champion(spec.name) or champion  # somebody may have rolled back while it trained
    mirrored(Registry(settings().mlflow_url), present, challenger=result.version)
    ring = ledger.ring(incident.id)
    reached("retrain.rung")
    return Outcome(reason, ring)
