"""A person's version made champion: offered in the ledger, then judged, promoted and watched like the loop's own.

The offer is the challenger of the model's incident, or of one of its own. Once it stands, every step is the loop's, and
the loop finishes it should this process die.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.conditions import RingKey
from datasets_defs.core.errors import ContractError
from datasets_defs.core.faults import reached
from datasets_defs.core.incidents import BY_HAND, Incident, State
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.retirements import require_active
from training import evaluate, promote
from training.champions.confirmation import why_never_again
from training.offers.judging_rows import JudgingRows
from training.registry.registry import Registry

_FREE = (State.OPEN, State.REJECTED, State.ESCALATED)
"""States of an incident in which nobody is at work, so that a person may offer a version."""
_JUDGED = (State.RETRAINING, State.EVALUATING)
_ACCEPTED = (State.APPROVING, State.ROLLOUT, State.PROMOTING)
_INSTEAD = {
    State.QUARANTINED: "its data is broken: mend that, or end it with `driftloop incident resolve`",
    State.PROBATION: "a new champion is being judged: wait for that, or go back with `driftloop rollback`",
    State.ROLLOUT: "its own challenger is rolled out: wait for that, or end it with `driftloop rollback`",
    State.APPROVING: "its own challenger waits: answer with `driftloop approve` or `reject`",
}


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
        incident = _offer(ledger, model, version, actor=actor, reason=reason, force=force, judged_by=judged_by)
    if incident.state in _JUDGED:
        tell(f"judging version {version}")
        incident, said = _judged(ledger, incident, actor=actor)
        if not incident.approved:
            return PromotionByHand(is_champion=False, reason=_over(ledger, incident, said, actor=actor))
    tell(f"waiting until serving reports version {version}")
    outcome = promote.promote(str(ledger.ring(incident.id)), db=db, actor=actor, by_hand=True)
    if outcome.ring is None and ledger.incident(incident.id).state is State.PROMOTING:
        raise ContractError(f"{outcome.reason}; it goes on there: `driftloop incident show {incident.id}`")
    return PromotionByHand(is_champion=outcome.ring is not None, reason=outcome.reason, ring=outcome.ring)


def _judged(ledger: Ledger, incident: Incident, *, actor: str) -> tuple[Incident, str]:
    """Evaluate the offer; give the incident afterwards, approved if the version may go ahead, and what was said."""
    said = evaluate.evaluate(str(ledger.ring(incident.id)), db=ledger.engine, actor=actor, by_hand=True).reason
    after = ledger.incident(incident.id)
    if after.state in _JUDGED:
        raise ContractError(f"{said}; it goes on there: `driftloop incident show {incident.id}`")
    return after, said


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


def _offer(
    ledger: Ledger, model: str, version: int, *, actor: str, reason: str, force: bool, judged_by: JudgingRows | None
) -> Incident:
    """Make the version the challenger of the model's incident, or of a new one, as if it had just been trained."""
    now = datetime.now(UTC)
    words = f"version {version} offered by {actor}{' by force' if force else ''}: {reason}"
    with ledger.transaction() as on:
        present = ledger.open_of(model, connection=on, lock=True)
        if present is not None:
            _require_free(present, now)
        waits = present.not_before if present is not None else None
        said: dict[str, Any] = {
            "version": version,
            "by": actor,
            "reason": reason,
            "force": force,
            "attempt": (present.attempt if present is not None else 0) + 1,
            "not_before": waits.isoformat() if waits is not None else None,
        }
        if judged_by is not None:
            said |= {"rows_uri": judged_by.uri, "rows_sha256": judged_by.sha256, "unexcluded": judged_by.unexcluded}
        incident, _ = ledger.open_incident(
            model, signal=BY_HAND, degraded_since=now, reason=words, evidence=said, actor=actor, connection=on
        )
        offered = ledger.move(
            incident, State.RETRAINING, actor=actor, reason=words, connection=on, attempt=said["attempt"],
            challenger_version=version, approved=False, not_before=None,
        )  # fmt: skip
        reached("offer.making")
    reached("offer.made")
    return offered


def require_free(ledger: Ledger, model: str, now: datetime) -> None:
    """Refuse where nobody may offer a version to a model just now.

    Raises:
        ContractError: somebody is at work on its incident; says who, and what to do instead.
    """
    incident = ledger.open_of(model)
    if incident is not None and (incident.offer is None or incident.state in _FREE):  # else it may be this very offer
        _require_free(incident, now)


def _require_free(incident: Incident, now: datetime) -> None:
    found = f"{incident.model}: incident {incident.id} is {incident.state}"
    if (holder := incident.holder(now)) is not None:
        raise ContractError(f"{found} and in the hands of {holder}; wait for it, then promote by hand")
    if incident.state not in _FREE:
        instead = _INSTEAD.get(incident.state, "its own challenger is on its way: wait for it")
        raise ContractError(f"{found}; {instead}")


def _over(ledger: Ledger, incident: Incident, said: str, *, actor: str) -> str:
    """End an incident that was opened for the offer alone; any other goes on as before."""
    if incident.is_no_alarm and incident.state in _FREE:
        ledger.move(incident, State.RESOLVED, actor=actor, reason=f"the offer is over: {said}")
    return said
