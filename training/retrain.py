"""The step that makes a challenger: governor, frozen rows, training that survives its killing, registration."""

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from sqlalchemy import Connection, Engine, func, select, text

from datasets_defs import tables
from datasets_defs.artifacts import artifact_url, read_rows
from datasets_defs.conditions import Outcome, RingKey
from datasets_defs.database import database_errors
from datasets_defs.errors import ContractError, TransientError
from datasets_defs.incidents import Action, Incident, State
from datasets_defs.inference_log import Document, read_documents
from datasets_defs.ledger import Ledger
from datasets_defs.models import ModelSpec, spec_of
from datasets_defs.pauses import pause_of
from datasets_defs.records import GPU_CAPACITY, heartbeats, reference_of
from datasets_defs.settings import settings
from datasets_defs.windows import Window
from training.confirmation import mirrored
from training.fine_tune import Plan, Progress, fine_tune
from training.governor import GovernorEvidence, may_retrain
from training.language_model import LanguageModel
from training.registry import Registry
from training.snapshot import DataBreakError, Snapshot, freeze, stored, text_of

log = logging.getLogger(__name__)
LOCK_PATIENCE_SECONDS = 30.0
"""How long a step waits for a trainer that lost its claim to notice and stop."""


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
    if incident.state is State.OPEN:
        if (paused := pause_of(db, spec.name, datetime.now(UTC))) is not None:
            return Outcome(str(paused))
        refusal = _overtaken(incident, actor, datetime.now(UTC)) or _ask_governor(
            ledger, incident, spec, actor=actor, now=now or datetime.now(UTC)
        )
        if refusal is not None:
            return refusal
    reason = f"training attempt of incident {incident.id}"
    claim = ledger.claim(
        ring, frm={State.OPEN}, to=State.RETRAINING, actor=actor, lease=settings().lease, reason=reason
    )
    if claim.incident is None:
        return Outcome(claim.reason)
    with _only_trainer(db, spec.name):
        return _attempt(ledger, claim.incident, spec, actor=actor)


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
    evidence = GovernorEvidence(
        now=now,
        window_length=settings().window_length,
        last_closed_at=_last_retrained(ledger.engine, spec.name),
        fresh_documents=len(_fresh(ledger.engine, incident, spec, now)),
        attempts=incident.attempt,
        recent_starts=_recent_starts(ledger.engine, spec, now),
        free_gpus=_free_gpus(ledger.engine, now) if spec.retrain.min_free_gpus else None,
    )
    decision = may_retrain(evidence, spec.retrain)
    if decision.go:
        if incident.challenger_version is not None:  # of an earlier attempt: it must not pass for this one's
            ledger.move(incident, State.OPEN, actor=actor, reason=decision.reason, challenger_version=None)
        return None
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
    return Outcome(f"incident {incident.id}: no retrain now: {decision.reason}")


def _attempt(ledger: Ledger, incident: Incident, spec: ModelSpec, *, actor: str) -> Outcome:
    champion = ledger.champion(spec.name)
    if champion is None:
        reason = f"{spec.name} has no champion to train from; run `driftloop bootstrap {spec.name}`"
        ledger.move(incident, State.ESCALATED, actor=actor, reason=reason)
        return Outcome(reason)
    registry = Registry(settings().mlflow_url)
    attempt = Attempt(incident, spec, champion.version, ledger, registry, actor)
    try:
        version = registry.find(spec.name, attempt.key) or _train(attempt)
    except ContractError as err:
        to = State.QUARANTINED if isinstance(err, DataBreakError) else State.ESCALATED
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
    documents = _fresh(db, attempt.incident, spec, datetime.now(UTC))
    parent = attempt.registry.tags(spec.name, attempt.parent)
    replay = read_rows(parent["snapshot_uri"], parent.get("snapshot_sha256")) if "snapshot_uri" in parent else []
    if not replay:
        log.warning("%s version %d names no training snapshot: nothing is replayed", spec.name, attempt.parent)
    profile = reference_of(db, spec.name, attempt.parent)
    reference = read_rows(profile.uri, profile.sha256) if profile is not None else []
    judging = {text_of(row) for row in reference if row["reference"] is not None}
    return freeze(documents, replay, uri=attempt.snapshot_uri, spec=spec, keep_out=judging)


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
        attempt.ledger.renew(attempt.incident, settings().lease)

    return renew


def _fresh(db: Engine, incident: Incident, spec: ModelSpec, now: datetime) -> list[Document]:
    return read_documents(db, spec.name, Window(incident.degraded_since, now), limit=spec.retrain.max_documents)


def _last_retrained(db: Engine, model: str) -> datetime | None:
    """Read when the last retrained incident ended; one that a person resolved lets the loop start afresh at once."""
    table, event = tables.incident.c, tables.incident_event.c
    by_hand = select(event.incident_id).where(
        event.model == model, event.kind == "moved", event.state == State.RESOLVED, event.actor.startswith("cli:")
    )
    query = select(func.max(table.closed_at)).where(table.model == model, table.attempt > 0, table.id.not_in(by_hand))
    with database_errors("reading the last retrained incident"), db.connect() as on:
        closed: datetime | None = on.scalar(query)
    return closed


def _free_gpus(db: Engine, now: datetime) -> float | None:
    """Read what `watch_gpu` last saw; None when that was more than two windows ago, or it could not tell."""
    at, seen = heartbeats(db).get(GPU_CAPACITY, (None, {}))
    if at is None or now - at > 2 * settings().window_length:
        return None
    free: float | None = seen.get("free")
    return free


def _recent_starts(db: Engine, spec: ModelSpec, now: datetime) -> tuple[datetime, ...]:
    """Read when attempts began within the budget's stretch of time, oldest first."""
    event = tables.incident_event.c
    query = (
        select(event.at)
        .where(event.model == spec.name, event.kind == "moved", event.state == State.RETRAINING)
        .where(event.at > now - spec.window_count(spec.retrain.budget.windows))
        .order_by(event.at)
    )
    with database_errors("reading when training attempts began"), db.connect() as on:
        return tuple(on.scalars(query))


@contextmanager
def _only_trainer(db: Engine, model: str) -> Iterator[None]:
    """Hold the model's trainer lock, which PostgreSQL lets go of when this process or its connection dies."""
    names = {"space": "driftloop trainer", "model": model}
    with database_errors("taking the trainer's lock"), db.connect() as opened:
        on = opened.execution_options(isolation_level="AUTOCOMMIT")
        give_up = time.monotonic() + LOCK_PATIENCE_SECONDS
        while not _locked(on, names):
            if time.monotonic() > give_up:
                raise TransientError(f"another trainer of {model} is still at work; this one tries again later")
            time.sleep(0.5)
        try:
            yield
        finally:
            if not on.invalidated:
                on.execute(text("SELECT pg_advisory_unlock(hashtext(:space), hashtext(:model))"), names)


def _locked(on: Connection, names: dict[str, str]) -> bool:
    return bool(on.scalar(text("SELECT pg_try_advisory_lock(hashtext(:space), hashtext(:model))"), names))
