"""What keeps the loop going when wake-ups are late or steps fail: reconcile, approvals, late retrains."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, text

from datasets_defs.core.incidents import Action, Incident, State, Wake
from datasets_defs.core.settings import settings
from datasets_defs.store import tables
from tests.monitors.loop import MODEL, Loop
from tests.training.uploads import Uploads
from training import approve, promote, retrain
from training.reconcile import MAX_RUNS, mend, rings_due


@pytest.fixture
def loop(engine: Engine, home: Path) -> Loop:
    """A model with its first champion."""
    loop = Loop(engine, home)
    loop.spec()
    loop.champion()
    return loop


def opened(loop: Loop) -> Incident:
    """Open an incident."""
    incident, _ = loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(1).start, reason="r", evidence={}, actor="t"
    )
    return incident


def train(loop: Loop, actor: str) -> Incident:
    """Claim the training, as a run that then dies."""
    claim = loop.ledger.claim(
        loop.ledger.ring(1), frm={State.OPEN}, to=State.RETRAINING, actor=actor, lease=timedelta(), reason="r"
    )
    assert claim.incident is not None, claim.reason
    return claim.incident


def later(loop: Loop) -> dict[Wake, int]:
    """Ask reconcile, long after the last ring."""
    rings = rings_due(db=loop.db, actor="reconcile:1", now=datetime.now(UTC) + timedelta(days=1))
    return {wake: len(keys) for wake, keys in rings.items() if keys}


def test_retries_of_a_run_call_nobody(loop: Loop) -> None:
    """A peer that is away through all retries of one run is no reason to give up; many runs in vain are."""
    opened(loop)
    for _ in range(6):
        train(loop, "retrain:1")
    assert later(loop) == {Wake.RETRAIN: 1}
    for number in range(2, MAX_RUNS + 1):
        train(loop, f"retrain:{number}")
    assert later(loop) == {}
    assert loop.ledger.incident(1).state is State.ESCALATED


def test_what_got_on_is_not_given_up(loop: Loop) -> None:
    """Runs that died before the challenger was registered do not count against its evaluation."""
    opened(loop)
    for number in range(MAX_RUNS):
        incident = train(loop, f"retrain:{number}")
    loop.ledger.move(incident, State.RETRAINING, actor="retrain:4", reason="registered", challenger_version=2)
    assert later(loop) == {Wake.EVALUATE: 1}


@pytest.mark.parametrize(("state", "aliases"), [(State.APPROVING, {"challenger": 2}), (State.PROBATION, {})])
def test_only_a_contender_is_called_challenger(
    loop: Loop, uploads: Uploads, monkeypatch: pytest.MonkeyPatch, state: State, aliases: dict[str, int]
) -> None:
    """The alias `challenger` comes with the version that is judged, and goes when nothing is judged any more."""
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", uploads.url)
    settings.cache_clear()
    registry = uploads.anew(MODEL, challenger=3)
    opened(loop)
    with loop.db.begin() as on:
        on.execute(text("UPDATE incident SET state = :to, challenger_version = 2"), {"to": state})
    mend(db=loop.db, actor="reconcile:1", now=datetime.now(UTC))
    assert registry.aliases(MODEL) == {"champion": 1, **aliases}


@pytest.mark.parametrize("by", ["person", "silence"])
def test_a_no_waits_for_other_data(loop: Loop, by: str) -> None:
    """After a no the same rows are not trained on again at once."""
    incident = opened(loop)
    for state in (State.RETRAINING, State.EVALUATING, State.APPROVING):
        incident = loop.ledger.move(incident, state, actor="t", reason="r")
    now = datetime.now(UTC)
    if by == "person":
        approve.answer(MODEL, False, who="cli:ann", reason="no", db=loop.db)
    else:
        now += 100 * loop.length
        assert approve.expire(MODEL, now=now, db=loop.db, actor="reconcile:1")
    rejected = loop.ledger.incident(1)
    assert rejected.state is State.REJECTED
    assert rejected.not_before is not None
    assert rejected.not_before >= now + 3 * loop.length


@pytest.mark.parametrize("action", [Action.ROLL_BACK, Action.WATCH, Action.SCALE])
def test_a_late_wake_up_trains_nothing(loop: Loop, action: Action) -> None:
    """A wake-up that comes after triage has decided otherwise changes nothing."""
    loop.ledger.move(opened(loop), State.OPEN, actor="triage:1", reason="r", action=action)
    outcome = retrain.retrain(str(loop.ledger.ring(1)), db=loop.db, actor="retrain:1")
    assert f"triage says {action}" in outcome.reason
    assert loop.ledger.incident(1).state is State.OPEN


@pytest.mark.parametrize(("who", "said"), [("cli:ann", "0 fresh"), ("watch_quality:1", "cool-down")])
def test_resolved_by_hand_starts_afresh(loop: Loop, who: str, said: str) -> None:
    """After `incident resolve` no cool-down holds the next retrain; after an end by the loop itself it does."""
    opened(loop)
    escalated = loop.ledger.move(train(loop, "retrain:1"), State.ESCALATED, actor="t", reason="serving is broken")
    loop.ledger.move(escalated, State.RESOLVED, actor=who, reason="mended")
    incident = opened(loop)
    outcome = retrain.retrain(str(loop.ledger.ring(incident.id)), db=loop.db, actor="retrain:2")
    assert said in outcome.reason


def test_a_rollback_during_a_promotion_stands(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who goes back while serving has yet to load the new version is neither waited out nor undone."""
    incident = opened(loop)
    for state in (State.RETRAINING, State.EVALUATING, State.APPROVING):
        incident = loop.ledger.move(incident, state, actor="t", reason="r", challenger_version=2, approved=True)
    judged = {"incident_id": 1, "attempt": 0, "model": MODEL, "champion_version": 1, "challenger_version": 2}
    rest = {"rows_uri": "", "rows_sha256": "", "scores": {}, "decision": "accept", "reason": ""}
    with loop.db.begin() as on:
        on.execute(insert(tables.evaluation).values({**judged, **rest}))

    def by_hand(*_: object) -> dict[str, object]:
        if loop.ledger.champion(MODEL).version == 2:
            loop.champion(1, kind="roll_back")
        return {}

    monkeypatch.setattr("training.champions.confirmation.heartbeats", by_hand)
    outcome = promote.promote(str(loop.ledger.ring(1)), db=loop.db, actor="promote:1")
    assert "version 1 took its place before it served" in outcome.reason
    assert (loop.ledger.incident(1).state, loop.ledger.champion(MODEL).version) == (State.ESCALATED, 1)


def test_waiting_is_told_once(loop: Loop) -> None:
    """People hear once that a retrain waits for documents, though the governor is asked at every window."""
    opened(loop)
    for _ in range(2):
        retrain.retrain(
            str(loop.ledger.ring(1)), db=loop.db, actor="retrain:1", now=datetime.now(UTC) + timedelta(days=1)
        )
        with loop.db.begin() as on:
            on.execute(text("UPDATE incident SET not_before = now()"))
    waits = [event.evidence for event in loop.ledger.events(MODEL) if event.kind == "progress"]
    assert waits == [{"retrain": "waits"}, {}]
