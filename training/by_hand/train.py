"""Trains a challenger by hand, as the loop would; no incident is touched and no version changes its place."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.retirements import require_active
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.gpu_charges import settle
from training.data.inputs import fresh_since
from training.fit.plan import Progress
from training.limits.budget import charge_by_hand, of_training
from training.registry.registry import Registry
from training.trainers.attempt import Attempt
from training.trainers.locks import gpus_here, only_trainer, places_for
from training.trainers.making import train

STAMP = "%Y%m%dT%H%M%S"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came of a training by hand."""

    version: int
    parent: int
    snapshot_uri: str


def by_hand(
    spec: ModelSpec,
    *,
    db: Engine,
    registry: Registry,
    since: datetime | None,
    now: datetime,
    actor: str,
    over_budget: bool = False,
    tell: Callable[[Progress], None] = lambda _: None,
) -> Trained:
    """Train a challenger on what the log holds from `since` on; unless given, since the open incident or the champion.

    Interrupted and asked for again from the same time, it goes on where it stopped, with the rows that it froze.

    Raises:
        ContractError: the model is retired or has no champion, its data or the fleet's GPU-hours do not suffice.
        TransientError: PostgreSQL or the registry is away, another trainer of the model is at work, or no GPU is free.
    """
    ledger = Ledger(db)
    champion = champion_of(ledger, spec.name)
    since = since or fresh_since(ledger, champion)
    with only_trainer(db, spec.name, places=places_for(spec, db), gpus=gpus_here(spec)) as still_only:
        begun = Attempt(
            spec=spec,
            parent=champion.version,
            name=f"by-hand-since-{since:{STAMP}}-at-{now:{STAMP}}",
            key="",
            since=since,
            ledger=ledger,
            registry=registry,
            actor=actor,
            hold=lambda: hold_by_hand(db, spec.name, still_only),
            tags={"by_hand": "true"},
            tell=tell,
        )
        attempt = unfinished(begun) or begun
        version = run_attempt(attempt, over_budget=over_budget)
        shutil.rmtree(attempt.folder, ignore_errors=True)
    return Trained(version=version, parent=attempt.parent, snapshot_uri=attempt.snapshot_uri)


def champion_of(ledger: Ledger, model: str) -> Champion:
    """Give the champion that a training by hand follows.

    Raises:
        ContractError: there is none, or the model is retired.
    """
    require_active(ledger.engine, model)
    if (champion := ledger.champion(model)) is None:
        raise ContractError(f"{model} has no champion to train from; run `driftloop bootstrap {model}` first")
    return champion


def hold_by_hand(db: Engine, model: str, still_only: Callable[[], None]) -> None:
    """Stop the training once its locks are lost, or its model was retired."""
    still_only()
    require_active(db, model)


def run_attempt(attempt: Attempt, *, over_budget: bool) -> int:
    """Train, and give the registered version; the fleet's budget pays it, once. The folder stays."""
    attempt = replace(attempt, key=f"{attempt.spec.name}|{attempt.name}")
    db, charged = attempt.ledger.engine, of_training(attempt.key, attempt.spec, attempt.spec.retrain.max_seconds)
    try:
        charge_by_hand(db, charged, at_any_price=over_budget)
    except ContractError as err:
        raise ContractError(f"{err}, or add `--over-budget`: the training then counts all the same") from err
    attempt = replace(attempt, settle=partial(settle, db, charged))
    attempt.folder.mkdir(parents=True, exist_ok=True)
    return train(attempt)


def unfinished(attempt: Attempt) -> Attempt | None:
    """Find the newest training by hand from the same version and time that did not come to its end."""
    beginning, end = attempt.name.partition("-at-")[0], f"-from-v{attempt.parent}"
    folder: Path = settings().home / "training" / attempt.spec.name
    names = sorted(path.name.removesuffix(end) for path in folder.glob(f"{beginning}-at-*{end}"))
    return replace(attempt, name=names[-1]) if names else None
