"""A person's version made champion: offered in the ledger, then judged, promoted and watched like the loop's own.

The offer is the challenger of the model's incident, or of one of its own. Once it stands, every step is the loop's, and
the loop finishes it should this process die.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine

from datasets_defs.core.conditions import RingKey
from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import Incident, State
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.retirements import require_active
from training import evaluate, promote
from training.champions.confirmation import why_never_again
from training.offers.judging_rows import JudgingRows
from training.offers.offering import FREE, Offering, offer
from training.registry.registry import Registry

_JUDGED = (State.RETRAINING, State.EVALUATING)
_ACCEPTED = (State.APPROVING, State.ROLLOUT, State.PROMOTING)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionByHand:
    """What came of an offer."""

    is_champion: bool
    reason: str
    ring: RingKey | None = None
    """For what follows a change of champion."""


def by_hand(
    model: str,
    version: int,
    *,
    db: Engine,
    actor: str,
    reason: str,
    force: bool = False,
    judged_by: JudgingRows | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> PromotionByHand:
    """Judge a version against the champion, and make it champion if the gate lets it, or by force.

    It is judged by its own held-out rows, or by those in `judged_by`; where it may know these, the gate's yes waits for
    a person. Force passes over the gate's no, never over an evaluation that failed or over an earlier rollback. Killed
    anywhere and run again, it goes on with what it finds done; once done, doing it again changes nothing.

    Raises:
        ContractError: the version is not there or may not serve, or somebody is at work on the model's incident.
        TransientError: PostgreSQL or the registry is away; run it again.
    """
    ledger = Ledger(db)
    incident, champion = ledger.open_of(model), ledger.champion(model)
    if incident is None or not is_of(incident, version):
        if champion is not None and champion.version == version:
            return PromotionByHand(is_champion=True, reason=f"version {version} is the champion of {model} already")
        _require_promotable(ledger, model, version, judged_by)
        what = Offering(model=model, version=version, actor=actor, reason=reason, force=force,
                        judged_by=judged_by)  # fmt: skip
        incident = offer(ledger, what)
    if incident.state in _JUDGED:
        tell(f"judging version {version}")
        incident, judgement = _judged(ledger, incident, actor=actor)
        if not incident.approved:
            return PromotionByHand(is_champion=False, reason=_over(ledger, incident, judgement, actor=actor))
    tell(f"waiting until serving reports version {version}")
    outcome = promote.promote(str(ledger.ring(incident.id)), db=db, actor=actor, by_hand=True)
    if outcome.ring is None and ledger.incident(incident.id).state is State.PROMOTING:
        raise ContractError(f"{outcome.reason}; it goes on there: `driftloop incident show {incident.id}`")
    return PromotionByHand(is_champion=outcome.ring is not None, reason=outcome.reason, ring=outcome.ring)


def _judged(ledger: Ledger, incident: Incident, *, actor: str) -> tuple[Incident, str]:
    """Evaluate the offer; give the incident afterwards, approved if the version may go ahead, and what was said."""
    judgement = evaluate.evaluate(str(ledger.ring(incident.id)), db=ledger.engine, actor=actor, by_hand=True).reason
    after = ledger.incident(incident.id)
    if after.state in _JUDGED:
        raise ContractError(f"{judgement}; it goes on there: `driftloop incident show {incident.id}`")
    return after, judgement


def is_of(incident: Incident, version: int) -> bool:
    """Say whether the incident is about this very offer, not yet decided on or just promoted."""
    under_way = incident.state in (*_JUDGED, *_ACCEPTED, State.PROBATION)
    return under_way and incident.offer is not None and incident.offer.version == version


def _require_promotable(ledger: Ledger, model: str, version: int, judged_by: JudgingRows | None) -> None:
    registry = Registry(settings().mlflow_url)
    require_active(ledger.engine, model)
    if ledger.champion(model) is None:
        raise ContractError(f"{model} has no champion to replace; run `driftloop bootstrap {model}`")
    if version not in (known := registry.versions(model)):
        raise ContractError(f"{model} has no version {version}; there are {', '.join(map(str, known)) or 'none'}")
    if (never := why_never_again(ledger.engine, registry, model, version)) is not None:
        raise ContractError(f"{model}: {never}, not by force either; train another one")
    if judged_by is None:
        evaluate.snapshot_of(registry, model, version)


def _over(ledger: Ledger, incident: Incident, judgement: str, *, actor: str) -> str:
    """End an incident that was opened for the offer alone; any other goes on as before."""
    if incident.is_no_alarm and incident.state in FREE:
        ledger.move(incident, State.RESOLVED, actor=actor, reason=f"the offer is over: {judgement}")
    return judgement
