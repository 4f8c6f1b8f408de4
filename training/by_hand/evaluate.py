"""Compares two versions of a model as the loop would, and writes nothing."""

from dataclasses import dataclass

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.model import ModelSpec
from training.evaluate import snapshot_of
from training.fit.threads import use_threads
from training.judge.frozen_rows import Rows, gather
from training.judge.power import OLD
from training.judge.scoring import Tick
from training.judge.spreads import spreads_seen
from training.judge.trial import Comparison, Trial, judge
from training.registry.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonByHand:
    """What came of a comparison by hand."""

    champion: int
    challenger: int
    announced: str
    """What the look could see, said before it was taken."""
    judged: Trial


def by_hand(
    spec: ModelSpec, *, db: Engine, registry: Registry, champion: int | None, challenger: int | None, tick: Tick
) -> ComparisonByHand:
    """Judge a challenger by its own held-out rows against a champion; without versions, the newest against the present.

    Raises:
        ContractError: a version is not there, or has no rows to be judged by.
        TransientError: PostgreSQL or the registry is away.
    """
    old, new = _versions(spec, db, registry, champion, challenger)
    snapshot = snapshot_of(registry, spec.name, new)
    known = spreads_seen(db, spec.name)
    asked = Comparison(
        spec=spec,
        champion=old,
        challenger=new,
        rows=Rows("", "", gather(db, spec, snapshot.holdout, old, known=known.get(OLD))),
        snapshot=snapshot,
        known=known,
    )
    announced = asked.plan.reason
    tick(announced, 0.0)
    judged = judge(db, registry, asked, tick=tick, use=use_threads)
    return ComparisonByHand(champion=old, challenger=new, announced=announced, judged=judged)


def _versions(
    spec: ModelSpec, db: Engine, registry: Registry, champion: int | None, challenger: int | None
) -> tuple[int, int]:
    if champion is None:
        present = Ledger(db).champion(spec.name)
        if present is None:
            raise ContractError(f"{spec.name} has no champion; give --champion, or run `driftloop bootstrap` first")
        champion = present.version
    known = registry.versions(spec.name)
    if challenger is None:
        others = [version for version in known if version != champion]
        if not others:
            raise ContractError(f"{spec.name} has no version beside {champion} to compare; train one first")
        challenger = others[0]
    if absent := [version for version in (champion, challenger) if version not in known]:
        listed = ", ".join(map(str, known)) or "none"
        raise ContractError(f"{spec.name} has no version {absent[0]}; there are {listed}")
    if champion == challenger:
        raise ContractError(f"version {champion} cannot be compared with itself; give another --challenger")
    return champion, challenger
