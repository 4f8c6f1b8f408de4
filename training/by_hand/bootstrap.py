"""The first champion: made from scratch or taken as it is, registered with its reference, and set up to be watched."""

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.model import FromScratch, ModelSpec
from datasets_defs.store.artifacts import artifact_url, write_named_rows, write_rows
from datasets_defs.store.gpu_charges import settle
from datasets_defs.store.references import ReferenceProfile, save_reference
from datasets_defs.store.versions import note_version
from training.data.training_text import Passage, cut_passages, heldout_documents, training_documents
from training.fit.fine_tune import fine_tune
from training.fit.plan import FitPlan, Progress
from training.fit.threads import use_threads
from training.limits.budget import charge_by_hand, of_training
from training.model.baseline import baseline
from training.model.language_model import LanguageModel
from training.registry.card import refresh
from training.registry.fetch import fetch
from training.registry.manifest import MANIFEST_SHA256
from training.registry.registry import WARNING, Registry

ACTOR = "bootstrap"
MOST_REFERENCE_ROWS = 1000
MOST_SNAPSHOT_ROWS = 20_000
SCRATCH = FitPlan(
    epochs=6,
    learning_rate=3e-3,
    batch_tokens=1024,
    max_seconds=60,
    checkpoint_seconds=10,
)
"""Training from scratch, tuned for small models; the spec's `train_seconds` replaces `max_seconds`."""


def first_champion(
    spec: ModelSpec,
    *,
    db: Engine,
    registry: Registry,
    progress: Callable[[str, float], None] = lambda *_: None,
    warn: Callable[[str], None] = lambda _: None,
) -> int:
    """Make the model's first champion and give its version; with a champion in place, give that one's.

    Killed anywhere and run again, it finds what is done and goes on. `progress` gets words and a share, 0..1. One that
    was trained here and learned next to nothing becomes champion all the same; `warn`, its card and the history say so.

    Raises:
        ContractError: the base model or its training text is wrong, or the fleet's GPU-hours do not suffice.
        TransientError: PostgreSQL or the registry is away.
    """
    ledger, key = Ledger(db), f"{spec.name}|bootstrap"
    if (present := ledger.champion(spec.name)) is not None:
        progress("already there", 1.0)
        return present.version
    version = registry.find(spec.name, key)
    if version is None:
        version = _register(spec, db, registry, key, progress)
    manifest = registry.tags(spec.name, version)[MANIFEST_SHA256]
    note_version(db, spec.name, version, manifest, actor=ACTOR, base=spec.base_name)
    progress("measuring the reference", 0.92)
    warning = _save_reference(spec, db, registry, version)
    reason = "first champion"
    if warning:
        warn(warning)
        reason = f"{reason}; {warning}"
    champion = ledger.change_champion(
        spec.name, expected=None, to=version, kind="bootstrap", reason=reason, actor=ACTOR
    )
    registry.sync_aliases(spec.name, champion=champion.version, previous=None, challenger=None)
    progress("writing its card", 0.98)
    refresh(db, registry, spec.name, version)
    progress("ready", 1.0)
    return version


def _register(spec: ModelSpec, db: Engine, registry: Registry, key: str, progress: Callable[[str, float], None]) -> int:
    if isinstance(spec.base_model, FromScratch):
        charge_by_hand(db, of_training(key, spec, spec.base_model.train_seconds))
    folder = settings().home / "training" / spec.name / "bootstrap"
    texts = training_documents(spec)
    rows = [
        {"part": "train", "request_id": f"{spec.name}-{number}", "prompt": cut.prompt, "reference": cut.continuation}
        for number, cut in enumerate(_passages(texts, MOST_SNAPSHOT_ROWS))
    ]
    uri = artifact_url("snapshots", spec.name, "bootstrap.parquet")
    sha256 = write_rows(uri, rows)
    model, metrics = base_model(spec, texts, folder, progress)
    if isinstance(spec.base_model, FromScratch):
        settle(db, of_training(key, spec, spec.base_model.train_seconds), metrics["seconds"])
    made = folder / "model"
    shutil.rmtree(made, ignore_errors=True)
    model.save(made)
    progress("registering", 0.9)
    base = "scratch" if isinstance(spec.base_model, FromScratch) else spec.base_model
    version = registry.register(
        spec.name,
        made,
        key=key,
        tags={"snapshot_uri": uri, "snapshot_sha256": sha256, "actor": ACTOR},
        params={"base_model": base, "training_text": spec.training_text, "rows_train": len(rows)},
        metrics=metrics,
    )
    shutil.rmtree(folder, ignore_errors=True)
    return version


