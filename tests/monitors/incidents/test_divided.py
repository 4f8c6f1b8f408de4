"""Feedback that comes after a rollout on what was answered in it takes a new champion back, or is told as it passes."""

from datetime import UTC, datetime, timedelta

import pytest

from datasets_defs.core.conditions import Condition
from datasets_defs.core.incidents import Incident, State
from datasets_defs.ledger.routes import Route
from datasets_defs.store.arm_log import ArmTally, add_tallies, bucket_of
from datasets_defs.store.feedback import add_feedback
from datasets_defs.store.inference_log import Inference, append
from monitors.incidents.divided import last_division
from monitors.incidents.probation import judge_open_probation
from tests.monitors.loop import MODEL, Loop
from tests.rollouts import rolled_out, users


def answered(loop: Loop, route: Route, named: list[str], version: int) -> None:
    """Log an answer for each user, and the gateway's counts."""
    append(loop.db, [
        Inference(model=MODEL, request_id=f"{version}-{user}", at=datetime.now(UTC), prompt="p", completion="ok",
                  model_version=version, latency_seconds=0.5, user_id=user)
        for user in named
    ])  # fmt: skip
    add_tallies(loop.db, [
        ArmTally(model=MODEL, incident_id=route.incident_id, step=route.step, version=version, bucket=bucket_of(user),
                 requests=10, errors=0)
        for user in named
    ])  # fmt: skip


def scored(loop: Loop, named: list[str], version: int, score: float) -> None:
    for at, user in enumerate(named):
        spread = 0.1 if at % 2 else -0.1
        add_feedback(loop.db, MODEL, f"{version}-{user}", score=score + spread, contributor="key:app")


@pytest.fixture
def divided(loop: Loop) -> tuple[Loop, Incident, list[str]]:
    """A champion in probation that had half of 600 users beside the one before it, and all since an hour."""
    loop.spec(rollout={"windows": 2, "steps": [0.5, 1.0]})
    loop.champion(1)
    route, named = rolled_out(loop.ledger, MODEL), users(600)
    answered(loop, route, named[:300], 1)
    answered(loop, route, named[300:], 2)
    incident = loop.ledger.open_of(MODEL)
    incident = loop.ledger.move(incident, State.ROLLOUT, actor="t", reason="the next step")
    loop.ledger.change_route(loop.ledger.route(MODEL), actor="t", step=1, since=None)
    incident = loop.ledger.move(incident, State.PROMOTING, actor="t", reason="r")
    loop.champion(2, since=loop.window(0).start, kind="promote")
    incident = loop.ledger.move(incident, State.PROBATION, actor="t", reason="r")
    late = [f"late-{user}" for user in named[:300]]
    append(loop.db, [  # all are its users now, at another time: they are compared with nobody
        Inference(model=MODEL, request_id=f"2-{user}", at=datetime.now(UTC) + timedelta(seconds=1), prompt="p",
                  completion="", model_version=2, latency_seconds=30.0, user_id=user)
        for user in late
    ])  # fmt: skip
    scored(loop, late, 2, 0.2)
    return loop, incident, named


def judge(loop: Loop) -> tuple[State, bool, str]:
    outcome = judge_open_probation(MODEL, until=loop.until(11), db=loop.db, actor="t")
    events = [event for event in loop.ledger.events(MODEL) if event.state is not None]
    return State(events[-1].state), outcome.ring is not None, outcome.reason


def test_late_scores_take_the_champion_back(divided: tuple[Loop, Incident, list[str]]) -> None:
    """Scores of the step's own answers, sent after it, show that its users fared worse: it is rolled back."""
    loop, _, named = divided
    assert judge(loop)[:2] == (State.PROBATION, False)
    scored(loop, named[:300], 1, 0.8)
    scored(loop, named[300:], 2, 0.5)
    state, rung, reason = judge(loop)
    assert (state, rung) == (State.PROBATION, True)
    assert "its users fared worse than those of the champion before it, while both served: score +0.3" in reason


def test_what_was_seen_is_told_as_it_passes(divided: tuple[Loop, Incident, list[str]]) -> None:
    """Users who fared alike do not hold it up, and the reason carries their figures."""
    loop, incident, named = divided
    scored(loop, named[:300], 1, 0.8)
    scored(loop, named[300:], 2, 0.8)
    for number in (10, 11):
        loop.verdict(number, "loss", Condition.OK, version=2)
    state, _, reason = judge(loop)
    assert state is State.RESOLVED
    assert "users while both served: score" in reason
    assert "latency +0.000 worse (surely" in reason
    assert loop.ledger.incident(incident.id).state is State.RESOLVED


def test_which_step_is_compared(divided: tuple[Loop, Incident, list[str]]) -> None:
    """The last step that was judged, from the moment its share was reached to its end; none for other versions."""
    loop, incident, _ = divided
    events, champion = loop.ledger.events(MODEL, incident_id=incident.id), loop.ledger.champion(MODEL)
    found = last_division(events, champion)
    assert (found.champion, found.challenger, found.step, found.incident_id) == (1, 2, 0, incident.id)
    routed = next(event for event in events if event.kind == "routed")
    assert found.since == routed.at < found.until
    assert last_division([event for event in events if event.kind != "routed"], champion) is None
    loop.champion(3, since=loop.window(1).start, kind="promote")
    assert last_division(events, loop.ledger.champion(MODEL)) is None
