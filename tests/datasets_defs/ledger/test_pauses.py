"""Pauses: nothing new is begun, what was begun goes on, and each ends by itself."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import Action, Incident, State, Wake
from datasets_defs.ledger.pauses import pause_of
from datasets_defs.ledger.pausing import LONGEST, pause, resume
from datasets_defs.store import tables
from monitors import scale_gpu
from ops.verify.invariants import LoopRecord, _stuck
from tests.monitors.loop import MODEL, Loop
from training import approve, evaluate, retrain, roll_back
from training.reconcile import rings_due

HOUR, LEASE = timedelta(hours=1), timedelta(minutes=5)


@pytest.fixture
def loop(engine: Engine, home: Path) -> Loop:
    """A model with its first champion and an open incident."""
    loop = Loop(engine, home)
    loop.spec()
    loop.champion()
    loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(1).start, reason="r", evidence={}, actor="t"
    )
    return loop


def paused(loop: Loop, lasting: timedelta = 48 * HOUR):
    return pause(loop.ledger, MODEL, lasting=lasting, actor="cli:ann", reason="a move to other machines")


def rung(loop: Loop, *, after: timedelta) -> dict[Wake, int]:
    rings = rings_due(db=loop.db, actor="reconcile:1", now=datetime.now(UTC) + after)
    return {wake: len(keys) for wake, keys in rings.items() if keys}


def at(loop: Loop, state: State, **changes) -> Incident:
    """Bring the incident to a state along the table of moves."""
    road = [State.RETRAINING, State.EVALUATING, State.APPROVING, State.PROMOTING, State.PROBATION]
    incident = loop.ledger.incident(1)
    while incident.state is not state:
        to = road[road.index(incident.state) + 1 if incident.state in road else 0]
        incident = loop.ledger.move(incident, to, actor="t", reason="r")
    return loop.ledger.move(incident, state, actor="t", reason="r", **changes)


def test_nothing_is_rung_while_it_lasts(loop: Loop) -> None:
    """Reconcile rings neither for a paused model nor after its end less than what is due."""
    paused(loop)
    assert rung(loop, after=24 * HOUR) == {}
    assert rung(loop, after=49 * HOUR) == {Wake.TRIAGE: 1}


def test_resumed_it_is_rung_at_once(loop: Loop) -> None:
    """A person's resume ends it; a second one finds nothing to end."""
    paused(loop)
    assert resume(loop.ledger, MODEL, actor="cli:ann", reason="moved")
    assert not resume(loop.ledger, MODEL, actor="cli:ann", reason="moved")
    assert rung(loop, after=HOUR) == {Wake.TRIAGE: 1}
    said = [(event.kind, event.actor) for event in loop.ledger.events(MODEL) if event.kind in ("paused", "resumed")]
    assert said == [("paused", "cli:ann"), ("resumed", "cli:ann")]
    assert loop.ledger.verify(MODEL) == []


@pytest.mark.parametrize(
    ("step", "state", "changes"),
    [
        (retrain.retrain, State.OPEN, {"action": Action.RETRAIN}),
        (evaluate.evaluate, State.RETRAINING, {"challenger_version": 2}),
        (roll_back.roll_back, State.OPEN, {"action": Action.ROLL_BACK}),
        (roll_back.roll_back, State.PROBATION, {"action": Action.ROLL_BACK}),
        (scale_gpu.scale_gpu, State.OPEN, {"action": Action.SCALE}),
    ],
)
def test_a_woken_step_leaves_a_paused_model_alone(loop: Loop, step, state: State, changes) -> None:
    """It says who paused it, until when and why, and changes nothing."""
    before = at(loop, state, **changes)
    key = str(loop.ledger.ring(1))
    paused(loop)
    outcome = step(key, db=loop.db, actor="run:1")
    assert "is paused until" in outcome.reason
    assert "by cli:ann: a move to other machines" in outcome.reason
    after = loop.ledger.incident(1)
    assert (after.state, after.token, after.claimed_by) == (before.state, before.token, None)


@pytest.mark.parametrize(
    ("state", "to", "wake", "changes"),
    [
        (State.OPEN, State.RETRAINING, Wake.RETRAIN, {}),
        (State.RETRAINING, State.EVALUATING, Wake.EVALUATE, {"challenger_version": 2}),
        (State.APPROVING, State.PROMOTING, Wake.PROMOTE, {"challenger_version": 2, "approved": True}),
    ],
)
def test_what_has_begun_finishes(loop: Loop, state: State, to: State, wake: Wake, changes) -> None:
    """A step that was claimed before the pause is rung for when its run dies, and given to any other run."""
    at(loop, state, **changes)
    how = {"frm": {state}, "to": to, "lease": timedelta(), "reason": "r"}
    held = loop.ledger.claim(loop.ledger.ring(1), actor="run:1", **how).incident
    assert held is not None
    paused(loop)
    loop.ledger.renew(held, timedelta())
    assert rung(loop, after=HOUR) == {wake: 1}
    assert loop.ledger.claim(loop.ledger.ring(1), actor="run:2", **how).incident is not None


