"""The step that makes the previous champion serve again."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome, RingKey
from datasets_defs.core.errors import ContractError
from datasets_defs.core.faults import reached
from datasets_defs.core.incidents import Action, Incident, State, may_move
from datasets_defs.core.settings import settings
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from training.champions.confirmation import ChampionChangedError, changed_by, confirmed, last_change, require_champion
from training.champions.rollout import stop_by_hand
from training.registry.aliases import marked_rolled_back, mirrored
from training.registry.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """A rollback that is to be carried out: of which model, at whose word and why."""

    ledger: Ledger
    model: str
    incident: Incident | None
    """Claimed for this; None: a person goes back without one."""
    actor: str
    reason: str

    def ended(self, state: State, reason: str) -> Outcome:
        """Move the incident, if there is one, to where this rollback leaves it; nothing is rung."""
        if self.incident is not None:
            self.ledger.move(self.incident, state, actor=self.actor, reason=reason)
        return Outcome(reason)

    def renew(self, champion: Champion) -> None:
        """Hold the claim for another lease; raise once another champion serves, or another run took over."""
        if self.incident is not None:
            self.ledger.renew(self.incident, settings().lease)
        require_champion(self.ledger, champion)


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
        ring,
        frm={incident.state},
        to=incident.state,
        actor=actor,
        lease=settings().lease,
        reason=reason,
        in_pause=ledger.is_rolled_back_for(incident),
    )
    if claim.incident is None:
        return Outcome(claim.reason)
    return _roll_back(_Order(ledger=ledger, model=incident.model, incident=claim.incident, actor=actor, reason=reason))


def roll_back_by_hand(model: str, *, db: Engine, actor: str, reason: str) -> Outcome:
    """Roll back at a person's word; the open incident, if the rollback can end it, ends with it.

    Killed anywhere and run again, it goes on with the change it finds made. A rollout is ended instead: its challenger
    is taken back from its users, and the champion stays.

    Raises:
        ContractError: there is no previous champion, or a run of the loop works on the incident right now.
        TransientError: PostgreSQL is away.
    """
    ledger = Ledger(db)
    champion, incident = ledger.champion(model), ledger.open_of(model)
    if incident is not None and incident.state is State.ROLLOUT:
        return stop_by_hand(ledger, spec_of(model), incident, actor=actor, reason=reason)
    if champion is None or (champion.previous_version is None and not _is_unfinished(db, champion, incident)):
        raise ContractError(f"{model} has no previous champion to go back to; see `driftloop history {model}`")
    if incident is None or not may_move(incident.state, State.ROLLED_BACK):
        return _roll_back(_Order(ledger=ledger, model=model, incident=None, actor=actor, reason=reason))
    if incident.ordered_by is None and incident.holder(datetime.now(UTC)) is None:
        # The ledger knows from now on that a person has ordered it, also where the loop had decided on it already.
        incident = ledger.move(
            incident, incident.state, actor=actor, reason=reason, action=Action.ROLL_BACK, ordered_by=actor
        )
    claim = ledger.claim(
        ledger.ring(incident.id), frm={incident.state}, to=incident.state, actor=actor, lease=settings().lease,
        reason=reason, in_pause=True,
    )  # fmt: skip
    if claim.incident is None:
        raise ContractError(f"{model}: {claim.reason}; wait for it, then roll back")
    return _roll_back(_Order(ledger=ledger, model=model, incident=claim.incident, actor=actor, reason=reason))


def _roll_back(order: _Order) -> Outcome:
    """Change the champion, wait until it serves, and end the incident; what cannot be done goes to a person."""
    reached("roll_back.claimed")
    former, champion = _change(order)
    if champion is None:
        reason = f"{order.model} has no previous champion to go back to; a person decides"
        if order.incident is None:
            raise ContractError(reason)
        return order.ended(State.ESCALATED, reason)
    reached("roll_back.changed")
    registry, spec = Registry(settings().mlflow_url), spec_of(order.model)
    try:
        word = confirmed(order.ledger, registry, spec, champion, renew=partial(order.renew, champion))
    except ChampionChangedError as err:
        if order.incident is None:
            raise
        return order.ended(State.ESCALATED, str(err))
    marked_rolled_back(registry, order.model, former, order.reason)
    reached("roll_back.tagged")
    if not word.is_confirmed:
        mirrored(registry, champion)
        reason = (
            f"version {champion.version} is champion again, but {word.reason}; look at serving's log and health page"
        )
        return order.ended(State.ESCALATED, reason)
    remark = "" if spec.serving.kind == "driftloop" else f"; {word.reason}"
    serves = "serves" if spec.serving.can_say else "is champion"
    outcome = order.ended(State.ROLLED_BACK, f"version {champion.version} {serves} again ({order.reason}){remark}")
    if order.incident is None:
        return outcome
    reached("roll_back.moved")
    return Outcome(outcome.reason, order.ledger.ring(order.incident.id))


def _change(order: _Order) -> tuple[int | None, Champion | None]:
    """Go back one version in one transaction; a change that was made for this, and not followed, stands.

    Gives the version gone back from and the champion; None: there is nowhere to go.
    """
    ledger, incident = order.ledger, order.incident
    done = changed_by(ledger.engine, incident.id, "roll_back") if incident is not None else None
    with ledger.transaction() as on:
        if incident is not None and ledger.incident(incident.id, connection=on, lock=True).token != incident.token:
            raise ContractError(f"incident {incident.id} was taken over by another run; this one must stop")
        champion = ledger.champion(order.model, connection=on, lock=True)
        if champion is not None:
            made = last_change(ledger.engine, champion)
            if made is not None and made.kind == "roll_back" and (done == champion.token or not made.is_confirmed):
                return made.from_version, champion
        if champion is None or champion.previous_version is None:
            return None, None
        changed = ledger.change_champion(
            order.model,
            expected=champion.version,
            to=champion.previous_version,
            kind="roll_back",
            reason=order.reason,
            actor=order.actor,
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
