"""The budgets under fire: many processes, killed at random, on real PostgreSQL; and one trainer at any time."""

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, func, insert, select

from datasets_defs.core.conditions import Outcome
from datasets_defs.core.errors import ContractError, DriftloopError, TransientError
from datasets_defs.core.gpu_budget import Charge, bucket_level, may_spend
from datasets_defs.core.incidents import Action, Incident, State
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.training import RetrainSpec
from datasets_defs.store import tables
from datasets_defs.store.database import engine_for
from datasets_defs.store.feedback import add_feedback
from datasets_defs.store.gpu_charges import level, settle
from datasets_defs.store.inference_log import Inference, append
from ops.stack.postgres import Cluster
from tests.waiting import wait_for
from training.limits.admission import begin
from training.limits.budget import charge_by_hand, of_attempt, of_training
from training.limits.governor import (
    Evaluated,
    GovernorEvidence,
    back_off_windows,
    may_retrain,
)
from training.trainers.locks import only_trainer

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)
CAPACITY = 20.0
MODELS, TRIGGERS, PROCESSES, ATTEMPTS = 12, 1000, 3, 3
YAML = """
name: {name}
base_model: {{layers: 1, width: 48, heads: 2, vocabulary: 400, context: 96}}
training_text: builtin:python-docs
retrain: {{min_documents: 1, max_seconds: 3600, cool_down_windows: 0, budget: {{attempts: {attempts}}}}}
"""

amounts = st.floats(min_value=0.1, max_value=CAPACITY)
gaps = st.floats(min_value=0, max_value=3e5)


@given(st.lists(st.tuples(gaps, amounts), max_size=60))
def test_no_stretch_of_time_takes_more_than_the_bucket_gives(asked):
    """Between any two charges no more is granted than a full bucket and what came back meanwhile."""
    at, granted = NOW, []
    for gap, amount in asked:
        at += timedelta(seconds=gap)
        decision = may_spend(amount, granted, now=at, capacity=CAPACITY, refill=WEEK)
        if decision.go:
            granted.append(Charge(at, amount))
        else:
            assert decision.not_before > at
            assert may_spend(amount, granted, now=decision.not_before, capacity=CAPACITY, refill=WEEK).go
    for first in range(len(granted)):
        for last in range(first, len(granted)):
            spent = sum(each.gpu_hours for each in granted[first : last + 1])
            assert spent <= CAPACITY * (1 + (granted[last].at - granted[first].at) / WEEK) + 1e-6


def test_the_bucket_fills_evenly_and_never_over():
    """Empty it is half full after half a week, and full from a week on; a charge ahead of the clock counts."""
    charges = [Charge(NOW, CAPACITY)]
    levels = [bucket_level(charges, NOW + part * WEEK, CAPACITY, WEEK.total_seconds()) for part in (-1, 0, 0.5, 1, 9)]
    assert levels == pytest.approx([0, 0, CAPACITY / 2, CAPACITY, CAPACITY])
    assert bucket_level([], NOW, CAPACITY, 1.0) == CAPACITY


def test_what_never_fits_calls_a_person():
    """An attempt that takes more than the fleet ever has does not wait."""
    decision = may_spend(CAPACITY + 1, [], now=NOW, capacity=CAPACITY, refill=WEEK)
    assert (decision.go, decision.not_before) == (False, None)
    assert may_spend(CAPACITY + 1, [], now=NOW, capacity=None, refill=WEEK).go


SHORT = Evaluated(accepted=False, best_gain=0.001, needed=0.005)


@pytest.mark.parametrize(
    ("evaluations", "go"),
    [
        ((SHORT, SHORT, SHORT), False),
        ((SHORT, SHORT), True),
        ((SHORT, SHORT, Evaluated(accepted=True, best_gain=0.02, needed=0.005)), True),
        ((Evaluated(accepted=False, best_gain=0.02, needed=0.005), SHORT, SHORT), True),
        ((SHORT, Evaluated(accepted=False, best_gain=None, needed=0.005), SHORT), True),
    ],
)
def test_futile_attempts_end_with_a_person(evaluations, *, go: bool):
    """Only challengers that surely gained too little count, and only in a row."""
    evidence = GovernorEvidence(
        now=NOW, window_length=timedelta(hours=1), last_closed_at=None, fresh_documents=500, attempts=0,
        evaluations=evaluations,
    )  # fmt: skip
    decision = may_retrain(evidence, RetrainSpec())
    assert (decision.go, decision.not_before) == (go, None)
    assert go or "the last 3 challengers surely gained less than the 0.5%" in decision.reason


