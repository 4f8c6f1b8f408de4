"""A rollout goes on, back, or waits, by what both versions' users got; a few rollouts of simulated arms."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from datasets_defs.core.incidents import State
from datasets_defs.ledger.pausing import pause
from datasets_defs.ledger.routes import Route
from datasets_defs.spec.rollout import ComparisonSpec, RolloutSpec
from datasets_defs.store.arm_log import ArmTally, ArmUnit, add_tallies, bucket_of
from datasets_defs.store.feedback import add_feedback
from datasets_defs.store.inference_log import Inference, append
from monitors.incidents.arms import ArmMeasure, ArmsComparison, compare_arms
from monitors.incidents.rollout import compare_users, judge_open_rollout
from monitors.incidents.rollout_decision import PATIENCE, RolloutStep, decide_step
from monitors.incidents.shadow_comparison import Shadow
from tests.benchmarks.rollout_decisions import KINDS, roll_out
from tests.monitors.loop import MODEL, Loop
from tests.rollouts import rolled_out, users

SPEC = RolloutSpec()


def compared(result: Shadow) -> ArmsComparison:
    return ArmsComparison(result=result, reason="figures", measures={})


@pytest.mark.parametrize(
    ("result", "windows", "spec", "step", "said"),
    [
        (Shadow.WORSE, 0, SPEC, RolloutStep.BACK, "surely worse after 0 of 2"),
        (Shadow.NOT_WORSE, 1, SPEC, RolloutStep.STAY, "not surely worse"),
        (Shadow.NOT_WORSE, 2, SPEC, RolloutStep.ON, "surely no worse"),
        (Shadow.OPEN, 2, SPEC, RolloutStep.ON, "could not tell"),
        (Shadow.OPEN, 2, RolloutSpec(unsure="go_back"), RolloutStep.BACK, "`unsure: go_back` decides"),
        (Shadow.TOO_FEW, 2, SPEC, RolloutStep.STAY, "too few users"),
        (Shadow.TOO_FEW, 2 * PATIENCE - 1, SPEC, RolloutStep.STAY, "too few users"),
        (Shadow.TOO_FEW, 2 * PATIENCE, SPEC, RolloutStep.ASK, "nothing was measured"),
    ],
)
def test_how_a_step_ends(result: Shadow, windows: int, spec: RolloutSpec, step: RolloutStep, said: str) -> None:
    """Worse goes back at once; not worse goes on in time; unsure is what the YAML says; unknown promotes nothing."""
    verdict = decide_step(compared(result), spec, windows=windows)
    assert (verdict.step, said in verdict.reason) == (step, True)


def units(count: int, rng: np.random.Generator, *, score: float = 0.8, errors: float = 0.02) -> list[ArmUnit]:
    return [
        ArmUnit(requests=20, errors=int(rng.binomial(20, errors)), scored=5, score=5 * float(rng.normal(score, 0.1)),
                timed=20, log_seconds=float(rng.normal(0, 2)), checked=20, failed=int(rng.binomial(20, 0.03)))
        for _ in range(count)
    ]  # fmt: skip


def test_each_measure_can_show_harm() -> None:
    """Lower scores and more failures are found by their own measure, and named with bounds."""
    rng = np.random.default_rng(1)
    equal = compare_arms(units(400, rng), units(400, rng), SPEC)
    assert equal.result is not Shadow.WORSE
    for name, arm in (("score", units(400, rng, score=0.6)), ("errors", units(400, rng, errors=0.15))):
        found = compare_arms(units(400, rng), arm, SPEC)
        assert found.result is Shadow.WORSE
        assert found.measures[name].result is Shadow.WORSE
        assert found.reason.startswith(f"{name} +0.")
    narrow = compare_arms(units(4000, rng), units(4000, rng), ComparisonSpec(confidence=0.9))
    assert narrow.result is Shadow.NOT_WORSE


def test_no_failure_among_few_is_not_sure() -> None:
    """Forty users without one failure do not show that there is none: the bounds stay wide."""
    clean = [ArmUnit(requests=1) for _ in range(40)]
    measure = compare_arms(clean, clean, SPEC).measures["errors"]
    assert measure.at_most > 0.05
    assert compare_arms(clean, clean[:5], SPEC).result is Shadow.TOO_FEW
    assert compare_arms(clean, clean[:5], SPEC).measures["errors"] == ArmMeasure(result=Shadow.TOO_FEW, units=5)


@pytest.mark.parametrize(
    ("kind", "step"), [("equal", RolloutStep.ON), ("more_errors", RolloutStep.BACK), ("half_as_fast", RolloutStep.BACK)]
)
def test_a_few_simulated_rollouts(kind: str, step: RolloutStep) -> None:
    """Two rollouts of each kind of simulated arms end as they must; the benchmark runs a hundred."""
    assert [roll_out(KINDS[kind], SPEC, seed).step for seed in (1, 2)] == [step] * 2


def log(
    loop: Loop, route: Route, *, version: int, named: list[str], score: float, error: float = 0.0, text: str = "ok"
):
    """Log an answer, a score and the gateway's counts for each user."""
    append(loop.db, [
        Inference(model=MODEL, request_id=f"{version}-{user}", at=datetime.now(UTC), prompt="p", completion=text,
                  model_version=version, latency_seconds=0.5, user_id=user)
        for user in named
    ])  # fmt: skip
    for at, user in enumerate(named):
        if at % 2 == 0:
            spread = 0.1 if at % 4 else -0.1
            add_feedback(loop.db, MODEL, f"{version}-{user}", score=score + spread, contributor="key:app")
    add_tallies(loop.db, [
        ArmTally(model=MODEL, incident_id=route.incident_id, step=route.step, version=version, bucket=bucket_of(user),
                 requests=10, errors=int(10 * error))
        for user in named
    ])  # fmt: skip


