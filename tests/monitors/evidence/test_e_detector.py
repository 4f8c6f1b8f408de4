"""The e-detector: e-values that keep their promise, a state that adds up, evidence in the right order."""

from itertools import pairwise
from math import log, log10

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from datasets_defs.core.errors import ContractError
from monitors.counts.sketch import CategorySketch, NumericSketch, Scale, Sketch, hashed_level
from monitors.evidence.e_detector import BAD_RUN_LENGTH, DELTAS, EPS_GRID, LEAST_LOG10, Detector, Reference, Tally

BAD = log10(BAD_RUN_LENGTH)
UNIT = Scale(0.0, 1.0)


def numbers(rows: int, *, shift: float = 0.0, seed: int = 0, nulls: int = 0) -> NumericSketch:
    """Normal numbers."""
    return NumericSketch.of(np.random.default_rng(seed).normal(shift, 1, rows), UNIT, nulls=nulls)


def constant(value: float, rows: int) -> NumericSketch:
    """The same number in each row."""
    return NumericSketch.of(np.full(rows, value), UNIT)


def levels(rows: int, *, first: float = 0.5, seed: int = 0) -> CategorySketch:
    """Three levels, of which the first has this share."""
    rest = (1 - first) / 2
    return CategorySketch.of_counts(
        dict(zip("abc", np.random.default_rng(seed).multinomial(rows, [first, rest, rest]).tolist(), strict=True))
    )


def reference(sketch: Sketch, *, eps: float = 0.02, icc: float = 0.0) -> Reference:
    """A reference with the smallest tolerance."""
    return Reference(sketch=sketch, eps=eps, icc=icc)


DETECTOR = Detector.of({name: reference(numbers(50_000, seed=at)) for at, name in enumerate("hgfedcba")})


def run(detector: Detector, windows: list[dict[str, Sketch]], *, rows_per_user: float = 1.0) -> np.ndarray:
    """The state after these windows."""
    state = detector.start()
    for window in windows:
        state = detector.step(state, window, rows_per_user=rows_per_user)
    return state


def null(seed: int, rows: int = 1000) -> dict[str, Sketch]:
    """A window in which nothing changed."""
    return {name: numbers(rows, seed=1000 * seed + at) for at, name in enumerate(DETECTOR.columns)}


@settings(max_examples=60, deadline=None)
@given(
    ones=st.integers(0, 60),
    eps=st.sampled_from(EPS_GRID),
    rows=st.integers(0, 40),
    effect=st.floats(1.0, 9.0),
    inside=st.floats(-1, 1),
)
def test_the_mean_of_every_e_value_is_at_most_one(ones, eps, rows, effect, inside) -> None:
    """For every true share within eps of the reference's, exactly: summed over the binomial, design effect or not."""
    column = CategorySketch.of_counts({"a": ones, "b": 60 - ones})
    detector = Detector.of({"x": reference(column, eps=eps, icc=1.0)})
    at = 0
    share = float(np.clip(detector.share[at] + inside * eps, 0, 1))
    hits = np.zeros(len(detector.share))
    size = np.zeros(len(detector.share))
    size[at] = rows
    mean = np.zeros(2 * len(DELTAS))
    for count in range(rows + 1):
        hits[at] = count
        tally = Tally(hits=hits, rows=size, seen=np.array([True]))
        e = np.exp(detector.log_e(tally, rows_per_user=effect))
        mean += stats.binom.pmf(count, rows, share) * e[: 2 * len(DELTAS)]
    assert (mean <= 1 + 1e-9).all()
    assert (mean > 0).all()


def test_just_beyond_eps_the_mean_of_an_e_value_is_above_one() -> None:
    """So the tolerance is eps and no more: 1,000 rows at p + eps + .02 speak for a change."""
    detector = Detector.of({"x": reference(CategorySketch.of_counts({"a": 500, "b": 500}), eps=0.05)})
    tally = Tally(hits=np.full(5, 570.0), rows=np.full(5, 1000.0), seen=np.array([True]))
    assert detector.log_e(tally, rows_per_user=1)[0] > 0


def test_a_small_shift_in_one_of_eight_columns_is_found() -> None:
    """0.2 sd at 5,000 rows is BAD in two windows, and the column that moved leads the evidence."""
    state = run(DETECTOR, [null(seed, 5000) for seed in range(10)])
    assert DETECTOR.evidence(state).log10_m < 2
    for seed in range(2):
        moved = {**null(50 + seed, 5000), "d": numbers(5000, shift=0.2, seed=seed)}
        state = DETECTOR.step(state, moved, rows_per_user=1)
    evidence = DETECTOR.evidence(state)
    assert evidence.log10_m >= BAD
    assert next(iter(evidence.by_column)) == "d"
    assert all(one >= other for one, other in pairwise(evidence.by_column.values()))
    assert sorted(evidence.by_column) == sorted(DETECTOR.columns)
    assert [name for name, log10_m in evidence.by_column.items() if log10_m >= BAD] == ["d"]