def governed(**changes):
    evidence = {"now": NOW, "window_length": HOUR, "last_closed_at": None, "fresh_documents": 500, "attempts": 0}
    spec = RetrainSpec(cool_down_windows=3, min_free_gpus=changes.pop("min_free_gpus", 0))
    return may_retrain(GovernorEvidence(**{**evidence, **changes}), spec)


def test_governor_goes():
    """With documents, attempts and no cool-down, it goes."""
    assert governed().go
    assert governed(last_closed_at=NOW - 3 * HOUR).go
    assert governed(min_free_gpus=1, free_gpus=1.0).go


@pytest.mark.parametrize(
    ("changes", "not_before", "said"),
    [
        ({"last_closed_at": NOW - 2 * HOUR}, NOW + HOUR, "cool-down"),
        ({"fresh_documents": 199}, NOW + HOUR, "199 fresh"),
        ({"attempts": 3}, None, "3 of 3"),
        ({"min_free_gpus": 2, "free_gpus": 1}, NOW + HOUR, "free: 1; 2 are"),
        ({"min_free_gpus": 1, "free_gpus": None}, NOW + HOUR, "not known"),
        ({"recent_starts": (NOW - 9 * HOUR, NOW - 5 * HOUR, NOW - HOUR)}, NOW + 163 * HOUR, "budget: 3 attempts"),
    ],
)
def test_governor_holds(changes, not_before, said: str):
    """It names what is missing and when to ask again; with no attempt left, waiting does not help."""
    decision = governed(**changes)
    assert (False, not_before) == (decision.go, decision.not_before)
    assert said in decision.reason


def test_back_off_doubles_up_to_a_fortnight():
    """After each rejection of an incident the next attempt waits twice as long, and never over 336 windows."""
    assert [back_off_windows(attempt, RetrainSpec()) for attempt in (1, 2, 3, 9)] == [24, 48, 96, 336]


def test_cool_down_is_for_first_attempts():
    """A second attempt in an incident is not held by the cool-down of the incident before."""
    assert governed(last_closed_at=NOW, attempts=1).go


# --- on real PostgreSQL ----------------------------------------------------------------------------------------------


def described(db: Engine, home: Path, count: int, attempts: int = ATTEMPTS) -> None:
    """Write models with a document each."""
    for number in range(count):
        name, at = f"m{number}", datetime.now(UTC) - timedelta(minutes=1)
        (home / "models" / f"{name}.yaml").write_text(YAML.format(name=name, attempts=attempts))
        append(db, [Inference(model=name, request_id="r", at=at, prompt="What is a lock?", model_version=1)])
        add_feedback(db, name, "r", reference="Something that one holds.")


def trigger(ledger: Ledger, model: str, actor: str, now: datetime) -> Incident | Outcome:
    """Wake the retraining of a model's open incident, a new one if there is none."""
    since = datetime.now(UTC) - timedelta(hours=2)
    incident, _ = ledger.open_incident(model, signal="loss", degraded_since=since, reason="r", evidence={}, actor="t")
    if incident.state is State.OPEN and incident.not_before is not None:  # reconcile asks again and again
        incident = ledger.move(incident, State.OPEN, actor="t", reason="r", not_before=None)
    return begin(ledger.ring(incident.id), db=ledger.engine, actor=actor, now=now)


def finished(ledger: Ledger, model: str) -> None:
    """End the model's incident, so that the next trigger opens another."""
    incident = ledger.open_of(model)
    if incident is not None and incident.holder(datetime.now(UTC)) is None:
        if incident.state is not State.ESCALATED:
            incident = ledger.move(incident, State.ESCALATED, actor="t", reason="r")
        ledger.move(incident, State.RESOLVED, actor="t", reason="r")


def _storm(url: str, start: datetime, number: int, done) -> None:
    ledger = Ledger(engine_for(url))
    while True:
        with done.get_lock():
            turn = done.value
            done.value += 1
        if turn >= TRIGGERS:
            return
        model = f"m{turn % MODELS}"
        try:
            begun = trigger(ledger, model, f"run-{number}-{turn}", start + turn / TRIGGERS * DAY)
            if isinstance(begun, Incident):  # it came to nothing, and lets go of its claim
                ledger.move(begun, State.ESCALATED, actor="t", reason="r")
            finished(ledger, model)
        except DriftloopError:
            continue  # another process was faster, as another run would be


