"""Labels that come late: judged once they are due, on a real database, and judged again when more have come."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from datasets_defs.core.conditions import About, Condition, Outcome, Verdict
from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import Action, State
from datasets_defs.core.windows import EPOCH, Window
from datasets_defs.spec.signals import LabelSpec
from datasets_defs.store.feedback import add_feedback_batch
from datasets_defs.store.inference_log import Inference, append, drop_before
from datasets_defs.store.label_log import LabelReference, LabelScores, label_reference_of, read_scores
from datasets_defs.store.verdicts import newest_verdicts, recent_verdicts
from monitors import watch_quality
from monitors.counts.moments import Moments
from monitors.drift.subject import Subject
from monitors.dry_run import check
from monitors.exporter import LoopCollector
from monitors.incidents.probation import judge_open_probation
from monitors.labels.judge import Rescored, rescore
from monitors.labels.policy import badness, base, judge_label, judged_scores, steadied
from monitors.prometheus.client import PrometheusClient
from monitors.triage import decide
from monitors.verdicts.rules import rule_of
from ops.stack.ports import free_port
from tests.monitors.loop import MODEL, Loop

OK, WARN, BAD, NO_DATA, STALE = Condition
SIGNAL = "label:score"
AWAY = PrometheusClient(f"http://127.0.0.1:{free_port()}")
LABEL = {"name": "score", "maturity_windows": 2}


# --- by arithmetic alone ----------------------------------------------------------------------------------------------


def scores(values: Any) -> LabelScores:
    """Add up scores."""
    found = np.asarray(values, dtype=float)
    return LabelScores(labels=len(found), total=float(found.sum()), squares=float(found @ found))


def rated(good: int, bad: int) -> LabelScores:
    """Add up thumbs."""
    return scores([1.0] * good + [0.0] * bad)


@pytest.mark.parametrize(("better", "bad"), [("higher", [0.0, 0.25, 1.0]), ("lower", [1.0, 0.75, 0.0])])
def test_badness(better: str, bad: list[float]) -> None:
    """Badness is 1 - score where higher is better, else the score; its sums follow from the scores' sums."""
    assert badness(scores([1.0, 0.75, 0.0]), better) == Moments.of(bad)


def test_a_reference_without_fault() -> None:
    """Against no badness at all nothing can be a multiple: one bad label is thought to be in it."""
    assert base(rated(250, 0), "higher") == Moments.of([0.0] * 250 + [1.0])
    assert base(rated(249, 1), "higher") == Moments.of([0.0] * 249 + [1.0])


def test_a_window_without_fault_is_not_sure_beyond_measure() -> None:
    """It spreads as the reference does; a window that spreads more keeps its own."""
    there = Moments.of([1.0] * 50 + [0.0] * 200)
    assert steadied(Moments.of([0.0] * 50), there).error == pytest.approx(math.sqrt(0.16 / 49))
    assert steadied(Moments.of([1.0, 0.0] * 25), there) == Moments.of([1.0, 0.0] * 25)


WINDOW = Window(EPOCH, EPOCH + timedelta(hours=1))


def judged(
    given: LabelScores, *earlier: LabelScores, reference: LabelScores | None = None, icc: float = 0.0, **fields: Any
) -> Verdict:
    """Judge a stretch's labels by a reference of 200 good and 50 bad ones."""
    return judge_label(
        Subject(model="m", window=WINDOW, champion_version=1),
        LabelSpec(name="score", **fields),
        WINDOW.before(2),
        given,
        LabelReference(
            model="m", label="score", version=1, window=WINDOW.before(9), scores=reference or rated(200, 50), icc=icc
        ),
        earlier,
        may_wait=True,
    )


def test_harm_and_its_null_twin() -> None:
    """A month of windows like the reference is never BAD; twice the badness is found within a dozen windows."""
    rng = np.random.default_rng(7)
    reference = rated(200, 50)
    earlier: list[LabelScores] = []
    conditions = []
    for _ in range(720):
        earlier = [*earlier[-71:], scores(rng.random(60) < 0.8)]
        conditions.append(judged(earlier[-1], *earlier[:-1], reference=reference).condition)
    assert BAD not in conditions
    after = []
    for _ in range(12):
        earlier = [*earlier[-71:], scores(rng.random(60) < 0.6)]
        after.append(judged(earlier[-1], *earlier[:-1], reference=reference).condition)
    assert (after[0] is BAD, BAD in after) == (False, True)


