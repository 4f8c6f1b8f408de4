"""What one training works on and with, what it made, and how it says where it stands."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.trainers import CommandTrainer
from datasets_defs.store.artifacts import artifact_url
from datasets_defs.store.heartbeats import beat
from training.data.snapshot import Snapshot
from training.fit.plan import Progress
from training.registry.registry import Registry
from training.trainers.contract import own_folder

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
    make: "Callable[[Attempt, Path, Snapshot], Made] | None" = None
    """Makes the model in another way than by one training; None: the spec's trainer does."""
    lineage: int | None = None
    """Version whose rows are replayed, and whose judges are kept out, where that is not the parent: a new base."""
    trial: int | None = None
    """Number of the setting that is tried, where an attempt tries several."""

    @property
    def snapshot_uri(self) -> str:
        """Where the attempt's frozen rows are."""
        return artifact_url("snapshots", self.spec.name, f"{self.name}.parquet")

    @property
    def folder(self) -> Path:
        """Where checkpoints and the finished model stand until the version is registered."""
        if self.has_container:
            return settings().home / own_folder(self.spec.name, self.name)
        folder = settings().home / "training" / self.spec.name / f"{self.name}-from-v{self.parent}"
        return folder if self.trial is None else folder / f"trial-{self.trial}"

    @property
    def has_container(self) -> bool:
        """Whether a team's own command trains, in a container of its own beside this process."""
        return isinstance(self.spec.trainer, CommandTrainer) and self.spec.trainer.pod is not None

    @property
    def made(self) -> Path:
        """Where the finished model stands."""
        return self.folder / "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a training made, beside the folder of the model; for the registry."""

    seconds: float
    progress: Progress
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    curves: Mapping[str, Sequence[tuple[int, float, float]]]


def watched(attempt: Attempt) -> Callable[[Progress], None]:
    """Give the callback that stops a training whose claim was lost, and says how far it is: log, database, person."""
    logged_at = 0.0

    def watch(progress: Progress) -> None:
        nonlocal logged_at
        attempt.hold()
        say_progress(attempt, progress)
        attempt.tell(progress)
        now = time.monotonic()
        if now - logged_at >= LOG_SECONDS or progress.step == progress.steps:
            log.info("%s: %s", attempt.name, progress)
            logged_at = now

    return watch


def say_progress(attempt: Attempt, progress: Progress, *, at_work: bool = True) -> None:
    """Say how far the training is, for the exporter; with `at_work` false, that it has ended."""
    beat(
        attempt.ledger.engine,
        f"training:{attempt.spec.name}",
        {
            "attempt": attempt.name,
            "at_work": at_work,
            "step": progress.step,
            "steps": progress.steps,
            "loss": progress.loss if math.isfinite(progress.loss) else None,
            "tokens_per_second": progress.tokens_per_second,
            "validation_bits_per_byte": progress.validation,
            "elapsed_seconds": progress.elapsed_seconds,
        },
    )
