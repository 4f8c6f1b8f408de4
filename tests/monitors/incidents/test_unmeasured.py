"""Drift whose harm nobody measures: a wait, one question, an answer by a person or by silence, and what it does."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from alerts.messages import message_for
from datasets_defs.core.conditions import Condition, Outcome
from datasets_defs.core.errors import ContractError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import Action, Cause, Incident, State
from datasets_defs.ledger.pausing import pause, resume
from monitors.incidents.answering import answer, question_of, record
from monitors.incidents.triage_rules import TriageDecision, TriageEvidence
from monitors.incidents.unmeasured import Answered, DriftAnswer, NextStep, Question, next_step
from monitors.triage import decide
from monitors.watch_drift import watch
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation, licences

NOON, HOUR = datetime(2026, 11, 20, 12, tzinfo=UTC), timedelta(hours=1)
EVIDENCE = TriageEvidence(
    signals=frozenset({"drift"}), about={}, windows_since_promotion=None, probation_windows=3, has_previous=False,
    drift=Condition.BAD, loss=Condition.NO_DATA, attempts_left=2, is_measured=False,
)  # fmt: skip
WATCHED = TriageDecision(cause=Cause.INPUT_SHIFT, action=Action.WATCH, reason="watched")
ASKED = Question(
    now=NOON + 30 * HOUR, since=NOON, window_length=HOUR, policy="ask", time_to_answer=24 * HOUR, deadline=None,
    answered=None,
)  # fmt: skip


def said(what: DriftAnswer, *, days: int | None = None) -> Answered:
    until = None if days is None else NOON + timedelta(days=days)
    return Answered(answer=what, who="anna", until=until)


# --- the decision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "action", "not_before"),
    [
        (replace(ASKED, now=NOON + 23 * HOUR), Action.WATCH, None),
        (ASKED, Action.ASK, NOON + 54 * HOUR),
        (replace(ASKED, policy="watch"), Action.WATCH, None),
        (replace(ASKED, policy="retrain"), Action.RETRAIN, None),
        (replace(ASKED, policy="retrain", now=NOON + 23 * HOUR), Action.WATCH, None),
        (replace(ASKED, deadline=NOON + 31 * HOUR), Action.ASK, NOON + 31 * HOUR),
        (replace(ASKED, answered=said(DriftAnswer.RETRAIN)), Action.RETRAIN, None),
        (replace(ASKED, answered=said(DriftAnswer.IGNORE, days=7)), Action.WATCH, NOON + timedelta(days=7)),
        (replace(ASKED, answered=said(DriftAnswer.IGNORE, days=1)), Action.ASK, NOON + 54 * HOUR),
    ],
)
def test_what_the_drift_comes_to(question: Question, action: Action, not_before: datetime | None):
    """For a day it is watched; then the YAML, a question, or its answer decides, with a reason and a time."""
    step = next_step(WATCHED, EVIDENCE, question)
    assert (step.decision.action, step.decision.cause, step.not_before) == (action, Cause.INPUT_SHIFT, not_before)
    assert step.decision.reason
    assert (step.accepted_by, step.is_silence) == (None, False)


def test_the_time_to_answer_is_over():
    """Then silence is the answer; one that accepts names who did."""
    assert next_step(WATCHED, EVIDENCE, replace(ASKED, deadline=NOON + 30 * HOUR)).is_silence
    assert next_step(WATCHED, EVIDENCE, replace(ASKED, answered=said(DriftAnswer.ACCEPT))).accepted_by == "anna"


def test_no_attempt_is_left():
    """A retrain that the spec no longer allows calls a person."""
    step = next_step(WATCHED, replace(EVIDENCE, attempts_left=0), replace(ASKED, policy="retrain"))
    assert step.decision.action is Action.ALERT


@pytest.mark.parametrize(
    ("decision", "evidence"),
    [
        (WATCHED, replace(EVIDENCE, is_measured=True)),
        (
            WATCHED,
            replace(
                EVIDENCE, signals=frozenset({"quality:prompt_loss"}), mean_losses=frozenset({"quality:prompt_loss"})
            ),
        ),
        (replace(WATCHED, cause=Cause.DATA_BREAK, action=Action.QUARANTINE), EVIDENCE),
    ],
)
def test_nothing_is_asked_where_more_is_known(decision: TriageDecision, evidence: TriageEvidence):
    """Harm that is measured, another signal, or broken data: triage's own decision stands."""
    assert next_step(decision, evidence, ASKED) == NextStep(decision=decision)