@pytest.mark.parametrize("shift", [-0.05, 0.05])
def test_a_shift_within_the_tolerance_is_no_change(shift) -> None:
    """0.05 sd moves no share by .02, so 300 windows of it stay quiet."""
    state = DETECTOR.start()
    for seed in range(300):
        window = {"a": numbers(1000, shift=shift, seed=seed)}
        state = DETECTOR.step(state, window, rows_per_user=1)
        assert DETECTOR.evidence(state).log10_m < BAD


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(levels(20_000), levels(1000, first=0.6, seed=1), id="a level more frequent"),
        pytest.param(levels(20_000), levels(1000, first=0.4, seed=1), id="a level less frequent"),
        pytest.param(levels(20_000), levels(900) + CategorySketch.of(["new"] * 100), id="an unseen level"),
        pytest.param(levels(20_000), levels(900) + CategorySketch.of([hashed_level("new")] * 100), id="a hashed level"),
        pytest.param(levels(20_000), levels(900) + CategorySketch.of([None] * 100), id="levels that are null"),
        pytest.param(
            levels(20_000) + CategorySketch.of(["rare"] * 100), levels(900) + CategorySketch.of(["rare"] * 100),
            id="a rare level frequent",
        ),
        pytest.param(numbers(20_000), numbers(900, nulls=100), id="numbers that are null"),
        pytest.param(numbers(20_000), NumericSketch.of([np.nan] * 1000, UNIT), id="nothing but NaN"),
        pytest.param(numbers(20_000), NumericSketch.of([np.inf] * 1000, UNIT), id="nothing but infinity"),
        pytest.param(constant(7.0, 20_000), constant(6.9, 1000), id="a constant lower"),
        pytest.param(constant(7.0, 20_000), constant(7.2, 1000), id="a constant higher"),
        pytest.param(NumericSketch.of([], UNIT, nulls=20_000), numbers(1000), id="null before, numbers now"),
    ],
)  # fmt: skip
def test_what_changes_is_seen_and_what_stays_is_not(before, after) -> None:
    """Three windows of the change are BAD; three of the same as before are not even near."""
    detector = Detector.of({"x": reference(before)})
    assert detector.evidence(run(detector, [{"x": after}] * 3)).log10_m >= BAD
    assert detector.evidence(run(detector, [{"x": before}] * 3)).log10_m < 1


def test_capping_only_lowers_and_change_is_soon_forgotten() -> None:
    """A month of a large change is held just above BAD, column by column, and three quiet windows end it."""
    moved = [{**null(seed), "a": numbers(1000, shift=2, seed=seed)} for seed in range(30)]
    state = DETECTOR.start()
    free = DETECTOR.start()
    for window in moved:
        tally = DETECTOR.count(window)
        free = np.where(DETECTOR.log_hit != 0, np.logaddexp(0, free) + DETECTOR.log_e(tally, rows_per_user=1), free)
        state = DETECTOR.step(state, window, rows_per_user=1)
        assert (state <= free + 1e-9).all()
    assert BAD <= DETECTOR.evidence(state).log10_m <= log10(2.1 * BAD_RUN_LENGTH)
    assert DETECTOR.evidence(free).log10_m > 100
    for seed in range(3):
        state = DETECTOR.step(state, null(seed), rows_per_user=1)
    assert DETECTOR.evidence(state).log10_m < BAD


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.floats(-3, 3)), min_size=1, max_size=5), st.floats(1, 20))
def test_the_state_is_finite_or_empty_and_never_above_the_cap(some, rows_per_user) -> None:
    """Whatever the windows hold: no NaN, no more than the cap, and the whole is the mean of the columns."""
    windows = [{"a": numbers(rows, shift=shift), "b": NumericSketch.of([np.nan] * rows, UNIT)} for rows, shift in some]
    state = run(DETECTOR, windows, rows_per_user=rows_per_user)
    assert not np.isnan(state).any()
    by_column = np.exp(DETECTOR.log_m_of_columns(state))
    assert by_column.max() <= 2 * BAD_RUN_LENGTH * len(DETECTOR.columns) * 1.000001
    expected = max(log10(max(by_column.mean(), 1e-99)), LEAST_LOG10)
    assert DETECTOR.evidence(state).log10_m == pytest.approx(expected, abs=1e-6)


def test_any_split_of_a_window_gives_the_identical_state() -> None:
    """Sketches of parts add up, so the verdict does not depend on how the rows came."""
    rng = np.random.default_rng(5)
    values = rng.normal(0.1, 1, 3001)
    whole = DETECTOR.step(DETECTOR.start(), {"a": NumericSketch.of(values, UNIT)}, rows_per_user=2)
    parts = [NumericSketch.of(part, UNIT) for part in np.array_split(values, 7)]
    state = DETECTOR.step(DETECTOR.start(), {"a": sum(parts[1:], parts[0])}, rows_per_user=2)
    assert np.array_equal(state, whole)