@pytest.mark.slow
def test_a_thousand_triggers_stay_within_the_budgets(
    engine: Engine, database_url: str, home: Path, monkeypatch: pytest.MonkeyPatch
):
    """A day of triggers from processes that are killed and begun again: neither budget is ever exceeded."""
    monkeypatch.setenv("DRIFTLOOP_GPU_HOURS_PER_WEEK", str(CAPACITY))
    monkeypatch.setenv("DRIFTLOOP_LEASE_SECONDS", "5")
    settings.cache_clear()
    described(engine, home, MODELS)
    context, chance = multiprocessing.get_context("spawn"), random.Random(1)
    done, start, killed = context.Value("i", 0), datetime.now(UTC), 0

    def started(number: int):
        process = context.Process(target=_storm, args=(database_url, start, number, done), daemon=True)
        process.start()
        return process

    running = [started(number) for number in range(PROCESSES)]
    marks = sorted(chance.randrange(50, TRIGGERS - 50) for _ in range(4))
    limit = time.monotonic() + 300
    while any(process.is_alive() for process in running) and time.monotonic() < limit:
        if killed < len(marks) and done.value >= marks[killed]:
            victim = chance.randrange(PROCESSES)
            os.kill(running[victim].pid, signal.SIGKILL)
            running[victim].join()
            killed += 1
            running[victim] = started(PROCESSES + killed)
        running[0].join(0.02)
    assert done.value >= TRIGGERS
    assert killed == len(marks)
    with engine.connect() as on:
        charges = on.execute(select(tables.gpu_charge)).all()
        event = tables.incident_event.c
        begun = Counter(on.scalars(select(event.model).where(event.kind == "moved", event.state == "retraining")))
    assert CAPACITY <= sum(each.gpu_hours for each in charges) <= CAPACITY * (1 + DAY / WEEK) + 1e-6
    assert Counter(each.model for each in charges) == begun
    assert max(begun.values()) <= ATTEMPTS
    assert level(engine, start + DAY) >= -1e-6


def test_an_attempt_is_charged_once_and_settled_once(engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch):
    """A run that died is not charged again by the next one; what was not used comes back, and only once."""
    monkeypatch.setenv("DRIFTLOOP_GPU_HOURS_PER_WEEK", "2")
    monkeypatch.setenv("DRIFTLOOP_LEASE_SECONDS", "5")
    settings.cache_clear()
    described(engine, home, 1)
    ledger = Ledger(engine)
    held = trigger(ledger, "m0", "run-1", datetime.now(UTC))
    again = begin(ledger.ring(held.id), db=engine, actor="run-1", now=datetime.now(UTC))
    assert (held.attempt, again.attempt, again.token) == (1, 1, held.token + 1)
    with engine.connect() as on:
        assert on.scalar(select(func.sum(tables.gpu_charge.c.gpu_hours))) == 1.0
    for seconds in (900, 3000):
        settle(engine, of_attempt(again, spec_of("m0")), seconds)
    with engine.connect() as on:
        assert on.scalar(select(func.sum(tables.gpu_charge.c.gpu_hours))) == 0.25


def test_trainings_by_hand_are_paid_too(engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch):
    """A person's training asks the fleet's budget, counts once however often it is taken up, and says what to do."""
    monkeypatch.setenv("DRIFTLOOP_GPU_HOURS_PER_WEEK", "1.5")
    settings.cache_clear()
    described(engine, home, 1)
    spec = spec_of("m0")
    first, second = (of_training(f"m0|by-hand-{number}", spec, 3600) for number in (1, 2))
    for _ in range(2):
        charge_by_hand(engine, first)
    assert level(engine, datetime.now(UTC)) == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ContractError, match=r"0\.50 of 1\.50 GPU-hours left.* raise DRIFTLOOP_GPU_HOURS_PER_WEEK, or"):
        charge_by_hand(engine, second)
    charge_by_hand(engine, second, at_any_price=True)
    settle(engine, first, 1800)
    with engine.connect() as on:
        assert on.scalar(select(func.sum(tables.gpu_charge.c.gpu_hours))) == 1.5


def test_over_budget_waits_without_an_attempt(engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch):
    """What the fleet cannot pay is not begun: no attempt counted, nothing charged, and a time to ask again."""
    monkeypatch.setenv("DRIFTLOOP_GPU_HOURS_PER_WEEK", "1.5")
    settings.cache_clear()
    described(engine, home, 2)
    ledger, now = Ledger(engine), datetime.now(UTC)
    assert isinstance(trigger(ledger, "m0", "run-1", now), Incident)
    refused = trigger(ledger, "m1", "run-2", now)
    assert isinstance(refused, Outcome)
    assert "the fleet has 0.50 of 1.50 GPU-hours left, 1.00 are needed" in refused.reason
    waits = ledger.open_of("m1")
    assert (waits.state, waits.attempt, waits.claimed_by) == (State.OPEN, 0, None)
    assert waits.not_before - now == pytest.approx(WEEK / 3, abs=timedelta(minutes=5))
    assert isinstance(begin(ledger.ring(waits.id), db=engine, actor="run-3", now=waits.not_before), Incident)