# --- on real tables --------------------------------------------------------------------------------------------------


def drifting(loop: Loop, **drift: str) -> tuple[Incident, int]:
    """Open an incident of drift that has stood for 30 windows up to now; give the newest window's number, too."""
    loop.spec(drift={"min_rows": 60, "burn_in_windows": 0, **drift})
    newest = (datetime.now(UTC) - loop.window(0).start) // loop.length - 1
    loop.champion(since=loop.window(newest - 100).start)
    for number in range(newest - 29, newest + 1):
        loop.verdict(number, "drift", Condition.BAD)
    incident, _ = loop.ledger.open_incident(
        MODEL, signal="drift", degraded_since=loop.window(newest - 29).start, reason="r", evidence={}, actor="a"
    )
    return incident, newest


def triage_at(loop: Loop, incident: Incident, number: int) -> str:
    """Let triage decide with a window as the newest; give the action."""
    loop.verdict(number, "drift", Condition.BAD)
    found = decide(str(loop.ledger.ring(incident.id)), db=loop.db, actor="triage:1", now=loop.until(number))
    return str(found["action"])


def answers(loop: Loop) -> list[tuple[str, str]]:
    """Give the answers in the history, with who gave them."""
    return [(e.evidence["answer"], e.evidence["by"]) for e in loop.ledger.events_of(MODEL, EventKind.DRIFT_ANSWERED)]


def give(loop: Loop, what: DriftAnswer, number: int, *, who: str = "cli:anna") -> Outcome:
    return answer(MODEL, what, who=who, reason="as I know", db=loop.db, now=loop.until(number))


def test_a_person_is_asked_once(loop: Loop):
    """Triage asks, with a message that names the commands; deciding again writes nothing and keeps the deadline."""
    incident, newest = drifting(loop)
    assert triage_at(loop, incident, newest) == Action.ASK
    events = loop.ledger.events(MODEL, incident_id=incident.id)
    asked = loop.ledger.incident(incident.id)
    message = message_for(events[-1], asked)
    assert message is not None
    assert all(f"driftloop answer {MODEL} {what} --reason" in str(message.blocks) for what in DriftAnswer)
    assert asked.not_before == loop.until(newest) + 24 * loop.length
    assert triage_at(loop, incident, newest + 2) == Action.ASK
    assert loop.ledger.events(MODEL, incident_id=incident.id) == events
    assert loop.ledger.incident(incident.id) == replace(asked, rings=asked.rings + 1, rung_at=_rung(loop, incident))


def _rung(loop: Loop, incident: Incident) -> datetime | None:
    return loop.ledger.incident(incident.id).rung_at


def test_retrain_is_answered(loop: Loop):
    """Triage asks for the retrain from then on; the same answer again changes nothing, another one is refused."""
    incident, newest = drifting(loop)
    triage_at(loop, incident, newest)
    assert give(loop, DriftAnswer.RETRAIN, newest).ring is not None
    assert give(loop, DriftAnswer.RETRAIN, newest).reason == f"{MODEL}: answered before: retrain"
    with pytest.raises(ContractError, match=r"no question about its drift is open; .*answered with retrain"):
        give(loop, DriftAnswer.IGNORE, newest)
    assert [triage_at(loop, incident, newest) for _ in range(2)] == [Action.RETRAIN] * 2
    assert answers(loop) == [("retrain", "cli:anna")]


def test_ignored_for_a_week(loop: Loop):
    """Nothing is asked in that week, not by the next incident either, and not of another champion."""
    incident, newest = drifting(loop)
    triage_at(loop, incident, newest)
    give(loop, DriftAnswer.IGNORE, newest)
    assert triage_at(loop, incident, newest + 100) == Action.WATCH
    assert triage_at(loop, incident, newest + 170) == Action.ASK
    spec, other = loop.spec(), replace(loop.ledger.incident(incident.id), id=incident.id + 1)
    assert question_of(loop.ledger, other, spec, now=loop.until(newest)).answered is not None
    loop.champion(2)
    assert question_of(loop.ledger, other, spec, now=loop.until(newest)).answered is None


