"""One training, from frozen rows to a registered version: the same for the loop and by hand."""

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from datasets_defs.core.settings import settings
from datasets_defs.core.windows import Window
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.artifacts import artifact_url
from datasets_defs.store.heartbeats import beat
from datasets_defs.store.versions import manifest_of, note_version
from training.data.freeze import freeze
from training.data.inputs import inputs_of
from training.data.snapshot import Snapshot, report_uri, stored
from training.fit.fine_tune import fine_tune
from training.fit.plan import FitPlan, Progress, Result
from training.fit.threads import threads_for, use_threads
from training.model.language_model import LanguageModel
from training.prepare.report import sentence
from training.registry.environment import code_version, packages
from training.registry.fetch import fetch
from training.registry.manifest import MANIFEST_SHA256
from training.registry.registry import Registry
from training.trainers.launcher import Work, launch, processes_of

log = logging.getLogger(__name__)
LOG_SECONDS = 10.0
"""Time between two lines of the log on a training's progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What a training works on and with."""

    spec: ModelSpec
    parent: int
    """Version that the challenger starts from."""
    name: str
    """Of the attempt in artifacts and folders."""
    key: str
    """Of the challenger's version in the registry."""
    since: datetime
    """Documents of the log from here on are fresh."""
    ledger: Ledger
    registry: Registry
    actor: str
    hold: Callable[[], None]
    """Raises once this trainer must stop; called every few seconds and before each write."""
    settle: Callable[[float], None] = lambda _: None
    """Called with the seconds that were trained, before the version is registered."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Of the version, beside those that every version has."""
    tell: Callable[[Progress], None] = lambda _: None
    """Called every few seconds, for a person who looks on."""

    @property
    def snapshot_uri(self) -> str:
        """Where the attempt's frozen rows are."""
        return artifact_url("snapshots", self.spec.name, f"{self.name}.parquet")

    @property
    def folder(self) -> Path:
        """Where checkpoints and the finished model stand until the version is registered."""
        return settings().home / "training" / self.spec.name / f"{self.name}-from-v{self.parent}"

    @property
    def made(self) -> Path:
        """Where the finished model stands."""
        return self.folder / "model"


def train(attempt: Attempt) -> int:
    """Freeze the rows, fine-tune the parent on them, register the result; give its version.

    Killed anywhere and run again, it goes on from its last checkpoint with the rows it froze, to the same version.

    Raises:
        ContractError: the data or the spec is wrong, or another trainer took over.
        TransientError: PostgreSQL or the registry is away.
    """
    spec, registry = attempt.spec, attempt.registry
    if (known := registry.find(spec.name, attempt.key)) is not None:
        return _noted(attempt, known)
    snapshot = stored(attempt.snapshot_uri) or _freeze(attempt)
    source = fetch(attempt.ledger.engine, registry, spec.name, attempt.parent)
    texts, epochs = snapshot.mixture(spec.retrain)
    plan = plan_of(spec, epochs)
    alone = processes_of(spec.trainer) == (1, 1)
    done = _alone(attempt, source, texts, plan, snapshot) if alone else _together(attempt, plan, snapshot)
    attempt.hold()
    attempt.settle(done.elapsed_seconds)
    _beat(attempt, done, at_work=False)
    version = registry.register(
        spec.name,
        attempt.made,
        key=attempt.key,
        tags=_tags(attempt, snapshot),
        params=_params(attempt, snapshot, plan, done),
        metrics={"steps": done.step, "steps_planned": done.steps, "seconds": done.elapsed_seconds},
        curves=done.curve.series(),
        files={"environment.txt": packages()},
    )
    return _noted(attempt, version)


def _tags(attempt: Attempt, snapshot: Snapshot) -> dict[str, str]:
    """Say, with the version, what it was made of, from which version, by which code and by whom."""
    return {
        "snapshot_uri": snapshot.uri,
        "snapshot_sha256": snapshot.sha256,
        "data_report_uri": report_uri(snapshot.uri),
        "data": sentence(snapshot.report)[:500],
        "parent_version": str(attempt.parent),
        "code_version": code_version(),
        "actor": attempt.actor,
        **attempt.tags,
    }


def _noted(attempt: Attempt, version: int) -> int:
    """Keep what the version is, before anybody asks the registry for it."""
    model, registry = attempt.spec.name, attempt.registry
    manifest = registry.tags(model, version)[MANIFEST_SHA256]
    note_version(attempt.ledger.engine, model, version, manifest, actor=attempt.actor)
    return version


