"""Whether a training on schedule may begin, reason by reason."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from datasets_defs.core.conditions import Condition
from datasets_defs.core.incidents import SCHEDULED, Incident, State, Wake, due
from datasets_defs.spec.training import RetrainSpec
from training.limits.governor import GovernorEvidence
from training.limits.ordering import OrderEvidence, may_order

NOW = datetime(2026, 5, 4, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)
FREE = GovernorEvidence(now=NOW, window_length=HOUR, last_closed_at=None, fresh_documents=500, attempts=0)
GOOD = OrderEvidence(governor=FREE, open_incident=None, data=Condition.OK)


def incident(state: State, **more: object) -> Incident:
    return Incident(
        id=7, model="m", state=state, signal="loss", opened_at=NOW, updated_at=NOW, degraded_since=NOW, **more
    )


def test_with_nothing_against_it_it_goes():
    """A champion, whole data, enough fresh rows: the training begins; data that nobody judged refuses nothing."""
    for data in (Condition.OK, Condition.WARN, Condition.NO_DATA, Condition.STALE, None):
        assert may_order(replace(GOOD, data=data), RetrainSpec()).go


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (replace(GOOD, paused="m is paused until noon"), "paused until noon"),
        (replace(GOOD, open_incident=incident(State.OPEN)), "incident 7 is open"),
        (replace(GOOD, open_incident=incident(State.PROBATION)), "probation runs"),
        (replace(GOOD, open_incident=incident(State.QUARANTINED)), "the data is broken"),
        (replace(GOOD, open_incident=incident(State.APPROVING)), "waits for a person"),
        (replace(GOOD, data=Condition.BAD, data_reason="half the prompts are null"), "half the prompts are null"),
        (replace(GOOD, governor=replace(FREE, fresh_documents=199)), "199 fresh documents with references; 200 are"),
        (replace(GOOD, governor=replace(FREE, last_closed_at=NOW - 23 * HOUR)), "cool-down"),
        (replace(GOOD, governor=replace(FREE, recent_starts=(NOW - 9 * HOUR, NOW - HOUR))), "2 are allowed"),
        (replace(GOOD, hours_left=0.4, hours_needed=0.5), "0.40 GPU-hours left, 0.50 are needed"),
    ],
)
def test_each_refusal_has_its_reason(evidence: OrderEvidence, words: str):
    """Whatever stands against it refuses in words that name it, and nothing waits: the schedule comes again."""
    decision = may_order(evidence, RetrainSpec())
    assert (decision.go, decision.not_before) == (False, None)
    assert words in decision.reason


def test_an_ordered_training_is_woken_again():
    """An order whose wake-up was lost is rung for its training; once a signal is bad, triage looks at it instead."""
    ordered = incident(State.OPEN, evidence={SCHEDULED: {}})
    assert (ordered.is_ordered, ordered.is_no_alarm) == (True, True)
    assert due(ordered, NOW + HOUR, HOUR).wake is Wake.RETRAIN
    assert due(replace(ordered, evidence={SCHEDULED: {}, "loss": {}}), NOW + HOUR, HOUR).wake is Wake.TRIAGE
    assert due(replace(ordered, attempt=1), NOW + HOUR, HOUR).wake is Wake.TRIAGE
