"""The step that makes a challenger: governor, frozen rows, training that survives its killing, registration."""

import shutil
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Engine

from datasets_defs.conditions import Outcome, RingKey
from datasets_defs.errors import ContractError
from datasets_defs.incidents import Incident, State
from datasets_defs.ledger import Ledger
from datasets_defs.models import ModelSpec, spec_of
from datasets_defs.settings import settings
from training.attempt import Attempt, train
from training.begin import begin
from training.budget import settle
from training.confirmation import mirrored
from training.only_trainer import only_trainer
from training.registry import Registry
from training.snapshot import DataBreakError


def run(key: str, *, db: Engine, actor: str, now: datetime | None = None) -> Outcome:
    """Train a challenger for the wake-up's incident and register it; the ring is for its evaluation.

    Killed anywhere and run again, it goes on from its last checkpoint with the rows it froze, to the same version.

    Raises:
        ContractError: the key or the spec is wrong, or another run took over.
        TransientError: PostgreSQL, the registry, or another trainer's end has to be waited for.
    """
    ring, ledger = RingKey.parse(key), Ledger(db)
    spec, incident = spec_of(ring.model), ledger.incident(ring.incident_id)
    if incident.state is State.RETRAINING and incident.challenger_version is not None:
        return Outcome(f"version {incident.challenger_version} stands registered", ledger.ring(incident.id))
    begun = begin(ring, db=db, actor=actor, now=now)
    if isinstance(begun, Outcome):
        return begun
    with only_trainer(db, spec.name) as still_only:
        return _attempt(ledger, begun, spec, actor=actor, still_only=still_only)


def _attempt(
    ledger: Ledger, incident: Incident, spec: ModelSpec, *, actor: str, still_only: Callable[[], None]
) -> Outcome:
    champion = ledger.champion(spec.name)
    if champion is None:
        reason = f"{spec.name} has no champion to train from; run `driftloop bootstrap {spec.name}`"
        ledger.move(incident, State.ESCALATED, actor=actor, reason=reason)
        return Outcome(reason)
    registry = Registry(settings().mlflow_url)

    def hold() -> None:
        still_only()
        ledger.renew(incident, settings().lease)

    attempt = Attempt(
        spec=spec,
        parent=champion.version,
        name=f"incident-{incident.id}-attempt-{incident.attempt}",
        key=f"{spec.name}|{incident.id}|{incident.attempt}",
        since=incident.degraded_since,
        ledger=ledger,
        registry=registry,
        actor=actor,
        hold=hold,
        settle=lambda seconds: settle(ledger.engine, incident, spec, seconds),
        tags={"incident": str(incident.id), "attempt": str(incident.attempt)},
    )
    try:
        version = train(attempt)
    except ContractError as err:
        to = State.QUARANTINED if isinstance(err, DataBreakError) else State.ESCALATED
        if to is State.QUARANTINED:
            settle(ledger.engine, incident, spec, 0)  # no step was trained on these rows
        ledger.move(incident, to, actor=actor, reason=f"training attempt {incident.attempt}: {err}")
        return Outcome(str(err))
    reason = f"challenger version {version}, trained from version {champion.version}, is registered"
    ledger.move(incident, State.RETRAINING, actor=actor, reason=reason, challenger_version=version)
    shutil.rmtree(attempt.folder, ignore_errors=True)
    mirrored(registry, champion, challenger=version)
    return Outcome(reason, ledger.ring(incident.id))