def test_what_has_not_begun_waits(loop: Loop) -> None:
    """No step of the loop's own is granted in a pause, nor rung for; by hand it is granted."""
    key, how = loop.ledger.ring(1), {"frm": {State.OPEN}, "to": State.RETRAINING, "lease": timedelta(), "reason": "r"}
    paused(loop)
    refused = loop.ledger.claim(key, actor="run:2", **how)
    assert (refused.incident, "is paused until" in refused.reason) == (None, True)
    assert rung(loop, after=HOUR) == {}
    assert loop.ledger.claim(key, actor="cli:ann", in_pause=True, **how).incident is not None


def test_approved_in_a_pause_is_promoted_in_it(loop: Loop) -> None:
    """A person's yes is rung for and granted, whoever takes it up; the loop's own yes waits for the end."""
    at(loop, State.APPROVING, challenger_version=2)
    paused(loop)
    how = {"frm": {State.APPROVING}, "to": State.PROMOTING, "lease": timedelta(), "reason": "r", "actor": "promote:1"}
    loop.ledger.move(loop.ledger.incident(1), State.APPROVING, actor="evaluate:1", reason="r", approved=True)
    assert (rung(loop, after=HOUR), loop.ledger.claim(loop.ledger.ring(1), **how).incident) == ({}, None)
    loop.ledger.move(loop.ledger.incident(1), State.APPROVING, actor="evaluate:1", reason="r", approved=False)
    approve.answer(MODEL, approve=True, who="cli:ann", reason="read ten answers", db=loop.db)
    assert rung(loop, after=HOUR) == {Wake.PROMOTE: 1}
    promoting = loop.ledger.claim(loop.ledger.ring(1), **how).incident
    assert promoting is not None
    assert (promoting.state, promoting.ordered_by) == (State.PROMOTING, None)


def test_a_question_does_not_run_out_in_a_pause(loop: Loop) -> None:
    """The time of a pause does not count: its end, or a person's resume, gives the question its windows anew."""
    spec = loop.spec(approval_windows=24)
    at(loop, State.APPROVING, challenger_version=2)
    asked = loop.ledger.incident(1).updated_at
    ends = paused(loop, 48 * HOUR).until
    late = asked + spec.window_count(spec.approval_windows) + HOUR
    assert not approve.expire(MODEL, now=late, db=loop.db, actor="reconcile:1")
    assert not approve.expire(MODEL, now=ends + 23 * HOUR, db=loop.db, actor="reconcile:1")
    resume(loop.ledger, MODEL, actor="cli:ann", reason="moved")
    assert not approve.expire(MODEL, now=asked + 23 * HOUR, db=loop.db, actor="reconcile:1")
    assert approve.expire(MODEL, now=late, db=loop.db, actor="reconcile:1")


def test_a_rollback_by_hand_that_was_killed_goes_on_in_a_pause(loop: Loop) -> None:
    """The order of a person stands in the ledger until it is carried out; the loop's own rollback waits."""
    loop.champion(2, kind="promote")
    ordered = at(loop, State.PROBATION, action=Action.ROLL_BACK)
    paused(loop)
    assert rung(loop, after=HOUR) == {}
    loop.ledger.move(ordered, ordered.state, actor="cli:ann", reason="r", action=Action.ROLL_BACK, ordered_by="cli:ann")
    assert rung(loop, after=HOUR) == {Wake.ROLL_BACK: 1}


def test_verify_speaks_of_what_stands_still_in_a_pause(loop: Loop) -> None:
    """Half a promotion that nobody takes up is named; what only waits for the end of the pause is not."""
    ends = paused(loop).until
    late = datetime.now(UTC) + HOUR

    def stuck() -> list[str]:
        record = LoopRecord(
            now=late, incidents=[loop.ledger.incident(1)], champions=[loop.ledger.champion(MODEL)],
            paused_until={MODEL: ends},
        )  # fmt: skip
        return list(_stuck(record, timedelta(minutes=10)))

    assert stuck() == []
    at(loop, State.PROMOTING, challenger_version=2, approved=True)
    assert len(stuck()) == 1
    assert "nobody took it up" in stuck()[0]


def test_a_pause_is_replaced_and_ends_by_itself(loop: Loop) -> None:
    """The newest counts; before its begin and from its end on there is none."""
    paused(loop, 100 * HOUR)
    made = paused(loop, HOUR)
    assert pause_of(loop.db, MODEL, made.since) == made
    assert pause_of(loop.db, MODEL, made.since - timedelta(seconds=1)) is None
    assert pause_of(loop.db, MODEL, made.until) is None
    assert pause_of(loop.db, "another", made.since) is None
    with loop.db.connect() as on:
        assert len(on.execute(select(tables.pause)).all()) == 1


@pytest.mark.parametrize("lasting", [timedelta(), -HOUR, LONGEST + HOUR])
def test_a_pause_has_a_length(loop: Loop, lasting: timedelta) -> None:
    """One that would not last, or for ever, is refused."""
    with pytest.raises(ContractError, match="it may last up to 90 days"):
        paused(loop, lasting)
