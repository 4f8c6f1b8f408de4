"""How incidents end: probation judged, quiet ones resolved, unknown ones never."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets_defs.core.conditions import About, Condition, Verdict
from datasets_defs.core.incidents import Action, Incident, State, Wake, due
from datasets_defs.core.windows import Window
from datasets_defs.spec.signals import ConfirmSpec
from datasets_defs.store.shadow_log import ShadowScore, save_shadow_scores
from monitors.incidents.probation import Probation, ProbationEvidence, judge_open_probation, judge_probation
from monitors.incidents.quiet import resolve_if_quiet
from monitors.incidents.shadow_comparison import Shadow, ShadowComparison
from tests.monitors.loop import MODEL, Loop

OK, WARN, BAD, NO_DATA, STALE = Condition
SIGNAL = {"promql": "x", "bad": 1, "confirm": {"bad": 2, "of": 3}}


def in_probation(loop: Loop, *, before: float | None = 4.0) -> Incident:
    """Make an incident whose challenger was promoted at the beginning of window 10."""
    loop.champion(1)
    evidence = {"window_bits_per_byte": before} if before is not None else {}
    incident, _ = loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(1).start, reason="r", evidence=evidence, actor="t"
    )
    for state in (State.RETRAINING, State.EVALUATING, State.APPROVING, State.PROMOTING, State.PROBATION):
        incident = loop.ledger.move(incident, state, actor="t", reason="r")
    loop.champion(2, since=loop.window(10).start, kind="promote")
    return incident


def judge(loop: Loop, number: int) -> tuple[State, bool]:
    """Judge the probation at a window; give the incident's state and whether a rollback was rung for."""
    outcome = judge_open_probation(MODEL, until=loop.until(number), db=loop.db, actor="t")
    events = [event for event in loop.ledger.events(MODEL) if event.state is not None]
    return State(events[-1].state), outcome.ring is not None


def test_passes_after_good_windows(loop: Loop) -> None:
    """Two good windows of the new champion resolve the incident; unknown ones and earlier ones do not count."""
    in_probation(loop)
    loop.verdict(9, "loss", OK, version=2)
    loop.verdict(10, "loss", OK, version=2)
    loop.verdict(11, "loss", NO_DATA, version=2)
    assert judge(loop, 11) == (State.PROBATION, False)
    loop.verdict(12, "loss", WARN, version=2)
    assert judge(loop, 12) == (State.RESOLVED, False)
    assert judge(loop, 12) == (State.RESOLVED, False)


def test_unknown_neither_passes_nor_fails(loop: Loop) -> None:
    """A probation of windows that nobody could judge stays a probation."""
    in_probation(loop)
    for number in range(10, 20):
        loop.verdict(number, "loss", NO_DATA if number % 2 else STALE, version=2)
    assert judge(loop, 19) == (State.PROBATION, False)


@pytest.mark.parametrize("before", [4.0, None])
def test_fails_when_bad_and_no_better(loop: Loop, before: float | None) -> None:
    """Confirmed bad, and no better than the champion before: a rollback is recorded and rung for, until it is done."""
    incident = in_probation(loop, before=before)
    loop.verdict(10, "loss", BAD, version=2, evidence={"window_bits_per_byte": 4.1})
    assert judge(loop, 10) == (State.PROBATION, False)
    loop.verdict(11, "loss", BAD, version=2, evidence={"window_bits_per_byte": 4.2})
    assert judge(loop, 11) == (State.PROBATION, True)
    assert loop.ledger.incident(incident.id).action is Action.ROLL_BACK
    assert judge(loop, 11) == (State.PROBATION, True)


def test_better_than_before_is_kept(loop: Loop) -> None:
    """Bad by its own reference, yet better than what it replaced: going back would make it worse."""
    in_probation(loop, before=6.0)
    for number in (10, 11, 12):
        loop.verdict(number, "loss", BAD, version=2, evidence={"window_bits_per_byte": 4.2})
    assert judge(loop, 12) == (State.PROBATION, False)


