"""The step that makes a challenger: governor, frozen rows, training that survives its killing, registration."""

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from sqlalchemy import Engine

from datasets_defs.artifacts import artifact_url, read_rows
from datasets_defs.conditions import Outcome, RingKey
from datasets_defs.errors import ContractError
from datasets_defs.incidents import Incident, State
from datasets_defs.ledger import Ledger
from datasets_defs.models import ModelSpec, spec_of
from datasets_defs.records import reference_of
from datasets_defs.settings import settings
from datasets_defs.windows import Window
from training.begin import begin
from training.budget import settle
from training.confirmation import mirrored
from training.fine_tune import Plan, Progress, fine_tune
from training.language_model import LanguageModel
from training.only_trainer import only_trainer
from training.prepare_report import sentence
from training.registry import Registry
from training.snapshot import DataBreakError, Snapshot, freeze, report_uri, stored, text_of
from training.snapshot_inputs import fresh_documents, golden_texts

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One training attempt: what it works on and with."""

    incident: Incident
    spec: ModelSpec
    parent: int
    """Champion version that the challenger starts from."""
    ledger: Ledger
    registry: Registry
    actor: str
    still_only: Callable[[], None]
    """Raises once this is no longer the model's only trainer for sure."""

    @property
    def name(self) -> str:
        """Name of the attempt in artifacts and folders."""
        return f"incident-{self.incident.id}-attempt-{self.incident.attempt}"

    @property
    def key(self) -> str:
        """Key of the challenger's version in the registry."""
        return f"{self.spec.name}|{self.incident.id}|{self.incident.attempt}"

    @property
    def snapshot_uri(self) -> str:
        """Where the attempt's frozen rows are."""
        return artifact_url("snapshots", self.spec.name, f"{self.name}.parquet")

    @property
    def folder(self) -> Path:
        """Where checkpoints and the finished model stand until the version is registered."""
        return settings().home / "training" / self.spec.name / f"{self.name}-from-v{self.parent}"


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
    attempt = Attempt(incident, spec, champion.version, ledger, registry, actor, still_only)
    try:
        version = registry.find(spec.name, attempt.key) or _train(attempt)
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


def _train(attempt: Attempt) -> int:
    spec, registry = attempt.spec, attempt.registry
    snapshot = stored(attempt.snapshot_uri) or _freeze(attempt)
    parent = LanguageModel.load(registry.download(spec.name, attempt.parent, settings().home / "cache"))
    texts, epochs = snapshot.mixture(spec.retrain)
    use_threads()
    done = fine_tune(parent, texts, plan_of(spec, epochs), attempt.folder / "checkpoints", _renewing(attempt))
    attempt.still_only()
    attempt.ledger.renew(attempt.incident, settings().lease)
    settle(attempt.ledger.engine, attempt.incident, spec, done.elapsed_seconds)
    made = attempt.folder / "model"
    shutil.rmtree(made, ignore_errors=True)  # of a run that died while saving
    parent.save(made)
    counts = snapshot.counts
    return registry.register(
        spec.name,
        made,
        key=attempt.key,
        tags={
            "snapshot_uri": snapshot.uri,
            "snapshot_sha256": snapshot.sha256,
            "data_report_uri": report_uri(snapshot.uri),
            "data": sentence(snapshot.report)[:500],
            "parent_version": str(attempt.parent),
            "incident": str(attempt.incident.id),
            "attempt": str(attempt.incident.attempt),
            "code_version": metadata.version("driftloop"),
            "actor": attempt.actor,
        },
        params={**spec.retrain.model_dump(), **{f"rows_{part}": count for part, count in sorted(counts.items())}},
        metrics={"steps": done.step, "steps_planned": done.steps, "seconds": done.elapsed_seconds, "loss": done.loss},
    )


def _freeze(attempt: Attempt) -> Snapshot:
    spec, db = attempt.spec, attempt.ledger.engine
    documents = fresh_documents(db, spec, Window(attempt.incident.degraded_since, datetime.now(UTC)))
    parent = attempt.registry.tags(spec.name, attempt.parent)
    replay = read_rows(parent["snapshot_uri"], parent.get("snapshot_sha256")) if "snapshot_uri" in parent else []
    if not replay:
        log.warning("%s version %d names no training snapshot: nothing is replayed", spec.name, attempt.parent)
    profile = reference_of(db, spec.name, attempt.parent)
    reference = read_rows(profile.uri, profile.sha256) if profile is not None else []
    judging = {text_of(row) for row in reference if row["reference"] is not None} | golden_texts(spec)
    snapshot = freeze(documents, replay, uri=attempt.snapshot_uri, spec=spec, keep_out=judging)
    log.info("%s: snapshot %s: %s", attempt.name, snapshot.sha256[:12], sentence(snapshot.report))
    return snapshot


def plan_of(spec: ModelSpec, epochs: float) -> Plan:
    """Give the training plan that a spec's retrain section asks for, over this many epochs."""
    retrain = spec.retrain
    return Plan(
        epochs=epochs,
        learning_rate=retrain.learning_rate,
        batch_tokens=retrain.batch_tokens,
        max_seconds=retrain.max_seconds,
        checkpoint_seconds=retrain.checkpoint_seconds,
        seed=retrain.seed,
        blend=retrain.blend,
    )


def use_threads() -> None:
    """Leave one core to serving and the sensors; on two cores, two threads in contention are slower than one."""
    import torch

    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) - 1))


def _renewing(attempt: Attempt) -> Callable[[Progress], None]:
    """Give the callback that holds the claim during a training, and stops it once another run took over."""

    def renew(progress: Progress) -> None:
        log.info("%s: step %d of %d, loss %.3f", attempt.name, progress.step, progress.steps, progress.loss)
        attempt.still_only()
        attempt.ledger.renew(attempt.incident, settings().lease)

    return renew
