"""`driftloop offer`: a version that others made, taken in and given rows to be judged by, then promoted by the gate."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.retirements import require_active
from datasets_defs.spec.model import ModelSpec
from training.by_hand import promote
from training.by_hand.promote import PromotionByHand
from training.data.inputs import fresh_since
from training.offers.judging_rows import NOTHING_SAID, Basis, JudgingRows, freeze_judging
from training.offers.taking import take
from training.registry.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferByHand:
    """What came of an offer."""

    version: int
    judged_by: JudgingRows | None
    """None: by the rows that were held out when the loop trained it, or by those of an earlier try."""
    promotion: PromotionByHand


def by_hand(
    spec: ModelSpec,
    what: Path | int,
    *,
    db: Engine,
    actor: str,
    reason: str,
    basis: Basis = NOTHING_SAID,
    force: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> OfferByHand:
    """Judge a folder's model, or a version in the registry, as the loop judges its own; promote it on the gate's yes.

    The rows that judge it are the log's since the open incident began, or since the champion serves. `basis` says what
    the version may know of them; where it says nothing the gate's yes waits for a person. Killed anywhere and run
    again, it goes on with what it finds done.

    Raises:
        ContractError: the model cannot be judged or served, the log holds too few rows, or somebody is at work on the
            model's incident.
        TransientError: PostgreSQL or the registry is away; run it again.
    """
    ledger, registry = Ledger(db), Registry(settings().mlflow_url)
    require_active(db, spec.name)
    champion = ledger.champion(spec.name)
    if champion is None:
        raise ContractError(f"{spec.name} has no champion to replace; run `driftloop bootstrap {spec.name}`")
    taken = take(db, registry, spec, what, champion=champion.version, actor=actor, tell=tell)
    judged_by = None
    is_known = taken.version == champion.version or _is_under_way(ledger, spec.name, taken.version)
    if not is_known and not (taken.is_own and basis == NOTHING_SAID):
        tell("freezing the rows that judge it")
        judged_by = freeze_judging(db, spec, champion.version, since=fresh_since(ledger, champion), basis=basis)
    promotion = promote.by_hand(
        spec.name, taken.version, db=db, actor=actor, reason=reason, force=force, judged_by=judged_by, tell=tell
    )
    return OfferByHand(version=taken.version, judged_by=judged_by, promotion=promotion)


def _is_under_way(ledger: Ledger, model: str, version: int) -> bool:
    """Say whether the version was offered before and is not decided on: its rows are frozen."""
    incident = ledger.open_of(model)
    return incident is not None and promote.is_of(incident, version)