def test_better_and_still_bad_gets_another_attempt(loop: Loop) -> None:
    """A champion that is better and stays bad is no end: the incident is open again, and due for triage."""
    incident = in_probation(loop, before=6.0)
    for number in range(10, 14):
        loop.verdict(number, "loss", BAD, version=2, evidence={"window_bits_per_byte": 4.2})
    assert judge(loop, 13) == (State.OPEN, False)
    now = loop.ledger.incident(incident.id)
    assert (now.challenger_version, now.approved) == (None, False)
    work = due(now, loop.until(13), loop.length)
    assert work is not None
    assert work.wake is Wake.TRIAGE


def test_slow_machines_after_a_promotion_call_a_person(loop: Loop) -> None:
    """A cured loss with another signal that stays bad is neither retrained nor left in probation for ever."""
    loop.spec(quality=[{**SIGNAL, "name": "latency_seconds", "about": "machines"}])
    in_probation(loop, before=6.0)
    for number in range(10, 14):
        loop.verdict(number, "loss", OK, version=2, evidence={"window_bits_per_byte": 4.2})
        loop.verdict(number, "quality:latency_seconds", BAD, version=2)
    assert judge(loop, 13) == (State.ESCALATED, False)


def test_a_rollback_by_hand_is_not_disturbed(loop: Loop) -> None:
    """While somebody holds the incident, neither its probation nor quiet signals end it under their hands."""
    incident = in_probation(loop)
    ring = loop.ledger.ring(incident.id)
    here = {State.PROBATION}
    loop.ledger.claim(ring, frm=here, to=State.PROBATION, actor="cli:ann", lease=loop.length, reason="r")
    for number in (10, 11):
        loop.verdict(number, "loss", OK, version=2)
    assert "hands of cli:ann" in judge_open_probation(MODEL, until=loop.until(11), db=loop.db, actor="t").reason


def test_quiet_does_not_end_what_is_held(loop: Loop) -> None:
    """An open incident that a rollback works on is left to it."""
    incident = opened(loop, State.OPEN, "drift")
    ring = loop.ledger.ring(incident.id)
    loop.ledger.claim(ring, frm={State.OPEN}, to=State.OPEN, actor="cli:ann", lease=loop.length, reason="r")
    for number in range(1, 7):
        loop.verdict(number, "drift", OK)
    assert "hands of cli:ann" in settle(loop, 6)


def test_quality_judges_where_loss_is_not_logged(loop: Loop) -> None:
    """A server that logs no loss is judged by its quality signals: each good window needs all of them."""
    loop.spec(quality=[{"name": name, "promql": "x", "bad": 1} for name in ("a", "b")])
    in_probation(loop)
    for number in (10, 11):
        loop.verdict(number, "loss", NO_DATA, version=2)
        loop.verdict(number, "quality:a", OK, version=2)
    loop.verdict(10, "quality:b", BAD, version=2)
    assert judge(loop, 11) == (State.PROBATION, False)
    loop.verdict(12, "quality:a", OK, version=2)
    assert judge(loop, 12) == (State.RESOLVED, False)


def test_nothing_to_go_back_to(loop: Loop) -> None:
    """A failed probation without a previous champion calls a person."""
    loop.champion(3)
    incident, _ = loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(1).start, reason="r", evidence={}, actor="t"
    )
    for state in (State.RETRAINING, State.EVALUATING, State.APPROVING, State.PROMOTING, State.PROBATION):
        incident = loop.ledger.move(incident, state, actor="t", reason="r")
    loop.verdict(1, "loss", BAD, version=3)
    loop.verdict(2, "loss", BAD, version=3)
    assert judge(loop, 2) == (State.ESCALATED, False)


def opened(loop: Loop, state: State, *signals: str) -> Incident:
    """Make an incident on some signals, in some state."""
    for signal in signals:
        incident, _ = loop.ledger.open_incident(
            MODEL, signal=signal, degraded_since=loop.window(1).start, reason="r", evidence={"x": 1}, actor="t"
        )
    return incident if state is State.OPEN else loop.ledger.move(incident, state, actor="t", reason="r")