def test_a_column_that_is_absent_keeps_its_evidence() -> None:
    """What the window lacks neither gathers nor loses, and what the reference lacks is left aside."""
    state = run(DETECTOR, [null(1)])
    after = DETECTOR.step(state, {"b": numbers(1000), "stranger": levels(10)}, rows_per_user=1)
    before, now = DETECTOR.log_m_of_columns(state), DETECTOR.log_m_of_columns(after)
    assert (before == now).tolist() == [name != "b" for name in DETECTOR.columns]


def test_never_seen_is_the_least_evidence() -> None:
    """The empty state has a figure that JSON can hold."""
    evidence = DETECTOR.evidence(DETECTOR.start())
    assert evidence.log10_m == LEAST_LOG10
    assert set(evidence.by_column.values()) == {LEAST_LOG10}


def test_users_that_repeat_themselves_count_less() -> None:
    """With ten rows a user that all say the same, ten windows weigh what one did."""
    detector = Detector.of({"x": reference(levels(20_000), icc=1.0)})
    tally = detector.count({"x": levels(1000, first=0.6)})
    one, ten = (detector.log_e(tally, rows_per_user=each) for each in (1, 10))
    assert ten == pytest.approx(one / 10)
    assert np.array_equal(detector.log_e(tally, rows_per_user=0.5), one)


def test_shares_by_the_hour_fit_the_same_state() -> None:
    """An hour that always lies half an sd higher is no change against its own shares, and is one against the pooled."""
    by_hour = DETECTOR.with_rates({"a": numbers(50_000, shift=0.5, seed=7), "b": NumericSketch.of([], UNIT)})
    assert by_hour.size == DETECTOR.size
    assert np.array_equal(by_hour.counted, DETECTOR.counted)
    windows = [{"a": numbers(2000, shift=0.5, seed=seed)} for seed in range(5)]
    assert by_hour.evidence(run(by_hour, windows)).log10_m < 1
    assert DETECTOR.evidence(run(DETECTOR, windows)).log10_m >= BAD
    pooled = DETECTOR.log_e(DETECTOR.count(null(3)), rows_per_user=1)
    width = DETECTOR.size // len(DETECTOR.columns)
    assert np.array_equal(by_hour.log_e(by_hour.count(null(3)), rows_per_user=1)[width:], pooled[width:])


def test_other_tolerances_are_those_of_a_new_detector() -> None:
    """`with_eps` is what `of` would have made."""
    made = Detector.of({"a": reference(numbers(1000), eps=0.1), "b": reference(levels(1000))})
    changed = Detector.of({"a": reference(numbers(1000)), "b": reference(levels(1000))}).with_eps({"a": 0.1})
    for name in ("eps", "counted", "log_hit", "log_miss"):
        assert np.array_equal(getattr(made, name), getattr(changed, name))


def test_what_cannot_be_tested_does_not_count() -> None:
    """A share of .05 cannot fall by eps + delta = .07, so that fork is out of the mean and its M stays."""
    detector = Detector.of({"x": reference(CategorySketch.of_counts({"a": 5, "b": 95}))})
    down = 0 * detector.forks + len(DELTAS) + DELTAS.index(0.05)
    assert not detector.counted[down]
    assert run(detector, [{"x": levels(100)}] * 3)[down] == -np.inf


def test_wrong_uses_are_refused() -> None:
    """Another state, another type, another scale, no columns, impossible tolerances: each with what was found."""
    window = {"a": numbers(10)}
    with pytest.raises(ContractError, match="3 numbers"):
        DETECTOR.step(np.zeros(3), window, rows_per_user=1)
    with pytest.raises(ContractError, match="column 'a'"):
        DETECTOR.step(DETECTOR.start(), {"a": levels(10)}, rows_per_user=1)
    with pytest.raises(ContractError, match="column 'a'"):
        DETECTOR.count({"a": NumericSketch.of([1.0], Scale(0, 2))})
    with pytest.raises(ContractError, match="column 'x'"):
        Detector.of({"x": reference(levels(100))}).count({"x": numbers(10)})
    with pytest.raises(ContractError, match="without columns"):
        Detector.of({})
    for eps, icc in ((0.0, 0.0), (0.5, 0.0), (0.02, 1.5)):
        with pytest.raises(ValueError, match="eps must lie"):
            Reference(sketch=numbers(10), eps=eps, icc=icc)


def test_the_time_between_false_alarms_is_as_long_as_stated() -> None:
    """With shares at the very edge of the tolerance, 4,000 windows of a small detector reach M = 200 at most 20 times.

    That is the bound of the e-detector for its worst null; here for one of its forks, counted as stopping times.
    """
    rng = np.random.default_rng(11)
    detector = Detector.of({"x": reference(CategorySketch.of_counts({"a": 5000, "b": 5000}))})
    state, alarms = detector.start(), 0
    for hits in rng.binomial(200, 0.52, 4000).tolist():
        state = detector.step(state, {"x": CategorySketch.of_counts({"a": hits, "b": 200 - hits})}, rows_per_user=1)
        if detector.log_m_of_columns(state)[0] >= log(200):
            alarms, state = alarms + 1, detector.start()
    assert alarms <= 4000 / 200