@pytest.fixture
def rolling(loop: Loop) -> tuple[Loop, Route]:
    """A model whose challenger answers half of the users."""
    loop.spec(rollout={"windows": 2})
    loop.champion(1)
    return loop, rolled_out(loop.ledger, MODEL)


def judged(loop: Loop, *, windows: float = 0.0) -> str:
    now = datetime.now(UTC) + windows * loop.length
    return judge_open_rollout(MODEL, now=now, db=loop.db, actor="roll_out:1").reason


def test_worse_scores_go_back_at_once(rolling: tuple[Loop, Route]) -> None:
    """The first look that is sure ends the incident and the route in one transaction; later looks change nothing."""
    loop, route = rolling
    named = users(400)
    log(loop, route, version=1, named=named[:200], score=0.8)
    log(loop, route, version=2, named=named[200:], score=0.5)
    assert loop.ledger.models_in(State.ROLLOUT) == [MODEL]
    assert "surely worse after 0 of 2 windows: score +0.3" in judged(loop)
    incident = loop.ledger.incident(route.incident_id)
    assert (incident.state, loop.ledger.route(MODEL), incident.approved) == (State.ROLLED_BACK, None, False)
    assert loop.ledger.champion(MODEL).version == 1
    assert judged(loop) == f"{MODEL} is in no rollout"
    assert loop.ledger.verify(MODEL) == []


def test_what_counts_in_each_measure(rolling: tuple[Loop, Route]) -> None:
    """Blocked phrases fail; scores without a key, other versions and earlier requests do not count."""
    loop, route = rolling
    spec = loop.spec(rollout={}, evaluation={"blocked_phrases": ["100%_sure"], "refusals": ["i cannot"]})
    named = users(80)
    log(loop, route, version=1, named=named[:40], score=0.8)
    log(loop, route, version=2, named=named[40:], score=0.8, error=0.2, text="It is 100%_SURE.")
    log(loop, route, version=3, named=named, score=0.1)
    add_feedback(loop.db, MODEL, f"2-{named[41]}", score=0.0, contributor="anonymous")
    found = compare_users(loop.db, spec, SPEC, route).measures
    assert {name: each.units for name, each in found.items()} == {
        "score": 20, "errors": 40, "checks": 40, "latency": 40,
    }  # fmt: skip
    assert (found["errors"].harm, found["checks"].harm) == (pytest.approx(0.2), pytest.approx(1.0))
    assert found["checks"].result is Shadow.WORSE
    assert found["latency"].harm == pytest.approx(0.0)
    later = loop.ledger.change_route(route, actor="t", since=datetime.now(UTC) + timedelta(minutes=1))
    assert compare_users(loop.db, spec, SPEC, later).measures["checks"].units == 0


def test_in_time_it_goes_on_or_asks(rolling: tuple[Loop, Route]) -> None:
    """After its windows the next step is wanted, which is not judged before it has begun; without users a person is."""
    loop, route = rolling
    assert "too few users" in judged(loop, windows=3)
    named = users(80)
    log(loop, route, version=1, named=named[:40], score=0.8)
    log(loop, route, version=2, named=named[40:], score=0.8)
    assert "not surely worse after 1 of 2" in judged(loop, windows=1.5)
    said = judged(loop, windows=2.5)
    assert "could not tell" in said
    assert "the next step follows" in said
    wanted = loop.ledger.route(MODEL)
    assert (wanted.step, wanted.share, wanted.since) == (1, 0.5, None)
    assert "is being prepared" in judged(loop, windows=9)
    loop.ledger.reach_share(wanted, share=0.75, actor="t", reason="r")
    assert "nothing was measured" in judged(loop, windows=9)
    assert loop.ledger.incident(route.incident_id).state is State.ESCALATED
    assert loop.ledger.route(MODEL) is None


def test_a_pause_and_a_yaml_without_steps(rolling: tuple[Loop, Route]) -> None:
    """A paused model's rollout stays as it is; one that the YAML does not want any more goes to a person."""
    loop, route = rolling
    pause(loop.ledger, MODEL, lasting=timedelta(days=1), actor="cli:ann", reason="a move")
    assert judged(loop) == f"{MODEL} is paused; version 2 answers 50% of users"
    with loop.db.begin() as on:
        on.exec_driver_sql("DELETE FROM pause")
    loop.spec()
    assert "neither `rollout` nor `ab`" in judged(loop)
    assert loop.ledger.incident(route.incident_id).state is State.ESCALATED