def settle(loop: Loop, number: int) -> str:
    """Ask whether the incident is over; give what was said."""
    return resolve_if_quiet(MODEL, until=loop.until(number), db=loop.db, actor="t").reason


@pytest.mark.parametrize("state", [State.OPEN, State.QUARANTINED, State.ESCALATED])
def test_quiet_incident_is_resolved(loop: Loop, state: State) -> None:
    """Six good windows (twice the three of the confirmation) in every signal end an incident; five do not."""
    incident = opened(loop, state, "drift", "loss")
    for number in range(1, 7):
        assert "not quiet" in settle(loop, number)
        for signal in ("drift", "loss"):
            loop.verdict(number, signal, OK)
    assert "resolved" in settle(loop, 6)
    assert loop.ledger.incident(incident.id).state is State.RESOLVED


@pytest.mark.parametrize("condition", [NO_DATA, STALE, WARN, BAD])
def test_not_knowing_is_not_health(loop: Loop, condition: Condition) -> None:
    """One window that is unknown, or only a warning, keeps the incident open; so does silence."""
    opened(loop, State.OPEN, "drift", "loss")
    for number in range(1, 8):
        loop.verdict(number, "drift", OK)
        loop.verdict(number, "loss", condition if number == 4 else OK)
    assert "loss not quiet" in settle(loop, 7)
    for number in range(8, 11):
        loop.verdict(number, "loss", OK)
    assert "drift not quiet" in settle(loop, 10)


def test_quarantine_by_training_is_left_by_a_person(loop: Loop) -> None:
    """Data that training refused, without a bad window in the log, is not retried while the model stands degraded."""
    incident = opened(loop, State.QUARANTINED, "loss")
    loop.verdict(1, "loss", BAD)
    assert "not quiet" in settle(loop, 1)
    assert loop.ledger.incident(incident.id).state is State.QUARANTINED


def test_whole_data_leaves_quarantine(loop: Loop) -> None:
    """When the data is whole again and the drift stands, triage sees it, and the broken rows are not trained on."""
    incident = opened(loop, State.QUARANTINED, "data", "drift")
    for number in range(1, 7):
        loop.verdict(number, "data", OK)
        loop.verdict(number, "drift", BAD)
    loop.verdict(7, "data", OK)
    assert "leaves quarantine" in settle(loop, 7)
    now = loop.ledger.incident(incident.id)
    assert (now.state, now.degraded_since) == (State.OPEN, loop.window(2).start)


def test_others_work_is_left_alone(loop: Loop) -> None:
    """An incident that somebody works on is not resolved under them, however quiet."""
    incident = opened(loop, State.RETRAINING, "drift")
    for number in range(1, 7):
        loop.verdict(number, "drift", OK)
    assert "no incident that waits" in settle(loop, 6)
    assert loop.ledger.incident(incident.id).state is State.RETRAINING


def test_removed_signal_does_not_hold_an_incident_open(loop: Loop) -> None:
    """A signal that the spec no longer names is measured no more, so it cannot hold the incident open for ever."""
    opened(loop, State.OPEN, "drift", "quality:gone")
    for number in range(1, 7):
        loop.verdict(number, "drift", OK)
    late = loop.until(6) + timedelta(seconds=1)
    assert "resolved" in resolve_if_quiet(MODEL, until=late, db=loop.db, actor="t").reason


def shadow(loop: Loop, number: int, ratio: float, *, count: int = 60, spread: float = 0.02) -> None:
    """Keep pairs of a window: the new champion's bits over the former's are `ratio`, give or take `spread`."""
    rng = np.random.default_rng(number)
    save_shadow_scores(
        loop.db,
        [
            ShadowScore(
                model=MODEL, champion_version=2, previous_version=1, request_id=f"{number}-{n}", user_id=None,
                at=loop.window(number).start, bytes=100, champion_bits=300 * each, previous_bits=300.0,
            )
            for n, each in enumerate(rng.normal(ratio, spread, count))
        ],
    )  # fmt: skip


