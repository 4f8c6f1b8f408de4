"""A person's yes or no to an accepted challenger, and the no of silence."""

from datetime import UTC, datetime

from sqlalchemy import Engine

from datasets_defs.conditions import Outcome
from datasets_defs.errors import ContractError
from datasets_defs.incidents import Incident, State
from datasets_defs.ledger import Ledger
from datasets_defs.models import spec_of
from training.governor import back_off_windows


def answer(model: str, approve: bool, *, who: str, reason: str, db: Engine) -> Outcome:  # noqa: FBT001 yes or no
    """Answer for a challenger that waits; `who` stands in the history. Saying yes twice changes nothing.

    There is no ring: a command cannot publish an event. `reconcile` finds the approved challenger and wakes the
    promotion.

    Raises:
        ContractError: no challenger of the model waits for an answer, or it was answered otherwise meanwhile.
    """
    ledger = Ledger(db)
    incident = ledger.open_of(model)
    if incident is None or incident.state is not State.APPROVING:
        found = f"its incident {incident.id} is {incident.state}" if incident else "it has no open incident"
        raise ContractError(f"{model}: no challenger waits for an answer; {found}")
    version = incident.challenger_version
    if not approve:
        said = f"challenger version {version} refused by {who}: {reason}"
        ledger.move(
            incident,
            State.REJECTED,
            actor=who,
            reason=said,
            approved=False,
            not_before=_next(incident, datetime.now(UTC)),
        )
        return Outcome(said)
    said = f"challenger version {version} approved by {who}: {reason}"
    if not incident.approved:
        ledger.move(incident, State.APPROVING, actor=who, reason=said, approved=True)
    return Outcome(said)


def expire(model: str, *, now: datetime, db: Engine, actor: str) -> bool:
    """Refuse a challenger that nobody answered for within the spec's windows; says whether one ran out."""
    ledger, spec = Ledger(db), spec_of(model)
    incident = ledger.open_of(model)
    if incident is None or incident.state is not State.APPROVING or incident.approved:
        return False
    if now < incident.updated_at + spec.window_count(spec.approval_windows):
        return False
    reason = f"nobody answered for version {incident.challenger_version} within {spec.approval_windows} windows: a no"
    ledger.move(incident, State.REJECTED, actor=actor, reason=reason, not_before=_next(incident, now))
    return True


def _next(incident: Incident, now: datetime) -> datetime:
    """Give the time of the next attempt: as after the gate's no, it waits for other data to come in."""
    spec = spec_of(incident.model)
    return now + spec.window_count(back_off_windows(incident.attempt, spec.retrain))
