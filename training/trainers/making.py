"""One training, from frozen rows to a registered version: the same for the loop and by hand, whoever trains."""

import logging
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from datasets_defs.core.faults import reached
from datasets_defs.core.windows import Window
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.trainers import CommandTrainer
from datasets_defs.store import versions
from datasets_defs.store.versions import manifest_of, note_version
from training.data.freeze import freeze
from training.data.inputs import inputs_of
from training.data.snapshot import Snapshot, report_uri, stored
from training.fit.ends import begin_from, leave
from training.fit.fine_tune import fine_tune
from training.fit.plan import FitPlan, Result
from training.fit.threads import threads_for, use_threads
from training.fit.trouble import told
from training.model.adapter_files import base_of
from training.prepare.report import sentence
from training.registry.environment import code_version, packages
from training.registry.fetch import fetch
from training.registry.manifest import ADAPTER_OF, MANIFEST_SHA256, adapter_of
from training.trainers.attempt import Attempt, Made, say_progress, watched
from training.trainers.command import by_command
from training.trainers.launcher import Work, launch, processes_of

log = logging.getLogger(__name__)


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
    snapshot = frozen_for(attempt)
    reached("trainer.frozen")
    source = fetch(attempt.ledger.engine, registry, spec.name, attempt.parent)
    made = by_command if isinstance(spec.trainer, CommandTrainer) else by_ours
    done = (attempt.make or made)(attempt, source, snapshot)
    reached("trainer.made")
    attempt.hold()
    attempt.settle(done.seconds)
    reached("trainer.settled")
    say_progress(attempt, done.progress, at_work=False)
    version = registry.register(
        spec.name,
        attempt.made,
        key=attempt.key,
        tags=_tags(attempt, snapshot) | _tags_of_adapter(attempt.made),
        params={**_params(attempt, snapshot), **done.params},
        metrics=done.metrics,
        curves=done.curves,
        files={"environment.txt": packages()},
    )
    reached("trainer.registered")
    return _noted(attempt, version)


def by_ours(attempt: Attempt, source: Path, snapshot: Snapshot) -> Made:
    """Train with the loop's own trainer, in this process or in several."""
    spec = attempt.spec
    texts, epochs = snapshot.mixture(spec.retrain)
    if attempt.lineage is not None:  # a new base knows nothing yet: each row of the lineage is seen in every epoch
        epochs = spec.retrain.epochs
    plan = plan_of(spec, epochs)
    alone = processes_of(spec.trainer) == (1, 1)
    done = _alone(attempt, source, texts, plan, snapshot) if alone else _together(attempt, plan, snapshot)
    return Made(
        seconds=done.elapsed_seconds,
        progress=done,
        params=_params_of_ours(attempt, plan, done),
        metrics={"steps": done.step, "steps_planned": done.steps, "seconds": done.elapsed_seconds},
        curves=done.curve.series(),
    )


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


def _tags_of_adapter(made: Path) -> dict[str, str]:
    base = base_of(made)
    return {} if base is None else {ADAPTER_OF: str(base.version)}


def _noted(attempt: Attempt, version: int) -> int:
    """Keep what the version is, before anybody asks the registry for it."""
    model, registry = attempt.spec.name, attempt.registry
    tags, db = registry.tags(model, version), attempt.ledger.engine
    base = versions.base_of(db, model, attempt.parent)
    sha256, weights_of = tags[MANIFEST_SHA256], adapter_of(tags)
    note_version(db, model, version, sha256, actor=attempt.actor, base=base, adapter_of=weights_of)
    reached("trainer.noted")
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
        merge=not retrain.keeps_adapters,
        row_tokens=retrain.row_tokens,
        forward_tokens=retrain.forward_tokens,
        precision=retrain.precision,
        gradient_checkpointing=retrain.gradient_checkpointing,
        patience=retrain.patience,
    )


def _alone(attempt: Attempt, source: Path, texts: Iterable[str], plan: FitPlan, snapshot: Snapshot) -> Result:
    """Train in this process."""
    with told(plan):
        model = begin_from(source, plan)
        use_threads()
        folder = attempt.folder / "checkpoints"
        done = fine_tune(model, texts, plan, folder, watched(attempt), validation=snapshot.validation)
        shutil.rmtree(attempt.made, ignore_errors=True)  # of a run that died while saving
        leave(model, attempt.made, plan, name=attempt.spec.name, parent=attempt.parent, source=source)
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
    return launch(work, spec, threads=threads, hold=attempt.hold, tell=watched(attempt))


def frozen_for(attempt: Attempt) -> Snapshot:
    """Give the attempt's frozen rows; freeze them unless that was done.

    Raises:
        ContractError: the rows are broken, or nothing is left to train on.
        TransientError: PostgreSQL or the registry is away.
    """
    if (present := stored(attempt.snapshot_uri)) is not None:
        return present
    spec, db = attempt.spec, attempt.ledger.engine
    lineage = attempt.parent if attempt.lineage is None else attempt.lineage
    inputs = inputs_of(db, attempt.registry, spec, lineage, Window(attempt.since, datetime.now(UTC)))
    snapshot = freeze(
        inputs.documents,
        inputs.replay,
        uri=attempt.snapshot_uri,
        spec=spec,
        names=inputs.names,
        keep_out=inputs.judging,
        first_heard=inputs.first_heard,
    )
    log.info("%s: snapshot %s: %s", attempt.name, snapshot.sha256[:12], sentence(snapshot.report))
    return snapshot


def _params(attempt: Attempt, snapshot: Snapshot) -> dict[str, Any]:
    """Give what holds of every training, whoever trains."""
    rows = {f"rows_{part}": count for part, count in sorted(snapshot.counts.items())}
    return {
        **_flat(attempt.spec.retrain.model_dump()),
        **rows,
        "snapshot_sha256": snapshot.sha256,
        "parent_version": attempt.parent,
    }


def _params_of_ours(attempt: Attempt, plan: FitPlan, done: Result) -> dict[str, Any]:
    import torch

    return {
        **_flat({"trainer": attempt.spec.trainer.model_dump(include={"kind", "processes", "nodes", "sharding"})}),
        "learning_rate": done.learning_rate,
        "epochs_of_mixture": plan.epochs,
        "trained_parameters": done.trained_parameters,
        "filled_share": done.filled_share,
        "stopped": done.stopped or "at the last step",
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "threads": threads_for(processes_of(attempt.spec.trainer)[1]),
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