def test_worse_in_shadow_fails_though_its_windows_are_good(loop: Loop) -> None:
    """Surely dearer than the champion before it on the same prompts: rolled back, whatever its own reference says."""
    incident = in_probation(loop)
    loop.verdict(10, "loss", OK, version=2)
    shadow(loop, 10, 1.05)
    assert judge(loop, 10) == (State.PROBATION, True)
    now = loop.ledger.incident(incident.id)
    assert now.action is Action.ROLL_BACK
    assert "worse than the champion before it" in loop.ledger.events(MODEL)[-1].reason


def test_passes_when_surely_no_worse(loop: Loop) -> None:
    """Good windows and a comparison within the margin resolve the incident."""
    in_probation(loop)
    for number in (10, 11):
        loop.verdict(number, "loss", OK, version=2)
        shadow(loop, number, 0.9)
    assert judge(loop, 11) == (State.RESOLVED, False)


def test_what_is_not_sure_yet_waits_and_passes_in_the_end(loop: Loop) -> None:
    """Pairs that leave it open hold a good champion back for four times its windows, and then are said to be equal."""
    in_probation(loop)
    for number in range(10, 18):
        shadow(loop, number, 1.0, count=40, spread=0.4)
        loop.verdict(number, "loss", OK, version=2)
        expected = State.PROBATION if number < 17 else State.RESOLVED
        assert judge(loop, number) == (expected, False)
    assert "cannot be told apart" in loop.ledger.events(MODEL)[-1].reason


def test_too_few_pairs_leave_it_to_the_windows(loop: Loop) -> None:
    """A dozen pairs, however bad, neither fail nor hold back; the record says that nothing was compared."""
    in_probation(loop)
    shadow(loop, 10, 2.0, count=12)
    for number in (10, 11):
        loop.verdict(number, "loss", OK, version=2)
    assert judge(loop, 11) == (State.RESOLVED, False)
    assert "no comparison with the champion before it: 12 prompts" in loop.ledger.events(MODEL)[-1].reason


def test_better_in_shadow_excuses_the_loss_and_nothing_else(loop: Loop) -> None:
    """Text that is dear to both is no reason to go back; answers that people call bad are."""
    loop.spec(labels=[{"name": "score", "confirm": {"bad": 2, "of": 3}}])
    in_probation(loop, before=None)
    for number in (10, 11):
        shadow(loop, number, 0.9)
        loop.verdict(number, "loss", BAD, version=2, evidence={"window_bits_per_byte": 9.0})
    assert judge(loop, 11) == (State.PROBATION, False)
    for number in (12, 13):
        loop.verdict(number, "loss", OK, version=2)
        loop.verdict(number, "label:score", BAD, version=2)
    assert judge(loop, 13) == (State.PROBATION, True)


@pytest.mark.parametrize(
    ("signal", "about"),
    [
        ("gpu:power_watts", None),
        ("quality:ttft_p95", "machines"),
        ("quality:tokens_per_second", "capacity"),
        ("quality:word_error_rate", None),
    ],
)
def test_machines_never_take_a_champion_back(loop: Loop, signal: str, about: str | None) -> None:
    """What speaks of machines, or does not say of what, ends with a person, however long it is bad."""
    name = signal.partition(":")[2]
    loop.spec(quality=[{**SIGNAL, "name": name, "about": about}])
    in_probation(loop, before=None)
    for number in range(10, 20):
        loop.verdict(number, f"quality:{name}" if signal.startswith("quality") else signal, BAD, version=2)
        state, rung = judge(loop, number)
        assert not rung
    assert state is (State.ESCALATED if signal.startswith("quality") else State.PROBATION)


