"""kill -9 after each write of triage: the same decision, written once, paused meanwhile or not."""

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from alerts.outbox import enqueue_new
from datasets_defs.core.conditions import Condition
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import Action, Incident, State, Wake
from datasets_defs.core.settings import ROOT
from datasets_defs.ledger.pausing import pause, resume
from monitors.watch_drift import watch
from ops.verify.reading import broken_at, read_record
from tests.monitors.incidents.test_unmeasured import drifting
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation, licences
from tests.training.killed_steps import Running
from training.reconcile import find_due

LONG_AFTER = timedelta(hours=1)


@dataclass(frozen=True)
class Given:
    """An incident, the time at which triage looks at it, and what that must come to."""

    incident: Incident
    at: datetime
    state: State
    action: Action | None
    answers: int = 0
    """Answers in the history."""
    revisions: int = 0
    """Times that the reference was renewed."""


def a_shift(loop: Loop) -> Given:
    """A shift that the YAML wants trained on."""
    incident, newest = drifting(loop, unmeasured="retrain")
    return Given(incident, loop.until(newest), State.OPEN, Action.RETRAIN)


def a_rejection(loop: Loop) -> Given:
    """The same, after an attempt that was not good enough."""
    given = a_shift(loop)
    loop.spec(drift={"min_rows": 60, "burn_in_windows": 0, "unmeasured": "retrain"}, retrain={"max_attempts": 2})
    return replace(given, incident=_rejected(loop, given.incident))


def a_last_rejection(loop: Loop) -> Given:
    """An attempt that was not good enough, and no other one is allowed."""
    incident, newest = drifting(loop, unmeasured="retrain")
    loop.spec(drift={"min_rows": 60, "burn_in_windows": 0, "unmeasured": "retrain"}, retrain={"max_attempts": 1})
    return Given(_rejected(loop, incident), loop.until(newest), State.ESCALATED, None)


def broken_rows(loop: Loop) -> Given:
    """Rows that are broken."""
    incident, newest = drifting(loop)
    loop.verdict(newest, "data", Condition.BAD)
    incident, _ = loop.ledger.open_incident(
        MODEL, signal="data", degraded_since=incident.degraded_since, reason="r", evidence={}, actor="a"
    )
    return Given(incident, loop.until(newest), State.QUARANTINED, Action.QUARANTINE)


def a_silence(loop: Loop) -> Given:
    """A question that nobody answered in time, where the YAML then wants a retrain."""
    incident, newest = drifting(loop, unanswered="retrain")
    _asked(loop, incident, newest)
    loop.verdict(newest + 25, "drift", Condition.BAD)
    return Given(loop.ledger.incident(incident.id), loop.until(newest + 25), State.OPEN, Action.RETRAIN, answers=1)


def an_acceptance(loop: Loop) -> Given:
    """A real shift that nobody answered for in time, where the YAML then takes it for the new normal."""
    old, new = documentation(), licences()
    loop.spec(drift={"min_rows": 60, "burn_in_windows": 0, "unanswered": "accept"})
    loop.champion()
    loop.reference(old[:400], loss=None)
    for number in range(1, 28):
        loop.traffic(number, tuple(new[(60 * number + at) % len(new)] for at in range(60)), loss=None)
        watch(MODEL, until=loop.until(number), db=loop.db, actor="watch_drift:1")
    incident = loop.ledger.open_of(MODEL)
    assert incident is not None
    _asked(loop, incident, 27)
    loop.verdict(52, "drift", Condition.BAD)
    asked = loop.ledger.incident(incident.id)
    return Given(asked, loop.until(52), State.RESOLVED, Action.WATCH, answers=1, revisions=1)


def _asked(loop: Loop, incident: Incident, number: int) -> None:
    key = str(loop.ledger.ring(incident.id))
    code, said = triage(loop, key, loop.until(number))
    assert (code, said.split(":")[0]) == (0, Action.ASK)


def _rejected(loop: Loop, incident: Incident) -> Incident:
    """Let an attempt be made and rejected."""
    lease = timedelta(seconds=60)
    for frm, to in ((State.OPEN, State.RETRAINING), (State.RETRAINING, State.EVALUATING)):
        key = loop.ledger.ring(incident.id)
        claim = loop.ledger.claim(key, frm={frm}, to=to, actor="t", lease=lease, reason="r")
        assert claim.incident is not None
        incident = claim.incident
    return loop.ledger.move(incident, State.REJECTED, actor="t", reason="not better", challenger_version=2)


