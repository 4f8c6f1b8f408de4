"""A person's yes or no to an accepted challenger, by form or by command, and the no of silence."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome, RingKey
from datasets_defs.core.errors import ContractError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import Incident, State
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.evaluations import evaluation_of
from training.limits.governor import back_off_windows

APPROVE = "Approve"
"""The form's option that says yes; every other answer is a no."""
REJECT = "Reject"


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
        standing = f"its incident {incident.id} is {incident.state}" if incident else "it has no open incident"
        raise ContractError(f"{model}: no challenger waits for an answer; {standing}")
    version = incident.challenger_version
    if incident.approved:
        if approve:
            return Outcome(f"challenger version {version} was approved before; its promotion is on its way")
        raise ContractError(
            f"{model}: challenger version {version} was approved before and is about to be promoted; "
            "`driftloop rollback` takes it back once it serves"
        )
    return _answered(ledger, incident, approve=approve, who=who, reason=reason)


def _answered(ledger: Ledger, incident: Incident, *, approve: bool, who: str, reason: str) -> Outcome:
    version = incident.challenger_version
    if approve:
        words = f"challenger version {version} approved by {who}: {reason}"
        ledger.move(incident, State.APPROVING, actor=who, reason=words, approved=True, not_before=None, ordered_by=who)
        return Outcome(words)
    words = f"challenger version {version} refused by {who}: {reason}"
    _refuse(ledger, incident, words, actor=who, now=datetime.now(UTC))
    return Outcome(words)


def _refuse(ledger: Ledger, incident: Incident, reason: str, *, actor: str, now: datetime) -> None:
    """Take a no. One to an offer leaves the incident as it was before; opened for the offer alone, it is over."""
    offer = incident.offer
    if offer is None:
        later = _next(incident, now)
        ledger.move(incident, State.REJECTED, actor=actor, reason=reason, approved=False, not_before=later)
        return
    told = {"offered_by": offer.who, "challenger_version": offer.version}
    with ledger.transaction() as on:
        left = ledger.move(
            incident, State.OPEN, actor=actor, reason=reason, evidence=told, connection=on,
            approved=False, challenger_version=None, not_before=offer.not_before,
        )  # fmt: skip
        if left.is_no_alarm:
            ledger.move(left, State.RESOLVED, actor=actor, reason=f"the offer is over: {reason}", connection=on)


def wanted(key: str, *, db: Engine) -> Outcome:
    """Say whether a person is to be asked about the wake-up's challenger; the ring is for whoever asks.

    Raises:
        ContractError: the key is wrong.
        TransientError: PostgreSQL is away.
    """
    ledger = Ledger(db)
    incident = ledger.incident(RingKey.parse(key).incident_id)
    if incident.state is not State.APPROVING or incident.approved:
        return Outcome(f"incident {incident.id} is {incident.state}: nobody is to be asked")
    return Outcome(f"version {incident.challenger_version} waits for a person", ledger.ring(incident.id))


def questions(key: str, *, db: Engine, actor: str, now: datetime | None = None) -> list[dict[str, Any]]:
    """Give the form about the wake-up's challenger as arguments of Airflow's operator; empty if nobody is to be asked.

    The run that asks holds the incident until the deadline, so that no second form is shown; if it dies, `reconcile`
    asks again.

    Raises:
        ContractError: the key or the spec is wrong.
        TransientError: PostgreSQL is away.
    """
    ring, ledger, at = RingKey.parse(key), Ledger(db), now or datetime.now(UTC)
    spec, incident = spec_of(ring.model), ledger.incident(ring.incident_id)
    left = _deadline(ledger, incident, spec) - at
    if incident.state is not State.APPROVING or incident.approved or left <= timedelta():
        return []
    claim = ledger.claim(
        ring, frm={State.APPROVING}, to=State.APPROVING, actor=actor, lease=left, reason="a person is asked in Airflow"
    )
    if claim.incident is None:
        return []
    subject = f"{spec.name}: may version {incident.challenger_version} replace the champion?"
    return [{"subject": subject, "body": _body(db, claim.incident, spec, at + left), "response_timeout": left}]


