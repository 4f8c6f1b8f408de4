"""`driftloop rebase`: the base that the YAML names now is trained on what the champion learned from, and judged.

The base becomes a version of its own, which never serves; its challenger is trained from it as any other. What is
replayed, and what judges, are the champion's rows: the two are compared in bits per byte of the same texts, whatever
their tokenizers. From the offer on every step is the loop's.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.artifacts import file_sha256
from datasets_defs.store.versions import base_of, note_version
from datasets_defs.store.work import work_folder
from training.by_hand import promote
from training.by_hand.bootstrap import base_model
from training.by_hand.promote import PromotionByHand
from training.by_hand.train import STAMP, champion_of, hold_by_hand, run_attempt, unfinished
from training.data.inputs import fresh_since
from training.data.snapshot import MAX_REPLAY_SHARE
from training.data.training_text import training_documents
from training.fit.plan import Progress
from training.model.usable import require_usable
from training.offers.model_files import collect
from training.offers.offering import require_free
from training.registry.manifest import MANIFEST, MANIFEST_SHA256, make_manifest
from training.registry.registry import Registry
from training.trainers.attempt import Attempt
from training.trainers.locks import gpus_here, only_trainer, places_for

BASE = "driftloop.base"
"""Tag of a version that is a base as it came: it was trained on nothing of the model's, and never serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person asks for."""

    actor: str
    reason: str
    now: datetime
    since: datetime | None = None
    """From when on documents are fresh; None: since the open incident, or the champion."""
    over_budget: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebased:
    """What came of it."""

    base: int
    version: int
    promotion: PromotionByHand


def by_hand(
    spec: ModelSpec,
    wish: Wish,
    *,
    db: Engine,
    registry: Registry,
    tell: Callable[[Progress], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> Rebased:
    """Train the YAML's base model on the lineage's rows and the fresh ones, and let the gate judge it.

    Killed anywhere and run again, it goes on with what it finds done. The gate's no leaves the champion as it is; after
    its yes the former champion is where a rollback goes.

    Raises:
        ContractError: the champion descends from this base already, the base cannot be used, somebody is at work on the
            model's incident, or the fleet's GPU-hours do not suffice.
        TransientError: PostgreSQL or the registry is away, or another trainer is at work; run it again.
    """
    ledger = Ledger(db)
    champion = champion_of(ledger, spec.name)
    if base_of(db, spec.name, champion.version) == spec.base_name:
        raise ContractError(
            f"{spec.name}: version {champion.version} descends from {spec.base_name} already; edit `base_model` in "
            f"models/{spec.name}.yaml first, or train it further with `driftloop train {spec.name}`"
        )
    require_free(ledger, spec.name, wish.now)
    say(f"taking in {spec.base_name}")
    base = register_base(spec, db=db, registry=registry, actor=wish.actor, say=say)
    done = _attempt(spec, wish, ledger=ledger, registry=registry, champion=champion, base=base, tell=tell)
    with only_trainer(db, spec.name, places=places_for(spec, db), gpus=gpus_here(spec)) as still_only:
        done = replace(done, hold=lambda: hold_by_hand(db, spec.name, still_only))
        version = run_attempt(done, over_budget=wish.over_budget)
    promotion = promote.by_hand(
        spec.name, version, db=db, actor=wish.actor, reason=wish.reason, force=wish.force, tell=say
    )
    shutil.rmtree(done.folder, ignore_errors=True)
    return Rebased(base=base, version=version, promotion=promotion)


def learning_all(spec: ModelSpec) -> ModelSpec:
    """Give the spec by which a new base learns: all rows of the lineage, and nothing of the base is blended back in."""
    retrain = spec.retrain.model_copy(update={"replay_share": MAX_REPLAY_SHARE, "blend": 1.0})
    return spec.model_copy(update={"retrain": retrain})


def _attempt(
    spec: ModelSpec,
    wish: Wish,
    *,
    ledger: Ledger,
    registry: Registry,
    champion: Champion,
    base: int,
    tell: Callable[[Progress], None],
) -> Attempt:
    """Describe the training, or the one of this base that was begun and not decided on."""
    since = wish.since or fresh_since(ledger, champion)
    begun = Attempt(
        spec=learning_all(spec),
        parent=base,
        lineage=champion.version,
        name=f"rebase-of-v{champion.version}-since-{since:{STAMP}}-at-{wish.now:{STAMP}}",
        key="",
        since=since,
        ledger=ledger,
        registry=registry,
        actor=wish.actor,
        hold=lambda: None,
        tags={"by_hand": "true", "rebased_from": str(champion.version), "base_model": spec.base_name},
        tell=tell,
    )
    return unfinished(begun) or begun


def register_base(
    spec: ModelSpec, *, db: Engine, registry: Registry, actor: str, say: Callable[[str], None] = lambda _: None
) -> int:
    """Make the YAML's base model a version, which never serves; the same files always are the same version.

    Raises:
        ContractError: it cannot be loaded, judged or served.
        TransientError: the registry or the hub is away.
    """
    with work_folder("rebase") as work:
        texts = [] if isinstance(spec.base_model, str) else training_documents(spec)
        made, _ = base_model(spec, texts, work, lambda words, _: say(words))
        made.save(work / "saved")
        folder = collect(work / "saved", work / "model")
        require_usable(folder, spec.base_name)
        make_manifest(folder)
        version = registry.register(
            spec.name,
            folder,
            key=f"{spec.name}|base|{file_sha256(folder / MANIFEST)}",
            tags={BASE: spec.base_name[:500], "actor": actor},
            params={"base_model": spec.base_name[:500]},
            metrics={},
        )
    manifest = registry.tags(spec.name, version)[MANIFEST_SHA256]
    note_version(db, spec.name, version, manifest, actor=actor, base=spec.base_name)
    return version
