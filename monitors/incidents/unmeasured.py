"""What drift calls for whose harm cannot be measured: a wait of a day, one question, an answer or silence. Pure.

Drift alone retrains nothing: whether it costs anything decides. Where no loss, label or quality signal says so, nobody
but a person can know; the YAML's `drift.unmeasured` says whether one is asked.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from datasets_defs.core.incidents import Action, Cause
from monitors.incidents.triage_rules import TriageDecision, TriageEvidence

STAYS = 24
"""Windows that such drift has to stay until anything is done about it."""
IGNORED = timedelta(days=7)
"""How long the answer `ignore` holds."""


class DriftAnswer(StrEnum):
    """What a person may say that the drift calls for."""

    RETRAIN = "retrain"
    """Train a challenger on what came since it began."""
    ACCEPT = "accept"
    """The shifted input is the new reference."""
    IGNORE = "ignore"
    """Do nothing about it, and ask again in a week if it is still there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The newest answer that holds for the incident."""

    answer: DriftAnswer
    who: str
    until: datetime | None
    """When `ignore` ends; None: the answer is another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """How the question stands."""

    now: datetime
    since: datetime
    """Start of the first drifted window."""
    window_length: timedelta
    policy: Literal["ask", "retrain", "watch"]
    time_to_answer: timedelta
    deadline: datetime | None
    """When the question that was asked is over; None: it was not asked."""
    answered: Answered | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """What triage's decision comes to."""

    decision: TriageDecision
    not_before: datetime | None = None
    """When it is looked at again; None: as for any decision of that action."""
    accepted_by: str | None = None
    """Who said that the shifted input is to become the reference; None: nobody."""
    is_silence: bool = False
    """Whether the time to answer is over, so that the YAML's answer counts."""


def next_step(decision: TriageDecision, evidence: TriageEvidence, question: Question) -> NextStep:
    """Say what is done: triage's decision, unless it only watches drift of which nobody knows whether it costs."""
    is_about_drift = decision.cause is Cause.INPUT_SHIFT and decision.action is Action.WATCH
    if not is_about_drift or "drift" not in evidence.signals or evidence.is_measured:
        return NextStep(decision=decision)
    answered, now = question.answered, question.now
    if answered is not None and (answered.until is None or now < answered.until):
        return _by_answer(answered, decision, evidence)
    if question.policy == "watch" or now - question.since < STAYS * question.window_length:
        return NextStep(decision=decision)
    what = f"the input has drifted since {question.since:%Y-%m-%d %H:%M}Z and nothing measures whether that costs"
    if question.policy == "retrain":
        return NextStep(decision=_retrain(f"{what}; `drift.unmeasured: retrain`", evidence))
    if question.deadline is not None and now >= question.deadline:
        return NextStep(decision=decision, is_silence=True)
    ends = question.deadline or now + question.time_to_answer
    reason = f"{what}: a person says by {ends:%Y-%m-%d %H:%M}Z whether to retrain, accept or ignore it"
    return NextStep(decision=replace(decision, action=Action.ASK, reason=reason), not_before=ends)


def _by_answer(answered: Answered, decision: TriageDecision, evidence: TriageEvidence) -> NextStep:
    match answered.answer:
        case DriftAnswer.RETRAIN:
            return NextStep(decision=_retrain(f"the input has drifted, and {answered.who} said retrain", evidence))
        case DriftAnswer.ACCEPT:
            reason = f"the input has drifted, and {answered.who} accepted it as normal"
            return NextStep(decision=replace(decision, reason=reason), accepted_by=answered.who)
        case DriftAnswer.IGNORE:
            until = f"{answered.until:%Y-%m-%d %H:%M}Z"
            reason = f"the input has drifted, and {answered.who} said to ignore it until {until}"
            return NextStep(decision=replace(decision, reason=reason), not_before=answered.until)


def _retrain(why: str, evidence: TriageEvidence) -> TriageDecision:
    if evidence.attempts_left <= 0:
        why = f"{why}; no retraining attempt is left: a person decides"
        return TriageDecision(cause=Cause.INPUT_SHIFT, action=Action.ALERT, reason=why)
    return TriageDecision(cause=Cause.INPUT_SHIFT, action=Action.RETRAIN, reason=why)
