"""The question about drift whose harm nobody measures: how it stands in the ledger, its answer, and what that does."""

from datetime import datetime
from math import ceil

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome
from datasets_defs.core.errors import ContractError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.faults import reached
from datasets_defs.core.incidents import Action, Incident, State
from datasets_defs.core.settings import settings
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.events import Event
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from monitors.incidents.unmeasured import IGNORED, Answered, DriftAnswer, Question
from monitors.profiles.new_normal import take_as_normal

SILENCE = "silence"
_ACTIONS = {DriftAnswer.RETRAIN: Action.RETRAIN, DriftAnswer.ACCEPT: Action.WATCH, DriftAnswer.IGNORE: Action.WATCH}


def question_of(ledger: Ledger, incident: Incident, spec: ModelSpec, *, now: datetime) -> Question:
    """Read how the question about an incident's drift stands.

    Raises:
        TransientError: PostgreSQL is away.
    """
    return Question(
        now=now,
        since=incident.degraded_since,
        window_length=settings().window_length,
        policy=spec.drift.unmeasured,
        time_to_answer=spec.window_count(spec.approval_windows),
        deadline=_deadline(ledger, incident, spec) if incident.action is Action.ASK else None,
        answered=_answered(ledger, incident),
    )


def answer(model: str, answer: DriftAnswer, *, who: str, reason: str, db: Engine, now: datetime) -> Outcome:
    """DriftAnswer the open question about a model's drift; `who` stands in the history. The same again changes nothing.

    The ring is for triage, which carries the answer out. `accept` is carried out at once.

    Raises:
        ContractError: no question about the model's drift is open, or it was answered otherwise meanwhile.
        TransientError: PostgreSQL is away.
    """
    ledger, spec = Ledger(db), spec_of(model)
    incident = ledger.open_of(model)
    last = ledger.newest_of(model, EventKind.DRIFT_ANSWERED)
    is_asked = incident is not None and incident.state is State.OPEN and incident.action is Action.ASK
    if incident is not None and is_asked:
        words = record(ledger, incident, answer, spec, who=who, actor=who, reason=reason, now=now)
        incident = ledger.incident(incident.id)
    elif _is_repeated(last, answer, incident):
        words = f"{model}: answered before: {answer}"
    else:
        standing = f"its incident {incident.id} is {incident.state}" if incident else "it has no open incident"
        before = f"; the last question was answered with {last.evidence['answer']}" if last is not None else ""
        raise ContractError(f"{model}: no question about its drift is open; {standing}{before}")
    if incident is None or incident.state is not State.OPEN:
        return Outcome(words)
    if answer is DriftAnswer.ACCEPT:
        return Outcome(f"{words}; {accept(ledger, incident, spec, who=who, now=now, actor=who)}")
    return Outcome(words, ledger.ring(incident.id) if answer is DriftAnswer.RETRAIN else None)


def record(
    ledger: Ledger,
    incident: Incident,
    answer: DriftAnswer,
    spec: ModelSpec,
    *,
    who: str,
    actor: str,
    reason: str,
    now: datetime,
) -> str:
    """Write an answer down, with what triage is to do next, as one step; say what was answered.

    Raises:
        ContractError: the incident has moved on meanwhile.
    """
    until = now + IGNORED if answer is DriftAnswer.IGNORE else None
    champion = ledger.champion(spec.name)
    evidence = {
        "answer": answer,
        "by": who,
        "until": until and until.isoformat(),
        "version": champion and champion.version,
    }
    what = f" until {until:%Y-%m-%d %H:%M}Z" if until is not None else ""
    words = f"the drift of incident {incident.id}: {answer}{what}, says {who}: {reason}"
    with ledger.transaction() as on:
        moved = ledger.move(
            incident, State.OPEN, actor=actor, reason=words, action=_ACTIONS[answer], not_before=until, connection=on
        )
        ledger.note(
            spec.name, EventKind.DRIFT_ANSWERED, words, evidence, actor=actor, incident=moved, connection=on
        )  # fmt: skip
    return words


def accept(ledger: Ledger, incident: Incident, spec: ModelSpec, *, who: str, now: datetime, actor: str) -> str:
    """Make what came since the drift began the reference, and end the incident; say what was done.

    A profile that was renewed in this very window is followed in the next one: then the incident waits for that.

    Raises:
        ContractError: there is no champion, profile or judged window.
        TransientError: PostgreSQL is away.
    """
    champion = _champion(ledger, spec)
    length = settings().window_length
    windows = max(ceil((now - incident.degraded_since) / length), 1)
    reason = f"the drift of incident {incident.id} is accepted as normal by {who}: it is the reference now"
    made = take_as_normal(
        ledger.engine, spec, champion, until=now, windows=windows, reason=reason, actor=actor
    )  # fmt: skip
    reached("triage.rebaselined")
    if made.begins is None or made.begins < incident.degraded_since - length:
        later = now + length
        waits = (
            f"revision {made.revision} is as new as this window; the shifted input is the reference from the next on"
        )
        ledger.move(incident, State.OPEN, actor=actor, reason=waits, not_before=later)
        return waits
    ledger.move(incident, State.RESOLVED, actor=actor, reason=reason)
    return reason


def _champion(ledger: Ledger, spec: ModelSpec) -> Champion:
    champion = ledger.champion(spec.name)
    if champion is None:
        raise ContractError(f"{spec.name} has no champion, so no window of it was judged; there is nothing to accept")
    return champion


def _deadline(ledger: Ledger, incident: Incident, spec: ModelSpec) -> datetime | None:
    """Give when the question is over; the time of a pause does not count."""
    ends = incident.not_before
    newest = ledger.newest_of(incident.model, EventKind.PAUSED, EventKind.RESUMED)
    if ends is None or newest is None:
        return ends
    is_over = newest.kind == EventKind.RESUMED
    resumed = newest.at if is_over else datetime.fromisoformat(newest.evidence["until"])
    asked = ends - spec.window_count(spec.approval_windows)
    return ends if resumed <= asked else resumed + spec.window_count(spec.approval_windows)


def _answered(ledger: Ledger, incident: Incident) -> Answered | None:
    """Read the answer that holds: of this incident, or to leave the champion's drift alone for a time."""
    last = ledger.newest_of(incident.model, EventKind.DRIFT_ANSWERED)
    if last is None:
        return None
    choice, until = DriftAnswer(last.evidence["answer"]), last.evidence["until"]
    champion = ledger.champion(incident.model)
    is_same_champion = champion is not None and champion.version == last.evidence["version"]
    if last.incident_id != incident.id and not (choice is DriftAnswer.IGNORE and is_same_champion):
        return None
    ends = datetime.fromisoformat(until) if until else None
    return Answered(answer=choice, who=str(last.evidence["by"]), until=ends)


def _is_repeated(last: Event | None, answer: DriftAnswer, incident: Incident | None) -> bool:
    """Say whether the same was answered before, to the question of this incident or of one that has ended since."""
    is_same = last is not None and last.evidence["answer"] == answer
    return is_same and (incident is None or last is None or last.incident_id == incident.id)