@pytest.mark.parametrize(("unanswered", "action"), [("ignore", Action.WATCH), ("retrain", Action.RETRAIN)])
def test_silence_is_what_the_yaml_says(loop: Loop, unanswered: str, action: Action):
    """Once the time is over the YAML's answer stands in the history, once, and is carried out."""
    incident, newest = drifting(loop, unanswered=unanswered)
    triage_at(loop, incident, newest)
    assert triage_at(loop, incident, newest + 23) == Action.ASK
    assert triage_at(loop, incident, newest + 24) == action
    assert triage_at(loop, incident, newest + 25) == action
    assert answers(loop) == [(unanswered, "silence")]


def test_the_time_of_a_pause_does_not_count(loop: Loop):
    """A question that was paused may be answered for as long again after the pause."""
    incident, newest = drifting(loop)
    triage_at(loop, incident, newest)
    pause(loop.ledger, MODEL, lasting=timedelta(hours=9), actor="cli:anna", reason="r")
    during = question_of(loop.ledger, loop.ledger.incident(incident.id), loop.spec(), now=loop.until(newest))
    resume(loop.ledger, MODEL, actor="cli:anna", reason="r")
    after = question_of(loop.ledger, loop.ledger.incident(incident.id), loop.spec(), now=loop.until(newest))
    resumed = loop.ledger.newest_of(MODEL, EventKind.RESUMED)
    assert resumed is not None
    assert during.deadline is not None
    assert during.deadline > resumed.at + 32 * HOUR
    asked = loop.until(newest)  # lies ahead of this clock in the first minute of an hour
    assert after.deadline == max(resumed.at, asked) + 24 * HOUR


def test_harm_that_comes_to_be_measured_ends_the_question(loop: Loop):
    """A loss or a label within the last day decides instead of a person, who can no longer answer."""
    incident, newest = drifting(loop)
    triage_at(loop, incident, newest)
    loop.verdict(newest + 1, "loss", Condition.OK)
    assert triage_at(loop, incident, newest + 1) == Action.WATCH
    with pytest.raises(ContractError, match="no question about its drift is open"):
        give(loop, DriftAnswer.ACCEPT, newest + 1)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_accepted_as_normal(loop: Loop, *, killed: bool):
    """From a real shift without a loss to a question, and from the answer to windows of that kind being ordinary.

    Where the command was killed after the answer was written, triage carries it out.
    """
    old, new = documentation(), licences()
    loop.spec(drift={"min_rows": 60, "burn_in_windows": 0, "reports": "on_warn"})
    loop.champion()
    loop.reference(old[:400], loss=None)
    for number in range(1, 28):
        loop.traffic(number, tuple(new[(60 * number + at) % len(new)] for at in range(60)), loss=None)
        watch(MODEL, until=loop.until(number), db=loop.db, actor="watch_drift:1")
    incident = loop.ledger.open_of(MODEL)
    assert incident is not None
    assert incident.degraded_since == loop.window(1).start
    key = str(loop.ledger.ring(incident.id))
    assert decide(key, db=loop.db, actor="triage:1", now=loop.until(27))["action"] == Action.ASK
    if killed:
        record(
            loop.ledger, loop.ledger.incident(incident.id), DriftAnswer.ACCEPT, loop.spec(), who="anna", actor="a",
            reason="r", now=loop.until(27),
        )  # fmt: skip
        assert decide(key, db=loop.db, actor="triage:2", now=loop.until(27))["action"] == "none"
    else:
        give(loop, DriftAnswer.ACCEPT, 27)
    assert loop.ledger.incident(incident.id).state is State.RESOLVED
    assert give(loop, DriftAnswer.ACCEPT, 27).reason == f"{MODEL}: answered before: accept"
    assert loop.kinds().count("rebaselined") == 1
    for number in (28, 29, 30):
        loop.traffic(number, tuple(new[(60 * number + at) % len(new)] for at in range(60)), loss=None)
        watch(MODEL, until=loop.until(number), db=loop.db, actor="watch_drift:1")
    assert loop.ledger.open_of(MODEL) is None
