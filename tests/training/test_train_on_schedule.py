"""A training on schedule on the real parts: the road of every retrain, or a refusal with its reason."""

import signal
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, select

from alerts.outbox import enqueue_new
from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import SCHEDULED, State, Wake
from datasets_defs.core.settings import settings
from datasets_defs.core.windows import Window
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.pausing import pause
from datasets_defs.spec.files import spec_of
from datasets_defs.store import tables
from datasets_defs.store.verdicts import save_verdict
from monitors.incidents.quiet import resolve_if_quiet
from monitors.triage import decide
from ops.verify.reading import broken_invariants
from tests.training import test_killed as killed
from tests.training import test_steps as steps
from training import evaluate, promote, retrain
from training.reconcile import rings_due
from training.train_on_schedule import hand_over, order

pytestmark = pytest.mark.slow  # minutes: `make test-all` runs it

db, serving, world = steps.db, steps.serving, killed.world
WHY = "its schedule says so"


def told(db: Engine) -> str:
    enqueue_new(db)
    with db.connect() as on:
        return "\n".join(on.scalars(select(tables.alert_outbox.c.text).order_by(tables.alert_outbox.c.id)))


@pytest.fixture
def due(db: Engine, owner: Engine) -> Engine:
    """The model of the loop's tests, whose champion serves since before its documents came."""
    with owner.begin() as on:
        on.execute(tables.champion.update().values(since=datetime.now(UTC) - timedelta(days=7)))
    return db


@pytest.mark.usefixtures("serving")
def test_it_takes_the_loops_own_road(due: Engine):
    """Ordered, trained, judged by the gate, promoted, on probation; no alarm is told; a second run changes nothing."""
    ledger = Ledger(due)
    ordered = order(steps.MODEL, why=WHY, db=due, actor="train_on_schedule.tiny:1")
    assert ordered.ring is not None, ordered.reason
    incident = ledger.open_of(steps.MODEL)
    assert (incident.signal, incident.is_ordered, incident.is_no_alarm) == (SCHEDULED, True, True)
    assert datetime.now(UTC) - incident.fresh_since > timedelta(days=6)
    again = order(steps.MODEL, why=WHY, db=due, actor="train_on_schedule.tiny:1")
    assert again.ring.incident_id == incident.id
    assert (
        "waits for its training"
        in resolve_if_quiet(steps.MODEL, until=datetime.now(UTC), db=due, actor="watch_quality:1").reason
    )
    second = order(steps.MODEL, why=WHY, db=due, actor="train_on_schedule.tiny:2")
    assert (second.ring, "one thing at a time" in second.reason) == (None, True)

    woken = hand_over(str(ordered.ring), db=due, actor="train_on_schedule.tiny:1")
    trained = retrain.retrain(str(woken.ring), db=due, actor="retrain:1")
    assert trained.ring is not None, trained.reason
    assert hand_over(str(ordered.ring), db=due, actor="train_on_schedule.tiny:1").ring is None
    judged = evaluate.evaluate(str(trained.ring), db=due, actor="evaluate:1")
    assert judged.ring is not None, judged.reason
    assert promote.promote(str(judged.ring), db=due, actor="promote:1").ring is not None
    incident = ledger.incident(incident.id)
    assert (incident.state, ledger.champion(steps.MODEL).version) == (State.PROBATION, 2)
    assert "probation runs" in order(steps.MODEL, why=WHY, db=due, actor="train_on_schedule.tiny:3").reason

    with due.connect() as on:
        scores = on.execute(select(tables.evaluation.c.scores)).scalar_one()
    assert scores["metrics"]["perplexity"]["challenger"] < scores["metrics"]["perplexity"]["champion"]
    words = told(due)
    for message in ("a training on schedule begins", "challenger version 2 trained", "replaces version 1"):
        assert message in words
    assert "is degraded" not in words
    assert ledger.verify(steps.MODEL) == []
    assert broken_invariants(due)[1] == []


@pytest.mark.usefixtures("serving")
def test_a_no_of_the_gate_ends_it(due: Engine, home):
    """A challenger that is not better is not promoted; people hear that nothing is wrong, and the incident ends."""
    path = home / "models" / f"{steps.MODEL}.yaml"
    path.write_text(path.read_text().replace("worth_seeing: 0.2", "worth_seeing: 0.99, min_gain_share: 0.95"))
    ledger = Ledger(due)
    ordered = order(steps.MODEL, why=WHY, db=due, actor="s:1")
    trained = retrain.retrain(str(ordered.ring), db=due, actor="retrain:1")
    assert evaluate.evaluate(str(trained.ring), db=due, actor="evaluate:1").ring is None
    incident = ledger.open_of(steps.MODEL)
    assert incident.state in (State.REJECTED, State.OPEN)
    assert decide(str(ledger.ring(incident.id)), db=due, actor="triage:1")["action"] == "none"
    ended = resolve_if_quiet(steps.MODEL, until=datetime.now(UTC), db=due, actor="watch_quality:1")
    assert "trained on schedule is decided on" in ended.reason
    assert (ledger.open_of(steps.MODEL), ledger.champion(steps.MODEL).version) == (None, 1)
    words = told(due)
    assert "trained on schedule, is not promoted" in words
    assert "the training on schedule of incident" in words
    for alarm in ("is degraded", "Another attempt follows", "is good again"):
        assert alarm not in words