def record(key: str, given: Sequence[Mapping[str, Any]], *, db: Engine, actor: str) -> Outcome:
    """Write the form's answer to the ledger, with who gave it; the ring is for the promotion after a yes.

    It counts only while the run that asked still holds the question: an answer given elsewhere before stands.

    Raises:
        ContractError: the key is wrong, or the incident moved on at this very moment.
        TransientError: PostgreSQL is away.
    """
    ledger = Ledger(db)
    incident = ledger.incident(RingKey.parse(key).incident_id)
    if not given:
        return Outcome("no form was answered, so nothing is recorded")
    user = given[0]["responded_by_user"]
    approve = list(given[0]["chosen_options"]) == [APPROVE]
    who = f"airflow:{user['name'] or user['id']}" if user else actor
    if incident.state is State.APPROVING and incident.claimed_by == actor:
        if user is None and datetime.now(UTC) < _deadline(ledger, incident, spec_of(incident.model)):
            return Outcome(f"nobody answered, and {incident.model} was paused meanwhile: the question stays")
        reason = "answered in Airflow" if user else "nobody answered in time, which is a no"
        words = _answered(ledger, incident, approve=approve, who=who, reason=reason).reason
        return Outcome(words, ledger.ring(incident.id) if approve else None)
    if incident.state is State.APPROVING and incident.approved and approve:  # a retry of this very task, say
        return Outcome(f"version {incident.challenger_version} stands approved", ledger.ring(incident.id))
    return Outcome(f"{who} answered too late: {_last_word(ledger, incident)}")


def _deadline(ledger: Ledger, incident: Incident, spec: ModelSpec) -> datetime:
    """Give when a question that nobody answered becomes a no; the time of a pause does not count."""
    since = incident.updated_at
    newest = ledger.newest_of(incident.model, EventKind.PAUSED, EventKind.RESUMED)
    if newest is not None:
        is_over = newest.kind == EventKind.RESUMED
        since = max(since, newest.at if is_over else datetime.fromisoformat(newest.evidence["until"]))
    return since + spec.window_count(spec.approval_windows)


def _last_word(ledger: Ledger, incident: Incident) -> str:
    events = ledger.events(incident.model, incident_id=incident.id)
    return next(
        (
            event.reason
            for event in reversed(events)
            if event.from_state == State.APPROVING and event.kind != EventKind.CLAIMED
        ),
        f"incident {incident.id} is {incident.state}",
    )


def _body(db: Engine, incident: Incident, spec: ModelSpec, deadline: datetime) -> str:
    """Write what a person decides on, as Markdown; texts of users do not stand in it."""
    judged = evaluation_of(db, incident.id, incident.attempt)
    champion = Ledger(db).champion(spec.name)
    serves = f"version {champion.version}" if champion is not None else "none"
    since, attempt = f"{incident.fresh_since:%Y-%m-%d %H:%M}Z", incident.attempt
    lines = [
        f"**Model** {spec.name}; **champion** {serves}; **challenger** version {incident.challenger_version}",
        f"**Incident** {incident.id} (`driftloop incident show {incident.id}`), attempt {attempt}",
        f"Opened by {incident.signal}; {'fresh documents' if incident.is_no_alarm else 'degraded'} since {since}",
    ]
    if judged is not None:
        lines.append(f"**Gate** {judged.decision}: {judged.reason}")
        lines.append("```json\n" + json.dumps(judged.scores, indent=1, default=str).replace("`", "'") + "\n```")
    lines.append(
        f"No answer until {deadline:%Y-%m-%d %H:%M}Z is a no. The same: `driftloop approve {spec.name}` or "
        f"`driftloop reject {spec.name}`; the answer that reaches the ledger first counts."
    )
    return "\n\n".join(lines)


def expire(model: str, *, now: datetime, db: Engine, actor: str) -> bool:
    """Refuse a challenger that nobody answered for within the spec's windows; says whether one ran out."""
    ledger, spec = Ledger(db), spec_of(model)
    incident = ledger.open_of(model)
    if incident is None or incident.state is not State.APPROVING or incident.approved:
        return False
    if now < _deadline(ledger, incident, spec):
        return False
    reason = f"nobody answered for version {incident.challenger_version} within {spec.approval_windows} windows: a no"
    _refuse(ledger, incident, reason, actor=actor, now=now)
    return True


def _next(incident: Incident, now: datetime) -> datetime:
    """Give the time of the next attempt: as after the gate's no, it waits for other data to come in."""
    spec = spec_of(incident.model)
    return now + spec.window_count(back_off_windows(incident.attempt, spec.retrain))