def plan_of(spec: ModelSpec, epochs: float) -> FitPlan:
    """Give the training plan that a spec's retrain section asks for, over this many epochs."""
    retrain = spec.retrain
    return FitPlan(
        epochs=epochs,
        learning_rate=retrain.learning_rate,
        batch_tokens=retrain.batch_tokens,
        max_seconds=retrain.max_seconds,
        checkpoint_seconds=retrain.checkpoint_seconds,
        seed=retrain.seed,
        blend=retrain.blend,
        method=retrain.method,
        rank=retrain.lora.rank,
        alpha=retrain.lora.alpha,
        embeddings=retrain.lora.embeddings,
        row_tokens=retrain.row_tokens,
        forward_tokens=retrain.forward_tokens,
        precision=retrain.precision,
        gradient_checkpointing=retrain.gradient_checkpointing,
        patience=retrain.patience,
    )


def _alone(attempt: Attempt, source: Path, texts: Iterable[str], plan: FitPlan, snapshot: Snapshot) -> Result:
    """Train in this process."""
    model = LanguageModel.load(source)
    use_threads()
    folder = attempt.folder / "checkpoints"
    done = fine_tune(model, texts, plan, folder, _watched(attempt), validation=snapshot.validation)
    shutil.rmtree(attempt.made, ignore_errors=True)  # of a run that died while saving
    model.save(attempt.made)
    return done


def _together(attempt: Attempt, plan: FitPlan, snapshot: Snapshot) -> Result:
    """Train in several processes, and watch them here."""
    spec = attempt.spec
    work = Work(
        spec=spec.model_dump(mode="json"),
        parent=attempt.parent,
        parent_sha256=manifest_of(attempt.ledger.engine, spec.name, attempt.parent) or "",
        snapshot_uri=snapshot.uri,
        plan=asdict(plan),
        folder=str(attempt.folder.resolve()),
        made=str(attempt.made.resolve()),
    )
    threads = threads_for(processes_of(spec.trainer)[1])
    return launch(work, spec, threads=threads, hold=attempt.hold, tell=_watched(attempt))


def _freeze(attempt: Attempt) -> Snapshot:
    spec, db = attempt.spec, attempt.ledger.engine
    found = inputs_of(db, attempt.registry, spec, attempt.parent, Window(attempt.since, datetime.now(UTC)))
    snapshot = freeze(
        found.documents,
        found.replay,
        uri=attempt.snapshot_uri,
        spec=spec,
        names=found.names,
        keep_out=found.judging,
    )
    log.info("%s: snapshot %s: %s", attempt.name, snapshot.sha256[:12], sentence(snapshot.report))
    return snapshot


def _watched(attempt: Attempt) -> Callable[[Progress], None]:
    """Give the callback that stops a training whose claim was lost, and says how far it is: log, database, person."""
    said = 0.0

    def watch(progress: Progress) -> None:
        nonlocal said
        attempt.hold()
        _beat(attempt, progress)
        attempt.tell(progress)
        now = time.monotonic()
        if now - said >= LOG_SECONDS or progress.step == progress.steps:
            log.info("%s: %s", attempt.name, progress)
            said = now

    return watch


def _beat(attempt: Attempt, progress: Progress, *, at_work: bool = True) -> None:
    """Say how far the training is, for the exporter; with `at_work` false, that it has ended."""
    beat(
        attempt.ledger.engine,
        f"training:{attempt.spec.name}",
        {
            "attempt": attempt.name,
            "at_work": at_work,
            "step": progress.step,
            "steps": progress.steps,
            "loss": progress.loss,
            "tokens_per_second": progress.tokens_per_second,
            "validation_bits_per_byte": progress.validation,
            "elapsed_seconds": progress.elapsed_seconds,
        },
    )


def _params(attempt: Attempt, snapshot: Snapshot, plan: FitPlan, done: Result) -> dict[str, Any]:
    import torch

    rows = {f"rows_{part}": count for part, count in sorted(snapshot.counts.items())}
    return {
        **_flat(attempt.spec.retrain.model_dump()),
        **_flat({"trainer": attempt.spec.trainer.model_dump(include={"kind", "processes", "nodes", "sharding"})}),
        **rows,
        "snapshot_sha256": snapshot.sha256,
        "parent_version": attempt.parent,
        "learning_rate": done.learning_rate,
        "epochs_of_mixture": plan.epochs,
        "trained_parameters": done.trained_parameters,
        "filled_share": done.filled_share,
        "stopped": done.stopped or "at the last step",
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "threads": threads_for(processes_of(attempt.spec.trainer)[1]),
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found