def triage(loop: Loop, key: str, at: datetime, *, actor: str = "triage:1", kill_at: str = "") -> tuple[int | None, str]:
    """Run the step in a process of its own."""
    url = loop.db.url.render_as_string(hide_password=False)
    return Running("triage", url, f"{key} {at.isoformat()}", actor=actor, kill_at=kill_at).ended()


def rung_for(loop: Loop) -> list[Wake]:
    """Give what reconcile rings for an hour later."""
    due = find_due(db=loop.db, actor="reconcile:1", now=_now(loop) + LONG_AFTER, ended=lambda _: True)
    return [wake for wake, keys in due.items() for _ in keys]


def _now(loop: Loop) -> datetime:
    return read_record(loop.db).now


def speaks(loop: Loop) -> list[str]:
    """Give what `verify` would say of things that stand still, an hour later."""
    enqueue_new(loop.db)
    record = read_record(loop.db)
    return [each for each in broken_at(replace(record, now=record.now + LONG_AFTER)) if "nobody took it up" in each]


def facts(loop: Loop, given: Given) -> tuple[object, ...]:
    """Give what the ledger says, but for who was at it and when."""
    now = loop.ledger.incident(given.incident.id)
    kinds = loop.kinds()
    return now.state, now.action, kinds.count(EventKind.DRIFT_ANSWERED), kinds.count(EventKind.REBASELINED)


CASES: list[tuple[str, Callable[[Loop], Given]]] = [
    ("triage.decided", a_shift),
    ("triage.rung", a_shift),
    ("triage.taken_up", a_rejection),
    ("triage.decided", a_rejection),
    ("triage.taken_up", a_last_rejection),
    ("triage.decided", broken_rows),
    ("triage.silent", a_silence),
    ("triage.decided", a_silence),
    ("triage.silent", an_acceptance),
    ("triage.rebaselined", an_acceptance),
    ("triage.accepted", an_acceptance),
]


@pytest.mark.parametrize("way", ["run again", "paused, resumed"])
@pytest.mark.parametrize(
    ("point", "make"),
    [pytest.param(*case, marks=[pytest.mark.slow] if case[1] is an_acceptance else []) for case in CASES],
)
def test_triage_killed_anywhere(loop: Loop, way: str, point: str, make: Callable[[Loop], Given]) -> None:
    """It comes to the same decision, once, and is rung for again; in a pause it waits, which is no fault to name."""
    given = make(loop)
    key = str(loop.ledger.ring(given.incident.id))
    assert triage(loop, key, given.at, kill_at=point) == (-signal.SIGKILL, "")
    if way == "paused, resumed":
        pause(loop.ledger, MODEL, lasting=timedelta(days=1), actor="cli:ann", reason="a move")
        before = facts(loop, given)
        assert (rung_for(loop), speaks(loop), facts(loop, given)) == ([], [], before)
        resume(loop.ledger, MODEL, actor="cli:ann", reason="moved")
    now = loop.ledger.incident(given.incident.id)
    waits = now.not_before is not None and now.not_before > _now(loop) + LONG_AFTER
    is_left = now.state in (State.OPEN, State.REJECTED) and not waits
    assert bool(speaks(loop)) == is_left
    assert rung_for(loop) == ([Wake.TRIAGE] if is_left else [])
    triage(loop, str(loop.ledger.ring(given.incident.id)), given.at, actor="triage:2")
    assert facts(loop, given) == (given.state, given.action, given.answers, given.revisions)
    moves = [event.reason for event in loop.ledger.events(MODEL) if event.kind == EventKind.MOVED]
    of_triage = [reason for reason in moves if reason not in ("r", "not better")]
    assert len(of_triage) == len(set(of_triage))
    assert loop.ledger.verify(MODEL) == []


def test_every_point_is_tried() -> None:
    """The points in the code of triage are those that it is killed at here."""
    found = set()
    for path in (ROOT / "monitors").rglob("*.py"):
        found |= set(re.findall(r'reached\("(triage\.[a-z_]+)"\)', path.read_text()))
    assert found == {point for point, _ in CASES}
