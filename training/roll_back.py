"""The step that makes the previous champion serve again."""

import logging

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome, RingKey
from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.faults import reached
from datasets_defs.core.incidents import Action, Incident, State, may_move
from datasets_defs.core.settings import settings
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from training.champions.confirmation import ChampionChangedError, changed_by, confirmed, last_change, require_champion
from training.registry.aliases import mirrored
from training.registry.registry import ROLLED_BACK, Registry

log = logging.getLogger(__name__)


def roll_back(key: str, *, db: Engine, actor: str) -> Outcome:
    """Roll back the champion of the wake-up's incident and end it; the ring is for what follows the change.

    Raises:
        ContractError: the key or the spec is wrong, or another run took over.
        TransientError: PostgreSQL is away.
    """
    ring, ledger = RingKey.parse(key), Ledger(db)
    incident = ledger.incident(ring.incident_id)
    if incident.state is State.ROLLED_BACK:
        return Outcome(f"incident {incident.id} stands rolled back", ledger.ring(incident.id))
    if incident.action is not Action.ROLL_BACK or not may_move(incident.state, State.ROLLED_BACK):
        return Outcome(
            f"incident {incident.id} is {incident.state} with action {incident.action}: nothing to roll back"
        )
    reason = f"rollback for incident {incident.id}"
    claim = ledger.claim(
        ring, frm={incident.state}, to=incident.state, actor=actor, lease=settings().lease, reason=reason
    )
    if claim.incident is None:
        return Outcome(claim.reason)
    return _roll_back(ledger, incident.model, claim.incident, actor=actor, reason=reason)


def roll_back_by_hand(model: str, *, db: Engine, actor: str, reason: str) -> Outcome:
    """Roll back at a person's word; the open incident, if the rollback can end it, ends with it.

    Killed anywhere and run again, it goes on with the change it finds made.

    Raises:
        ContractError: there is no previous champion, or a run of the loop works on the incident right now.
        TransientError: PostgreSQL is away.
    """
    ledger = Ledger(db)
    champion, incident = ledger.champion(model), ledger.open_of(model)
    if champion is None or (champion.previous_version is None and not _is_unfinished(db, champion, incident)):
        raise ContractError(f"{model} has no previous champion to go back to; see `driftloop history {model}`")
    if incident is None or not may_move(incident.state, State.ROLLED_BACK):
        return _roll_back(ledger, model, None, actor=actor, reason=reason)
    if incident.action is not Action.ROLL_BACK:  # the ledger knows from now on that a person has ordered it
        incident = ledger.move(incident, incident.state, actor=actor, reason=reason, action=Action.ROLL_BACK)
    claim = ledger.claim(
        ledger.ring(incident.id), frm={incident.state}, to=incident.state, actor=actor, lease=settings().lease,
        reason=reason, by_hand=True,
    )  # fmt: skip
    if claim.incident is None:
        raise ContractError(f"{model}: {claim.reason}; wait for it, then roll back")
    return _roll_back(ledger, model, claim.incident, actor=actor, reason=reason)


def _roll_back(ledger: Ledger, model: str, incident: Incident | None, *, actor: str, reason: str) -> Outcome:
    reached("roll_back.claimed")
    former, champion = _change(ledger, model, incident, actor=actor, reason=reason)
    if champion is None:
        said = f"{model} has no previous champion to go back to; a person decides"
        if incident is None:
            raise ContractError(said)
        ledger.move(incident, State.ESCALATED, actor=actor, reason=said)
        return Outcome(said)
    reached("roll_back.changed")
    registry = Registry(settings().mlflow_url)

    def renew() -> None:
        if incident is not None:
            ledger.renew(incident, settings().lease)
        require_champion(ledger, champion)

    try:
        serves = confirmed(ledger, registry, spec_of(model), champion, renew=renew)
    except ChampionChangedError as err:
        if incident is None:
            raise
        ledger.move(incident, State.ESCALATED, actor=actor, reason=str(err))
        return Outcome(str(err))
    _tag(registry, model, former, reason)
    reached("roll_back.tagged")
    if not serves:
        mirrored(registry, champion)
        said = (
            f"version {champion.version} is champion again, but serving did not report it within "
            f"{settings().serving_confirm_seconds:.0f} s; look at serving's log and health page"
        )
        if incident is not None:
            ledger.move(incident, State.ESCALATED, actor=actor, reason=said)
        return Outcome(said)
    said = f"version {champion.version} serves again ({reason})"
    if incident is None:
        return Outcome(said)
    ledger.move(incident, State.ROLLED_BACK, actor=actor, reason=said)
    reached("roll_back.moved")
    return Outcome(said, ledger.ring(incident.id))


def _change(
    ledger: Ledger, model: str, incident: Incident | None, *, actor: str, reason: str
) -> tuple[int | None, Champion | None]:
    """Go back one version in one transaction; a change that was made for this, and not followed, stands.

    Gives the version gone back from and the champion; None: there is nowhere to go.
    """
    done = changed_by(ledger.engine, incident.id, "roll_back") if incident is not None else None
    with ledger.transaction() as on:
        if incident is not None and ledger.incident(incident.id, connection=on, lock=True).token != incident.token:
            raise ContractError(f"incident {incident.id} was taken over by another run; this one must stop")
        champion = ledger.champion(model, connection=on, lock=True)
        if champion is not None and champion.previous_version is None:
            made = last_change(ledger.engine, champion)
            if made is not None and made.kind == "roll_back" and (done == champion.token or not made.is_confirmed):
                return made.from_version, champion
        if champion is None or champion.previous_version is None:
            return None, None
        changed = ledger.change_champion(
            model,
            expected=champion.version,
            to=champion.previous_version,
            kind="roll_back",
            reason=reason,
            actor=actor,
            incident=incident,
            connection=on,
        )
        reached("roll_back.changing")
    return champion.version, changed


def _is_unfinished(db: Engine, champion: Champion, incident: Incident | None) -> bool:
    """Say whether a rollback made the champion whose command may have been killed.

    That is one which serving has yet to confirm, or which was made for an incident that is still open.
    """
    made = last_change(db, champion)
    if made is None or made.kind != "roll_back":
        return False
    return not made.is_confirmed or (
        incident is not None and changed_by(db, incident.id, "roll_back") == champion.token
    )


def _tag(registry: Registry, model: str, version: int | None, reason: str) -> None:
    """Mark the version in the registry, for people who look there; what forbids its return is the ledger."""
    if version is None:
        return
    try:
        registry.set_tags(model, version, {ROLLED_BACK: reason[:500]})
    except TransientError as err:
        log.warning("%s", err)