def test_perfect_windows_are_ok() -> None:
    """Nothing but good labels, window after window, is health, and no division by nothing."""
    for reference in (rated(250, 0), rated(200, 50), scores([0.8] * 250)):
        verdict = judged(rated(60, 0), *[rated(60, 0)] * 71, reference=reference)
        assert (verdict.condition, verdict.score) == (OK, 0.0)


def test_labels_of_one_user_count_less() -> None:
    """The same labels are less evidence when a few users gave them, and users judge alike."""
    many, few = rated(20, 40), replace(rated(20, 40), labels_per_user=20.0)
    assert judged(few, many, icc=0.5).evidence["log10_m"] < judged(many, many, icc=0.5).evidence["log10_m"]
    assert judged(few, many, icc=0.0).evidence["log10_m"] == judged(many, many, icc=0.0).evidence["log10_m"]


def test_too_few_to_compare_with() -> None:
    """A reference of one label has no spread: nothing is said."""
    verdict = judged(rated(60, 0), reference=rated(0, 1))
    assert (verdict.condition, "too few" in verdict.reason) == (NO_DATA, True)


def test_no_label_counts_twice() -> None:
    """Of earlier stretches that overlap, as after a change of maturity, only the newest counts."""

    def said(back: int, length: int = 1, version: int = 1) -> Verdict:
        end = WINDOW.before(back).end
        return Verdict(
            model="m", signal=SIGNAL, window=WINDOW, condition=OK, reason="r", method="t", champion_version=version,
            evidence={"scores": [back, 1.0, 1.0],
                      "scores_of": [(end - length * WINDOW.length).isoformat(), end.isoformat()]},
        )  # fmt: skip

    verdicts = [said(3), said(4), said(4), said(5, length=3), said(6), said(7, version=2), said(8)]
    found = judged_scores(verdicts, 1, until=WINDOW.before(3).start)
    assert [each.labels for _, each in found] == [8, 5, 4]


# --- the spec ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (
            [LABEL, LABEL],
            "field labels: Value error, more than one label is called score; each needs a name of its own",
        ),
        ([{**LABEL, "min_labels": 20}], "field labels.0.min_labels: Input should be greater than or equal to 50"),
        ([{**LABEL, "harm_ratio": 1}], "field labels.0.harm_ratio: Input should be greater than 1 (found 1)"),
        ([{**LABEL, "better": "more"}], "field labels.0.better: Input should be 'higher' or 'lower' (found 'more')"),
        ([{**LABEL, "maturity": 3}], "field labels.0.maturity: no such field; did you mean `maturity_windows`"),
    ],
)
def test_a_wrong_spec(loop: Loop, labels: list[dict[str, Any]], says: str) -> None:
    """What cannot be is refused in words."""
    with pytest.raises(ContractError) as caught:
        loop.spec(labels=labels)
    assert says in str(caught.value)


def test_the_rule_and_the_kind(loop: Loop) -> None:
    """A label has its own rule, none once it has left the spec, and is never about machines, whatever it is called."""
    spec = loop.spec(labels=[{**LABEL, "name": "error_rate", "confirm": {"bad": 3, "of": 9}}])
    rule = rule_of(spec, "label:error_rate")
    assert rule is not None
    assert (rule.bad, rule.of) == (3, 9)
    assert rule_of(spec, SIGNAL) is None
    assert spec.about("label:error_rate") is About.MODEL
    assert spec.about("quality:error_rate") is None


# --- a life in a database ---------------------------------------------------------------------------------------------


def answered(loop: Loop, number: int, given: list[float | None], *, version: int | None = 1, tag: str = "r") -> None:
    """Log a window's requests, and the scores that they got."""
    window = loop.window(number)
    rows = [
        Inference(
            model=MODEL, request_id=f"{tag}{number}-{n}", at=window.start + (n + 0.5) / len(given) * window.length,
            prompt="p", model_version=version, user_id=f"u{n % 7}",
        )
        for n in range(len(given))
    ]  # fmt: skip
    append(loop.db, rows)
    scored(loop, number, given, tag=tag)