@pytest.mark.parametrize("name", ["ttft_p95", "tone", "word_error_rate"])
def test_the_model_s_own_signal_takes_it_back_whatever_its_name(loop: Loop, name: str) -> None:
    """A quality signal that says it speaks of the model counts as harm, with `error` or `ttft` in its name, too."""
    loop.spec(quality=[{**SIGNAL, "name": name, "about": "model"}])
    in_probation(loop, before=None)
    for number in range(10, 12):
        loop.verdict(number, f"quality:{name}", BAD, version=2)
    assert judge(loop, 11) == (State.PROBATION, True)


def test_a_new_version_that_does_not_answer_is_taken_back(loop: Loop) -> None:
    """Requests that fail since a promotion take it back; where they failed before, the version is not blamed."""
    loop.spec(quality=[{**SIGNAL, "name": "error_share", "about": "answers"}])
    in_probation(loop, before=None)
    for number in range(10, 12):
        loop.verdict(number, "loss", OK, version=2, evidence={"window_bits_per_byte": 4.2})
        loop.verdict(number, "quality:error_share", BAD, version=2)
    assert judge(loop, 11) == (State.PROBATION, True)
    assert "does not answer: quality:error_share" in loop.ledger.events(MODEL)[-1].reason


def test_requests_that_failed_before_are_no_new_version_s_fault(loop: Loop) -> None:
    """A server that was broken before the promotion is no reason to take it back."""
    loop.spec(quality=[{**SIGNAL, "name": "error_share", "about": "answers"}])
    for number in range(3, 9):
        loop.verdict(number, "quality:error_share", BAD, version=1)
    in_probation(loop, before=None)
    for number in range(10, 12):
        loop.verdict(number, "quality:error_share", BAD, version=2)
        assert judge(loop, number) == (State.PROBATION, False)


@given(
    conditions=st.dictionaries(
        st.sampled_from(["quality:latency_seconds", "quality:queue_size", "loss", "label:score", "quality:tone"]),
        st.lists(st.sampled_from([OK, WARN, NO_DATA, STALE, BAD]), min_size=1, max_size=9),
        min_size=1,
    ),
    result=st.sampled_from(Shadow),
    before=st.sampled_from([None, 1.0, 9.0]),
)
def test_only_harm_that_was_measured_fails(conditions, result, before) -> None:
    """FAILED needs a comparison that is surely worse, or a signal that is no machine's confirmed bad."""
    start = datetime(2026, 5, 1, tzinfo=UTC)
    hour = timedelta(hours=1)
    machines = {"quality:latency_seconds": About.MACHINES, "quality:queue_size": About.CAPACITY}
    about = {name: machines.get(name, About.MODEL) for name in conditions}
    verdicts = {
        signal: tuple(
            Verdict(model=MODEL, signal=signal, window=Window(start - (n + 1) * hour, start - n * hour), condition=each,
                    reason="r", method="t", champion_version=2, evidence={"window_bits_per_byte": 4.0})
            for n, each in enumerate(several)
        )
        for signal, several in conditions.items()
    }  # fmt: skip
    judged = judge_probation(
        ProbationEvidence(
            verdicts=verdicts, confirm=dict.fromkeys(verdicts, ConfirmSpec()), about=about, windows=2,
            degraded_bits_per_byte=before, shadow=ShadowComparison(result=result, reason="r"),
        )
    )  # fmt: skip
    harmful = [name for name, each in verdicts.items() if each[0].condition is BAD and about[name] is About.MODEL]
    if judged.result is Probation.FAILED:
        assert result is Shadow.WORSE or harmful
    if result is Shadow.WORSE:
        assert judged.result is Probation.FAILED
    if not any(each.condition.is_known for several in verdicts.values() for each in several):
        assert judged.result is (Probation.FAILED if result is Shadow.WORSE else Probation.UNDECIDED)
    if judged.result is Probation.PASSED:
        seen = len(verdicts["loss"]) if "loss" in verdicts else max(len(each) for each in verdicts.values())
        assert result is not Shadow.OPEN or seen >= 8
