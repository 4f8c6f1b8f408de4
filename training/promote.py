"""The step that makes an accepted challenger the champion, and takes it back if serving does not load it."""

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome, RingKey
from datasets_defs.core.errors import ContractError
from datasets_defs.core.faults import reached
from datasets_defs.core.incidents import Incident, State
from datasets_defs.core.settings import settings
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.evaluations import evaluation_of
from training.champions.confirmation import ChampionChangedError, confirmed, put_back, require_champion, why_never_again
from training.champions.rollout import begin, carry_on
from training.registry.registry import Registry


def promote(key: str, *, db: Engine, actor: str, by_hand: bool = False) -> Outcome:
    """Promote the wake-up's challenger; the ring is for what follows a change of champion.

    Killed anywhere and run again, it goes on with the change it finds made. What a person does by hand is done in a
    pause, too.

    Raises:
        ContractError: the key or the spec is wrong, or another run took over.
        TransientError: PostgreSQL is away.
    """
    ring, ledger = RingKey.parse(key), Ledger(db)
    spec, incident = spec_of(ring.model), ledger.incident(ring.incident_id)
    champion = ledger.champion(ring.model)
    if incident.state is State.PROBATION and champion and champion.version == incident.challenger_version:
        return Outcome(f"version {champion.version} stands promoted", ledger.ring(incident.id))
    if not incident.approved:
        return Outcome(f"incident {incident.id} is {incident.state}; its challenger is not approved")
    if _takes_steps(ledger, spec, incident, champion):
        refused = begin(ledger, ring, incident, actor=actor, in_pause=by_hand)
        return refused if refused is not None else carry_on(ledger, spec, actor=actor)
    reason = f"promotion of version {incident.challenger_version}"
    claim = ledger.claim(
        ring, frm={State.APPROVING}, to=State.PROMOTING, actor=actor, lease=settings().lease, reason=reason,
        in_pause=by_hand,
    )  # fmt: skip
    if claim.incident is None:
        return Outcome(claim.reason)
    reached("promote.claimed")
    return _promote(ledger, claim.incident, spec, actor=actor)


def _takes_steps(ledger: Ledger, spec: ModelSpec, incident: Incident, champion: Champion | None) -> bool:
    """Say whether the challenger is to be rolled out before it is promoted; not one that may not be promoted at all."""
    if spec.steps is None or incident.state is not State.APPROVING or champion is None:
        return False
    challenger, judged = incident.challenger_version, _champion_judged(ledger.engine, incident)
    if challenger is None or judged != champion.version or challenger == champion.version:
        return False
    return why_never_again(ledger.engine, Registry(settings().mlflow_url), spec.name, challenger) is None


def _promote(ledger: Ledger, incident: Incident, spec: ModelSpec, *, actor: str) -> Outcome:
    registry = Registry(settings().mlflow_url)
    judged, challenger = _champion_judged(ledger.engine, incident), incident.challenger_version
    if judged is None or challenger is None:
        reason = f"no accepting evaluation of attempt {incident.attempt} stands; nothing is promoted without one"
        return _stop(ledger, incident, State.ESCALATED, reason, actor=actor)
    if (never := why_never_again(ledger.engine, registry, spec.name, challenger)) is not None:
        return _stop(ledger, incident, State.ESCALATED, never, actor=actor)
    try:
        champion = _change(ledger, incident, judged, challenger, actor=actor)
    except ContractError as err:
        _require_claim(ledger.incident(incident.id), incident)
        return _stop(ledger, incident, State.OPEN, f"judged against version {judged}: {err}", actor=actor)
    reached("promote.changed")

    def renew() -> None:
        ledger.renew(incident, settings().lease)
        require_champion(ledger, champion)

    try:
        word = confirmed(ledger, registry, spec, champion, renew=renew)
    except ChampionChangedError as err:
        return _stop(ledger, incident, State.ESCALATED, str(err), actor=actor)
    if word.is_confirmed:
        serves = "serves" if spec.serving.can_say else "is champion"
        why = "" if spec.serving.kind == "driftloop" else f" ({word.reason})"
        reason = f"version {challenger} {serves} instead of version {judged}{why}; probation begins"
        reached("promote.confirmed")
        ledger.move(incident, State.PROBATION, actor=actor, reason=reason)
        reached("promote.moved")
        return Outcome(reason, ledger.ring(incident.id))
    return _revert(ledger, registry, spec, incident, champion, judged, word=word.reason, actor=actor)


def _change(ledger: Ledger, incident: Incident, judged: int, challenger: int, *, actor: str) -> Champion:
    """Change the champion, fenced by the claim, in one transaction; a change that this attempt made stands."""
    with ledger.transaction() as on:
        _require_claim(ledger.incident(incident.id, connection=on, lock=True), incident)
        champion = ledger.champion(incident.model, connection=on, lock=True)
        if champion is not None and champion.version == challenger:
            return champion
        changed = ledger.change_champion(
            incident.model,
            expected=judged,
            to=challenger,
            kind="promote",
            reason=_why(incident),
            actor=actor,
            incident=incident,
            connection=on,
        )
        reached("promote.changing")
    return changed


def _why(incident: Incident) -> str:
    offer = incident.offer
    if offer is None:
        return f"accepted challenger of incident {incident.id}, attempt {incident.attempt}"
    return f"offered by {offer.who}{' by force' if offer.force else ''}: {offer.reason}"


def _revert(
    ledger: Ledger,
    registry: Registry,
    spec: ModelSpec,
    incident: Incident,
    champion: Champion,
    back_to: int,
    *,
    word: str,
    actor: str,
) -> Outcome:
    reason = f"{word}; version {back_to} is champion again. Look at serving's log and health page"
    with ledger.transaction() as on:  # one step: a retry must not find it half taken back and promote again
        _require_claim(ledger.incident(incident.id, connection=on, lock=True), incident)
        before = ledger.change_champion(
            incident.model,
            expected=champion.version,
            to=back_to,
            kind="revert",
            reason=reason,
            actor=actor,
            incident=incident,
            connection=on,
        )
        ledger.move(incident, State.ESCALATED, actor=actor, reason=reason, approved=False, connection=on)
        reached("revert.changing")
    reached("revert.changed")
    servers = put_back(ledger, registry, spec, before)
    return Outcome(f"{reason}. {servers}" if servers else reason)


def _stop(ledger: Ledger, incident: Incident, to: State, reason: str, *, actor: str) -> Outcome:
    ledger.move(incident, to, actor=actor, reason=reason, approved=False, challenger_version=None)
    return Outcome(reason)


def _require_claim(now: Incident, known: Incident) -> None:
    if now.state is not known.state:
        raise ContractError(f"incident {known.id} is {now.state}; this run must stop")
    if now.token != known.token:
        raise ContractError(f"incident {known.id} was taken over by {now.claimed_by}; this run must stop")


def _champion_judged(db: Engine, incident: Incident) -> int | None:
    """Read which champion the incident's newest attempt may replace; None without an evaluation that lets it.

    That is the gate's yes, or any measurement where a person wants the version whatever the gate says.
    """
    judged = evaluation_of(db, incident.id, incident.attempt)
    is_forced = incident.offer is not None and incident.offer.force
    return judged.champion_version if judged is not None and (is_forced or judged.decision == "accept") else None