def test_futility_is_read_over_all_incidents_and_ends_by_hand(engine: Engine, home: Path):
    """Three challengers that surely gained too little call a person; once resolved by hand the loop tries again."""
    described(engine, home, 1, attempts=20)
    ledger = Ledger(engine)
    scores = {"recent": {"low": -0.001, "high": 0.02}}
    for _ in range(3):
        incident = trigger(ledger, "m0", "run", datetime.now(UTC))
        assert isinstance(incident, Incident)
        with engine.begin() as on:
            on.execute(
                insert(tables.evaluation).values(
                    incident_id=incident.id, attempt=1, model="m0", champion_version=1, challenger_version=2,
                    rows_uri="u", rows_sha256="s", scores=scores, decision="reject", reason="r",
                )
            )  # fmt: skip
        ledger.move(
            ledger.move(incident, State.ESCALATED, actor="t", reason="r"), State.RESOLVED, actor="t", reason="r"
        )
    refused = trigger(ledger, "m0", "run", datetime.now(UTC))
    assert isinstance(refused, Outcome)
    assert "another attempt would not help" in refused.reason
    stopped = ledger.open_of("m0")
    assert stopped.state is State.ESCALATED
    ledger.move(stopped, State.RESOLVED, actor="cli:ann", reason="other data from now on")
    assert isinstance(trigger(ledger, "m0", "run", datetime.now(UTC)), Incident)


def _trainer(url: str, home: str, name: str, seconds: float) -> None:
    """Write one's name into the model's file, again and again, while one is its only trainer."""
    os.environ["DRIFTLOOP_HOME"] = home
    settings.cache_clear()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with only_trainer(engine_for(url), "m") as still_only:
                while time.monotonic() < end:
                    still_only()
                    with (Path(home) / "written").open("a") as file:
                        for part in ("begin", "end"):
                            file.write(f"{name} {part}\n")
                            file.flush()
                            time.sleep(0.05)
        except TransientError:
            name += "'"  # as a retried task would: from the beginning


def written(home: Path) -> list[str]:
    path = home / "written"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.slow
def test_one_trainer_also_across_a_crash_of_postgresql(cluster: Cluster, database_url: str, home: Path):
    """Of three trainers one writes at a time, before and after PostgreSQL dies; whose lock died stops before that."""
    context = multiprocessing.get_context("spawn")
    trainers = [
        context.Process(target=_trainer, args=(database_url, str(home), name, 600), daemon=True) for name in "abc"
    ]
    for trainer in trainers:
        trainer.start()
    try:
        wait_for(lambda: len(written(home)) > 10, "nobody trained")
        cluster.stop(immediate=True)
        cluster.start()
        before = len(written(home))
        wait_for(lambda: len(written(home)) > before + 20, "nobody trained after the crash")
        first = written(home)[-1][0]
        os.kill(trainers["abc".index(first)].pid, signal.SIGKILL)
        wait_for(lambda: written(home)[-1][0] != first, "nobody took over from the dead")
    finally:
        for trainer in trainers:
            trainer.kill()
            trainer.join()
    lines = written(home)
    holders = [line.split()[0] for line in lines]
    turns = [name for number, name in enumerate(holders) if number == 0 or holders[number - 1] != name]
    assert len(turns) == len(set(turns)), "who had lost the lock wrote again between others"
    assert len(turns) >= 3


@pytest.mark.parametrize("action", [Action.WATCH, Action.ROLL_BACK])
def test_a_late_wake_up_is_charged_nothing(engine: Engine, home: Path, action: Action):
    """Triage has decided otherwise since: no attempt, no charge."""
    described(engine, home, 1)
    ledger = Ledger(engine)
    incident, _ = ledger.open_incident(
        "m0", signal="loss", degraded_since=datetime.now(UTC), reason="r", evidence={}, actor="t"
    )
    ledger.move(incident, State.OPEN, actor="t", reason="r", action=action)
    assert isinstance(begin(ledger.ring(incident.id), db=engine, actor="run"), Outcome)
    with engine.connect() as on:
        assert on.execute(select(tables.gpu_charge)).all() == []