def scored(loop: Loop, number: int, given: list[float | None], *, tag: str = "r") -> None:
    """Give the requests of a window their scores; None leaves one without."""
    add_feedback_batch(
        loop.db, MODEL, [(f"{tag}{number}-{n}", None, score) for n, score in enumerate(given) if score is not None]
    )


def thumbs(good: int, of: int = 60) -> list[float | None]:
    """Give so many good scores among bad ones, mixed."""
    return [float(n * good // of != (n + 1) * good // of) for n in range(of)]


def watch(loop: Loop, number: int) -> tuple[Verdict, Outcome]:
    """Let the sensor judge a window; give the label's verdict, too."""
    outcome = watch_quality.watch(MODEL, until=loop.until(number), db=loop.db, prometheus=AWAY, actor="test")
    return recorded(loop, number)[0], outcome


def recorded(loop: Loop, number: int, count: int = 1) -> list[Verdict]:
    """Read the label's verdicts up to a window, newest first."""
    found = recent_verdicts(loop.db, MODEL, SIGNAL, until=loop.window(number).end, count=count)
    assert found[0].window == loop.window(number)
    return found


def again(loop: Loop, first: int, last: int) -> list[Rescored]:
    """Judge windows `first` to `last` again."""
    return rescore(MODEL, since=loop.window(first).start, until=loop.until(last), db=loop.db)


def served_from(loop: Loop, version: int, number: int) -> None:
    """Say that a version was promoted at the beginning of a window; the fixtures' time is not the clock's."""
    loop.served_since(version, loop.window(number).start)


@pytest.fixture
def lived(loop: Loop) -> Loop:
    """A model of whose answers four in five are good: windows 0..4 are its reference, 5..7 have been judged."""
    loop.spec(labels=[LABEL])
    loop.champion()
    served_from(loop, 1, 0)
    for number in range(8):
        answered(loop, number, thumbs(48))
    for number in range(10):
        watch(loop, number)
    return loop


def test_from_the_first_label_on(lived: Loop) -> None:
    """Labels are waited for, then make the reference, then are judged by it; nothing of this is blindness."""
    reference = label_reference_of(lived.db, MODEL, "score", 1)
    assert reference is not None
    assert reference.window == Window(lived.window(0).start, lived.window(4).end)
    assert (reference.scores.labels, reference.scores.mean) == (300, 0.8)
    said = recorded(lived, 9, 10)[::-1]
    assert [each.condition for each in said] == [NO_DATA] * 7 + [OK] * 3
    for number, words in {1: "before version 1 served", 3: "120 of the 250 labels", 6: "became version 1's"}.items():
        assert words in said[number].reason
        assert said[number].waits
    newest = said[9]
    assert (newest.score, newest.limit, newest.champion_version) == (pytest.approx(1), 1.05, 1)
    assert newest.since == lived.window(7).start
    assert f"60 labels of {lived.window(7).start:%Y-%m-%d %H:%M:%S}" in newest.reason
    assert lived.kinds() == []


def test_harm_opens_an_incident_and_is_retrained(lived: Loop) -> None:
    """Much worse answers are confirmed by the clock, and were so from the rows on that the first verdict speaks of."""
    rings = []
    for number in range(8, 16):
        answered(lived, number, thumbs(20))
        verdict, outcome = watch(lived, number + 2)
        if outcome.ring is not None:
            rings.append(outcome.ring)
    assert verdict.condition is BAD
    assert "1 - score is 3.33 times the reference's" in verdict.reason
    (ring,) = rings
    incident = lived.ledger.incident(ring.incident_id)
    bad = [each for each in recorded(lived, 17, 10) if each.condition is BAD]
    assert set(incident.evidence) == {SIGNAL}
    assert incident.degraded_since == bad[-1].window.before(2).start
    assert incident.degraded_since >= lived.window(8).start
    assert decide(str(ring), db=lived.db, actor="test", now=lived.until(17))["action"] == Action.RETRAIN
    dry = check(MODEL, until=lived.until(17), db=lived.db, prometheus=AWAY)
    assert dry.decision is not None
    assert (dry.decision.action, dry.confirmed) == (Action.RETRAIN, {SIGNAL})


def test_a_dry_run_says_the_same(lived: Loop) -> None:
    """`check` shows the label as the sensor judged it; with more labels by now, it says what would be said now."""
    scored(lived, 7, thumbs(12))
    found = check(MODEL, until=lived.until(9), db=lived.db, prometheus=AWAY)
    (verdict,) = [each for each in found.verdicts if each.signal == SIGNAL]
    assert verdict.score == pytest.approx(4)
    assert recorded(lived, 9)[0].score == pytest.approx(1)
    assert [each.after for each in again(lived, 9, 9)] == [verdict]


def test_a_dry_run_keeps_no_reference(loop: Loop) -> None:
    """With labels enough for a reference, a dry run says so and makes none."""
    loop.spec(labels=[LABEL])
    loop.champion()
    answered(loop, 0, thumbs(240, 300))
    found = check(MODEL, until=loop.until(2), db=loop.db, prometheus=AWAY)
    assert "300 labels" in found.verdicts[-1].reason
    assert label_reference_of(loop.db, MODEL, "score", 1) is None


def test_too_few_labels_are_judged_with_the_next(lived: Loop) -> None:
    """A window with too few labels is NO_DATA and goes into the next one's stretch."""
    for number in (8, 9, 10):
        answered(lived, number, [*thumbs(16, 20), *[None] * 40])
        watch(lived, number + 2)
    third, second, first = recorded(lived, 12, 3)
    assert [each.condition for each in (first, second, third)] == [NO_DATA, NO_DATA, OK]
    assert "20 of the 50 labels needed" in first.reason
    assert (first.waits, second.evidence["labels"], third.evidence["labels"]) == (True, 40, 60)
    assert third.evidence["scores_of"] == [lived.window(8).start.isoformat(), lived.window(10).end.isoformat()]


def test_labels_that_stop_are_blindness(lived: Loop) -> None:
    """Once all the windows that may be judged together hold too few labels, people hear of it; and of their return."""
    lived.spec(labels=[{**LABEL, "carry_over_windows": 3}])
    for number in range(8, 12):
        answered(lived, number, [None] * 60)
        watch(lived, number + 2)
    assert [each.waits for each in recorded(lived, 13, 4)] == [False, False, True, True]
    assert lived.kinds() == ["blind"]
    answered(lived, 12, thumbs(48))
    watch(lived, 14)
    assert lived.kinds() == ["blind", "sighted"]


def test_a_version_that_nobody_labels_is_blindness(loop: Loop) -> None:
    """Without labels there is never a reference; that is told once they could have come."""
    loop.spec(labels=[{**LABEL, "carry_over_windows": 2}])
    loop.champion()
    for number in range(6):
        answered(loop, number, [1.0, 1.0])
        watch(loop, number)
    assert [each.waits for each in recorded(loop, 5, 4)] == [False, False, False, True]
    assert "no reference yet: 8 of the 250" in recorded(loop, 5)[0].reason
    assert loop.kinds() == ["blind"]


def test_scores_that_are_none(lived: Loop) -> None:
    """NaN, infinities and what lies outside 0..1 are left out, counted and named; alone they are no labels."""
    wrong: list[float | None] = [math.nan, math.inf, -math.inf, -0.1, 1.1, 5.0, 1e300]
    answered(lived, 8, [*thumbs(48), *wrong])
    verdict, _ = watch(lived, 10)
    assert (verdict.condition, verdict.score, verdict.evidence["wrong"]) == (OK, pytest.approx(1), 7)
    assert "7 more are no numbers from 0 to 1" in verdict.reason
    answered(lived, 9, [4.0] * 60)
    verdict, _ = watch(lived, 11)
    assert (verdict.condition, verdict.evidence["labels"]) == (NO_DATA, 0)
    assert "60 more are no numbers from 0 to 1" in verdict.reason


def test_lower_is_better(loop: Loop) -> None:
    """A score of which less is better is its own badness: a fall is fine, a rise is harm."""
    loop.spec(labels=[{**LABEL, "better": "lower"}])
    loop.champion()
    for number in range(5):
        answered(loop, number, thumbs(12))
    for number, good in zip(range(5, 13), [3] * 2 + [40] * 6, strict=True):
        answered(loop, number, thumbs(good))
    found = [watch(loop, number)[0] for number in range(15)]
    assert [each.condition for each in found[7:9]] == [OK, OK]
    assert found[8].score == pytest.approx(0.25)
    assert found[14].condition is BAD
    assert "the score is 3.33 times the reference's" in found[14].reason


def test_another_champions_rows(lived: Loop) -> None:
    """After a promotion labels are of the version before until the new one's are due; it has a reference of its own."""
    for number in range(8, 10):
        answered(lived, number, thumbs(10))
    lived.champion(2, since=lived.window(10).start, kind="promote")
    for number in range(10, 16):
        answered(lived, number, thumbs(30), version=2)
        answered(lived, number, thumbs(0), version=1, tag="canary")
    found = [watch(lived, number)[0] for number in range(10, 18)]
    for early in found[:2]:
        assert (early.condition, early.champion_version, early.waits) == (NO_DATA, 2, True)
        assert "before version 2 served" in early.reason
    reference = label_reference_of(lived.db, MODEL, "score", 2)
    assert reference is not None
    assert (reference.scores.labels, reference.scores.mean) == (300, 0.5)
    assert (found[-1].condition, found[-1].score) == (OK, pytest.approx(1))
    lived.champion(1, since=lived.window(16).start, kind="roll_back")
    answered(lived, 16, thumbs(48), version=1)
    verdict, _ = watch(lived, 18)
    assert (verdict.condition, verdict.champion_version, verdict.score) == (OK, 1, pytest.approx(1))


def test_a_foreign_log_is_the_champions(loop: Loop) -> None:
    """Rows that name no version count as the champion's; those of another version do not."""
    answered(loop, 0, thumbs(30), version=None)
    answered(loop, 0, thumbs(30), version=2, tag="other")
    found = read_scores(loop.db, MODEL, 1, loop.window(0))
    assert (found.labels, found.total, found.squares, found.wrong) == (60, 30, 30, 0)
    assert found.labels_per_user == pytest.approx((4 * 81 + 3 * 64) / 60)
    nothing = read_scores(loop.db, MODEL, 1, loop.window(1))
    assert (nothing.labels, nothing.mean, nothing.labels_per_user) == (0, None, 1)


# --- judged again -----------------------------------------------------------------------------------------------------


def test_late_labels_are_rescored(lived: Loop) -> None:
    """Labels that came after their time change past verdicts when these are judged again; no incident opens by it."""
    for number in range(8, 14):
        answered(lived, number, [None] * 60)
        watch(lived, number + 2)
    assert {each.condition for each in recorded(lived, 15, 6)} == {NO_DATA}
    assert again(lived, 0, 15) == []
    for number in range(8, 14):
        scored(lived, number, thumbs(20))
    changed = again(lived, 0, 15)
    assert [each.after.window for each in changed] == [lived.window(number) for number in range(10, 16)]
    assert [each.before.condition for each in changed if each.before is not None] == [NO_DATA] * 6
    assert [each.after for each in changed] == recorded(lived, 15, 6)[::-1]
    assert [each.after.condition for each in changed][-2:] == [BAD, BAD]
    assert lived.ledger.open_of(MODEL) is None
    assert again(lived, 0, 15) == []
    _, outcome = watch(lived, 15)
    assert outcome.ring is not None


def test_rescoring_what_the_sensor_missed(loop: Loop) -> None:
    """Windows that were never judged get the verdicts that the sensor would have given, if these say anything."""
    loop.spec(labels=[LABEL])
    loop.champion()
    served_from(loop, 1, 0)
    for number in range(8):
        answered(loop, number, thumbs(48))
    changed = again(loop, -500, 9)
    assert [(each.before, each.after.window, each.after.condition) for each in changed] == [
        (None, loop.window(number), OK) for number in (7, 8, 9)
    ]
    assert again(loop, 0, 9) == []
    assert watch(loop, 9)[0] == changed[-1].after


def test_each_past_window_is_judged_for_its_version(lived: Loop) -> None:
    """After a promotion past windows are still judged for the version that served them."""
    lived.champion(2, since=lived.window(10).start, kind="promote")
    served_from(lived, 2, 10)
    assert again(lived, 0, 11) == []
    scored(lived, 6, thumbs(6))
    first, after = again(lived, 0, 11)
    assert (first.after.window, first.after.champion_version) == (lived.window(8), 1)
    assert first.after.score == pytest.approx(4.5)
    assert (after.after.window, after.after.champion_version) == (lived.window(9), 1)
    assert after.after.evidence["log10_m"] > recorded(lived, 7)[0].evidence["log10_m"]


def test_what_the_log_no_longer_holds_stays(lived: Loop) -> None:
    """Verdicts on rows that were dropped with their day are left alone."""
    before = recorded(lived, 9, 10)
    answered(lived, 30, thumbs(48))
    assert drop_before(lived.db, lived.window(24).start) != []
    assert [each.after.window for each in again(lived, 0, 30)] == []
    assert recorded(lived, 9, 10) == before


def test_nothing_to_rescore(loop: Loop) -> None:
    """A model without labels is told so; one without champion or log has nothing to change."""
    with pytest.raises(ContractError, match="names no `labels`"):
        again(loop, 0, 9)
    loop.spec(labels=[LABEL])
    assert again(loop, 0, 9) == []
    loop.champion()
    assert again(loop, 0, 9) == []


# --- the loop around it -----------------------------------------------------------------------------------------------


def test_no_champion(loop: Loop) -> None:
    """Before the first champion a label has nobody to speak of."""
    loop.spec(labels=[LABEL])
    verdict, _ = watch(loop, 3)
    assert (verdict.condition, verdict.champion_version) == (NO_DATA, None)
    assert loop.kinds() == []


def test_beside_prometheus(loop: Loop) -> None:
    """One task judges quality signals and labels; Prometheus being away keeps no label from being judged."""
    loop.spec(quality=[{"name": "a", "promql": "x", "bad": 1}], labels=[LABEL, {**LABEL, "name": "other"}])
    loop.champion()
    watch(loop, 1)
    found = {each.signal: each for each in newest_verdicts(loop.db, MODEL, now=loop.until(1))}
    assert set(found) == {"quality:a", SIGNAL, "label:other"}
    assert "not reachable" in found["quality:a"].reason


@pytest.mark.parametrize(
    ("condition", "waits", "expected"),
    [(NO_DATA, True, 1.0), (NO_DATA, False, 0.0), (BAD, False, 0.0)],
)
def test_the_exporter_says_what_only_waits(loop: Loop, condition: Condition, waits: bool, expected: float) -> None:  # noqa: FBT001
    """Waiting for labels is told apart from not getting any."""
    newest = (datetime.now(UTC) - loop.window(0).start) // loop.length - 1
    loop.verdict(newest, SIGNAL, condition, evidence={"waits": waits})
    stale = newest_verdicts(loop.db, MODEL, now=loop.until(newest + 5))[0]
    assert (stale.condition, stale.waits) == (STALE, False)
    families = {family.name: family for family in LoopCollector(loop.db).collect()}
    (sample,) = families["driftloop_signal_waits"].samples
    assert (sample.labels, sample.value) == ({"model": MODEL, "signal": SIGNAL}, expected)


@pytest.mark.parametrize(("condition", "state"), [(OK, State.RESOLVED), (NO_DATA, State.PROBATION)])
def test_probation_by_labels_alone(loop: Loop, condition: Condition, state: State) -> None:
    """Where neither loss nor quality is known, good labels pass a probation, and unknown ones decide nothing."""
    loop.spec(labels=[LABEL])
    loop.champion(1)
    incident, _ = loop.ledger.open_incident(
        MODEL, signal=SIGNAL, degraded_since=loop.window(1).start, reason="r", evidence={}, actor="t"
    )
    for step in (State.RETRAINING, State.EVALUATING, State.APPROVING, State.PROMOTING, State.PROBATION):
        incident = loop.ledger.move(incident, step, actor="t", reason="r")
    loop.champion(2, since=loop.window(10).start, kind="promote")
    for number in (12, 13):
        loop.verdict(number, SIGNAL, condition, version=2)
    judge_open_probation(MODEL, until=loop.until(13), db=loop.db, actor="t")
    assert loop.ledger.incident(incident.id).state is state