def test_refusals_are_written_once(due: Engine, home):
    """A pause, too few rows, broken data: no incident, one event with the reason for each run, one message."""
    ledger, path = Ledger(due), home / "models" / f"{steps.MODEL}.yaml"
    text = path.read_text()
    path.write_text(text.replace("min_documents: 100,", "min_documents: 121,"))
    for _ in range(2):
        outcome = order(steps.MODEL, why=WHY, db=due, actor="s:1")
        assert (outcome.ring, "120 fresh documents with references; 121 are needed" in outcome.reason) == (None, True)
    path.write_text(text)

    now = datetime.now(UTC)
    window = Window(now - timedelta(hours=1), now)
    bad = Verdict(
        model=steps.MODEL, signal="data", window=window, condition=Condition.BAD, reason="half is null", method="t"
    )
    save_verdict(due, bad)
    assert "the data is broken: half is null" in order(steps.MODEL, why=WHY, db=due, actor="s:2").reason
    pause(ledger, steps.MODEL, lasting=timedelta(hours=1), actor="cli:ann", reason="hands off")
    assert "hands off" in order(steps.MODEL, why=WHY, db=due, actor="s:3").reason
    refused = [each for each in ledger.events(steps.MODEL) if each.kind == EventKind.SCHEDULE_REFUSED]
    assert [each.actor for each in refused] == ["s:1", "s:2", "s:3"]
    assert ledger.open_incidents() == []
    assert told(due).count("no training on schedule this time") >= 3
    assert "choose it in the form" in order(None, why=WHY, db=due, actor="s:4").reason.lower()


def test_a_lost_wake_up_is_rung_again_and_the_governor_has_the_last_word(due: Engine, monkeypatch):
    """An order that nobody took up is rung by `reconcile`; GPU-hours that others took meanwhile end it in words."""
    ledger = Ledger(due)
    order(steps.MODEL, why=WHY, db=due, actor="s:1")
    later = datetime.now(UTC) + timedelta(minutes=5)
    (key,) = rings_due(db=due, actor="reconcile:1", now=later)[Wake.RETRAIN]
    monkeypatch.setenv("DRIFTLOOP_GPU_HOURS_PER_WEEK", "0.001")
    settings.cache_clear()
    refused = retrain.retrain(str(key), db=due, actor="retrain:1")
    assert (refused.ring, "no training on schedule this time" in refused.reason) == (None, True)
    assert ledger.open_of(steps.MODEL) is None
    assert ledger.last_closed(steps.MODEL).state is State.RESOLVED
    assert "GPU-hours" in order(steps.MODEL, why=WHY, db=due, actor="s:2").reason
    assert spec_of(steps.MODEL).schedule is None


def orderable(world: killed.World, owner: Engine) -> None:
    """Give the model what a training on schedule needs: a fresh document, and a champion of some age."""
    path = world.home / "models" / f"{world.model}.yaml"
    path.write_text(path.read_text() + "trust: {anonymous: true}\nretrain: {min_documents: 1}\n")
    steps.append(
        world.db,
        [steps.Inference(model=world.model, request_id="r", at=datetime.now(UTC), prompt="p ", model_version=1)],
    )
    steps.add_feedback(world.db, world.model, "r", reference="a")
    with owner.begin() as on:
        on.execute(tables.champion.update().values(since=datetime.now(UTC) - timedelta(days=7)))


@pytest.mark.parametrize("point", killed.ORDER)
def test_an_order_killed_anywhere_is_made_once(world: killed.World, point: str, owner: Engine):
    """Killed while it opens the incident, and run again by the same run: one incident, one opening in the history."""
    orderable(world, owner)
    code, said = world.step("order", world.model, actor="s:1", kill_at=point).ended()
    assert (code, said) == (-signal.SIGKILL, "")
    code, said = world.step("order", world.model, actor="s:1").ended()
    assert code == 0
    incident = world.ledger.open_of(world.model)
    assert incident is not None, said
    assert f"{world.model}|{incident.id}|" in said
    kinds = [event.kind for event in world.ledger.events(world.model)]
    assert kinds.count(EventKind.OPENED) == 1
    assert kinds.count(EventKind.SCHEDULE_REFUSED) == 0
    assert world.ledger.verify(world.model) == []
    assert broken_invariants(world.db)[1] == []
