"""The next automatic action: over every state, held or not, paused or not, woken or not."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from datasets_defs.core.incidents import Action, Incident, State, Wake, due
from datasets_defs.ledger.outlook import outlook
from datasets_defs.spec.model import ModelSpec

NOW = datetime(2026, 5, 1, 12, 4, 30, tzinfo=UTC)
PERIOD = timedelta(minutes=10)
SPEC = ModelSpec(name="m", base_model="x", training_text="y")
HOUR = timedelta(hours=1)
WORDS = {
    Wake.TRIAGE: (
        "look again",
        "take the silence",
        "start a retraining",
        "roll back",
        "make another attempt",
        "call a person",
    ),
    Wake.RETRAIN: ("train a challenger",),
    Wake.EVALUATE: ("evaluate challenger v7",),
    Wake.APPROVE: ("refuse challenger v7 if nobody answers",),
    Wake.PROMOTE: ("promote v7",),
    Wake.ROLL_BACK: ("roll back",),
}


def incident(state: State, **changes) -> Incident:
    known = {"id": 3, "model": "m", "signal": "loss", "opened_at": NOW - 5 * HOUR, "updated_at": NOW - HOUR}
    return Incident(**{**known, "state": state, "degraded_since": NOW - 6 * HOUR, **changes})


def ask(found: Incident | None, *, paused_until: datetime | None = None, spec: ModelSpec | None = SPEC):
    return outlook(found, now=NOW, paused_until=paused_until, reconcile_period=PERIOD, spec=spec)


def every_incident():
    """Every state with every combination of what else the outlook looks at."""
    for state, action, challenger, approved, held, rung, wait in product(
        State,
        (None, *Action),
        (None, 7),
        (False, True),
        (None, "dead", "live"),
        (None, NOW - timedelta(minutes=1), NOW - HOUR, NOW + HOUR),
        (None, NOW - HOUR, NOW + 2 * HOUR),
    ):
        if challenger is None and state in (State.EVALUATING, State.APPROVING, State.PROMOTING):
            continue  # there is no such thing
        lease = {None: None, "dead": NOW - timedelta(minutes=3), "live": NOW + timedelta(minutes=3)}[held]
        yield incident(
            state, action=action, challenger_version=challenger, approved=approved, rung_at=rung, not_before=wait,
            claimed_by="run 9" if held else None, lease_until=lease,
        )  # fmt: skip


def first_ring(found: Incident) -> tuple[datetime, Wake] | None:
    """Step through the reconciliations to come until one rings; None when none does for a day."""
    tick = datetime(2026, 5, 1, 12, 10, tzinfo=UTC)
    while tick < NOW + timedelta(days=1):
        if (work := due(found, tick, PERIOD)) is not None:
            return tick, work.wake
        tick += PERIOD
    return None


@pytest.mark.slow
def test_the_time_is_that_of_the_reconciliation_that_would_ring():
    """Whatever stands undone and unheld is foretold for exactly the run of `reconcile` that rings for it."""
    compared = 0
    for found in every_incident():
        expected, said = first_ring(found), ask(found)
        if found.holder(NOW) or (found.state is State.APPROVING and not found.approved) or expected is None:
            continue
        compared += 1
        assert said.at == expected[0], found
        assert said.action.startswith(WORDS[expected[1]]), (found, said)
    assert compared > 1000


def test_what_is_held_is_under_way():
    """A live claim is told with its holder, is not in the future, and says when it would be begun again."""
    for found in every_incident():
        asks = found.state is State.APPROVING and not found.approved  # a form waits: what comes is its deadline
        if (holder := found.holder(NOW)) is not None and not asks:
            said = ask(found)
            assert said.at == NOW
            assert holder in said.why
            again = first_ring(found)
            if again is not None:
                assert f"{again[0]:%H:%M:%S}" in said.why
            assert ask(found, paused_until=NOW + HOUR) == said, "a pause does not stop what has begun"


def test_every_answer_is_whole():
    """Words and a reason in every case, no hole left in them, and no time in the past."""
    for found, paused, spec in product([None, *every_incident()], (None, NOW - HOUR, NOW + HOUR), (SPEC, None)):
        said = ask(found, paused_until=paused, spec=spec)
        assert said.action
        assert said.why
        assert "{" not in said.action + said.why
        assert "None" not in said.action + said.why or (found is not None and found.challenger_version is None)
        assert said.at is None or said.at >= NOW
        assert said.action in str(said)


def test_nothing_is_done_for_a_paused_model():
    """Nothing is foretold before the pause ends but what was begun or a person ordered; a past one changes nothing."""
    until = NOW + HOUR
    for found in every_incident():
        plain, paused = ask(found), ask(found, paused_until=until)
        assert ask(found, paused_until=NOW - HOUR) == plain
        if found.goes_on_in_a_pause:
            assert (paused.action, paused.at) == (plain.action, plain.at)
        elif found.holder(NOW) is None and found.is_open and plain.at is not None:
            assert (paused.action, paused.at) == ("nothing while it is paused", until)
            assert plain.action in paused.why


@pytest.mark.parametrize(
    ("found", "action", "at"),
    [
        (None, "judge the next window", "13:00:00"),
        (incident(State.OPEN), "look again (triage)", "12:10:00"),
        (incident(State.OPEN, action=Action.RETRAIN, not_before=NOW + HOUR), "start a retraining", "13:10:00"),
        (incident(State.OPEN, action=Action.WATCH, not_before=NOW + HOUR), "look again at the shift", "13:10:00"),
        (incident(State.OPEN, action=Action.SCALE), "look again after asking for capacity", "12:10:00"),
        (incident(State.OPEN, action=Action.ROLL_BACK), "roll back", "12:10:00"),
        (incident(State.RETRAINING, rung_at=NOW), "train a challenger", "12:20:00"),
        (incident(State.RETRAINING, challenger_version=7), "evaluate challenger v7", "12:10:00"),
        (incident(State.APPROVING, challenger_version=7), "refuse challenger v7 if nobody answers", "11:10:00"),
        (incident(State.APPROVING, challenger_version=7, approved=True), "promote v7", "12:10:00"),
        (incident(State.PROMOTING, challenger_version=7), "promote v7", "12:10:00"),
        (incident(State.PROBATION), "judge the next window of the probation", "13:00:00"),
        (incident(State.PROBATION, action=Action.ROLL_BACK), "roll back", "12:10:00"),
        (incident(State.QUARANTINED), "judge the next window's data", "13:00:00"),
        (incident(State.REJECTED, attempt=2), "make another attempt", "12:10:00"),
        (incident(State.REJECTED, attempt=3), "call a person", "12:10:00"),
        (incident(State.ESCALATED), "none: a person decides", None),
        (incident(State.RESOLVED), "none", None),
        (incident(State.ROLLED_BACK), "none", None),
    ],
)
def test_what_comes_next(found, action, at):
    """The action and its time, state by state; an approval waits for a day of windows."""
    said = ask(found)
    assert (said.action, said.at and f"{said.at:%H:%M:%S}") == (action, at)


def test_without_a_spec_nothing_is_promised():
    """A model whose file is gone or wrong has no next action, and that is said."""
    for found in (None, incident(State.OPEN), incident(State.PROBATION)):
        said = ask(found, spec=None)
        assert (said.action, said.at) == ("none", None)
        assert "missing or wrong" in said.why