def base_model(
    spec: ModelSpec, texts: list[str], folder: Path, progress: Callable[[str, float], None]
) -> tuple[LanguageModel, dict[str, float]]:
    """Give the YAML's base model, and the figures of its making where it is made from scratch on `texts`."""
    if isinstance(spec.base_model, str):
        progress(f"loading {spec.base_model}", 0.1)
        return LanguageModel.load(spec.base_model), {}
    seconds = spec.base_model.train_seconds

    def tell(done: Progress) -> None:
        share = max(done.share, min(1.0, done.elapsed_seconds / seconds))
        progress(f"training, step {done.step} of {done.steps}, loss {done.loss:.2f}", 0.9 * share)

    use_threads()
    model = LanguageModel.scratch(spec.base_model, texts)
    done = fine_tune(model, texts, replace(SCRATCH, max_seconds=seconds), folder / "checkpoints", tell)
    return model, {"steps": done.step, "seconds": done.elapsed_seconds, "loss": done.loss}


def _save_reference(spec: ModelSpec, db: Engine, registry: Registry, version: int) -> str:
    """Store what the version's traffic is compared with; give a warning if it was trained here, and barely so."""
    model = LanguageModel.load(fetch(db, registry, spec.name, version))
    cuts = _passages(heldout_documents(spec), MOST_REFERENCE_ROWS)
    losses = model.losses([cut.prompt for cut in cuts])
    own = isinstance(spec.base_model, FromScratch)
    rows: list[dict[str, Any]] = [
        {
            "request_id": f"{spec.name}-heldout-{number}",
            "prompt": cut.prompt,
            "reference": cut.continuation,
            "prompt_bits_per_byte": loss.bits_per_byte,
            "role": "recent" if own else "anchor",  # another's model: what its traffic is like, its log will tell
        }
        for number, (cut, loss) in enumerate(zip(cuts, losses, strict=True))
    ]
    uri, sha256 = write_named_rows(artifact_url("references", spec.name, f"v{version}"), rows)
    source = f"held-out part of {spec.training_text}"
    save_reference(
        db,
        ReferenceProfile(model=spec.name, version=version, uri=uri, sha256=sha256, rows=len(rows), source=source),
    )
    if not isinstance(spec.base_model, FromScratch):
        return ""
    mean = sum(loss.bits for loss in losses) / sum(loss.bytes for loss in losses)
    measured = baseline(model, mean, training_documents(spec), [cut.prompt for cut in cuts])
    registry.log_evaluation(spec.name, version, metrics=measured.metrics, files={})
    if measured.is_trained:
        return ""
    warning = (
        f"version {version} is barely trained: {measured}. Give `base_model.train_seconds` "
        f"({spec.base_model.train_seconds:g} s) more time"
    )
    registry.set_tags(spec.name, version, {WARNING: warning})
    return warning


def _passages(texts: list[str], most: int) -> list[Passage]:
    """Cut texts into passages, in an order that is the same every time and mixes the texts."""
    rng = random.Random(0)
    cuts = [cut for text in texts for cut in cut_passages(text, rng)]
    rng.shuffle(cuts)
    return cuts[:most]
