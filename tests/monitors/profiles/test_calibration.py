"""Calibration: tolerances as wide as traffic moves by itself, and no wider."""

from math import pi

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_defs.core.errors import ContractError
from monitors.counts.moments import Moments
from monitors.counts.sketch import CategorySketch, NumericSketch, Scale, Sketch
from monitors.evidence.e_detector import BAD_RUN_LENGTH, EPS_GRID, Reference
from monitors.evidence.harm import TOLERANCES
from monitors.profiles.calibration import Replayed, calibrate
from monitors.profiles.clusters import UNKNOWN_ICC, intraclass_correlation
from monitors.profiles.delays import detectable
from monitors.profiles.loss_tolerance import loss_tolerance

UNIT = Scale(0.0, 1.0)
DAY = np.arange(24 * 14)


def hours(means: np.ndarray, *, rows: int = 1000, seed: int = 0) -> list[Replayed]:
    """Windows of two columns: numbers with these means, and levels that never change."""
    rng = np.random.default_rng(seed)
    return [
        Replayed(
            at % 24,
            {
                "moving": NumericSketch.of(rng.normal(mean, 1, rows), UNIT),
                "steady": CategorySketch.of_counts({"a": int(n), "b": rows - int(n)}),
            },
        )
        for at, (mean, n) in enumerate(zip(means, rng.binomial(rows, 0.3, len(means)), strict=True))
    ]


def losses(means: np.ndarray, *, rows: int = 1000, seed: int = 0, spread: float = 0.25) -> list[Moments]:
    """Windows with these mean losses."""
    rng = np.random.default_rng(seed)
    return [Moments.of(rng.normal(mean, spread, rows)) for mean in means]


def wander(size: float, seed: int, *, memory: float = 24) -> np.ndarray:
    """A mean that wanders over a fortnight of hours."""
    rng = np.random.default_rng(seed)
    keep = np.exp(-1 / memory)
    steps = rng.normal(0, size * np.sqrt(1 - keep**2), len(DAY))
    for at in range(1, len(steps)):
        steps[at] += keep * steps[at - 1]
    return steps


@pytest.mark.parametrize("rows", [200, 1000, 5000])
def test_steady_traffic_gets_the_smallest_tolerance(rows) -> None:
    """For every column, at any number of rows: noise alone widens nothing."""
    found = calibrate(hours(np.zeros(len(DAY)), rows=rows), {})
    assert found.eps == {"moving": 0.02, "steady": 0.02}
    assert not found.uses_hour_of_day
    assert found.windows == len(DAY)
    assert found.false_alarms_per_window == pytest.approx(1 / BAD_RUN_LENGTH)
    assert found.unsteady == ()


def test_a_daily_cycle_is_compared_with_the_same_hour() -> None:
    """A cycle of 0.3 sd needs wide tolerances, and none beside its own hours of the day."""
    found = calibrate(hours(0.3 * np.sin(2 * pi * DAY / 24)), {})
    assert found.uses_hour_of_day
    assert found.eps["moving"] <= 0.03


def test_without_a_week_of_every_hour_there_is_no_hour_of_day() -> None:
    """Six days of the same cycle are too few."""
    few = hours(0.3 * np.sin(2 * pi * DAY / 24))[: 24 * 6]
    found = calibrate(few, {})
    assert not found.uses_hour_of_day
    assert found.eps["moving"] > 0.05


def test_a_wandering_column_gets_room_and_the_others_do_not() -> None:
    """A tolerance of at least three standard deviations of the wandering share (.4 times that of the mean)."""
    found = calibrate(hours(wander(0.07, 3)), {})
    assert found.eps["moving"] >= 3 * 0.4 * 0.07 * 0.7
    assert found.eps["moving"] in EPS_GRID
    assert found.eps["steady"] == 0.02


def test_more_rows_see_the_same_movement_and_need_as_much_room() -> None:
    """A small wander that 100 rows an hour cannot see is tolerated by them without being measured."""
    few, many = (calibrate(hours(wander(0.1, 5), rows=rows), {}).eps["moving"] for rows in (100, 3000))
    assert few <= many


def test_a_column_beyond_every_tolerance_is_named() -> None:
    """A column that swings by whole sd is unsteady, keeps the widest tolerance, and its alarms are counted."""
    swings = np.repeat([0.0, 2.0], len(DAY) // 2)
    found = calibrate(hours(swings), {})
    assert found.unsteady == ("moving",)
    assert found.eps == {"moving": EPS_GRID[-1], "steady": 0.02}
    assert found.false_alarms_per_window > 1 / BAD_RUN_LENGTH


def test_clusters_that_are_known_need_no_room() -> None:
    """Users who say ten times the same look like movement, unless their likeness is given."""
    rng = np.random.default_rng(2)
    windows = [
        Replayed(at % 24, {"x": NumericSketch.of(np.repeat(rng.normal(size=40), 10), UNIT)}, 10.0) for at in range(240)
    ]
    assert calibrate(windows, {"x": 1.0}).eps["x"] <= 0.03
    assert calibrate(windows, {"x": 0.0}).eps["x"] > 0.05


@pytest.mark.parametrize(("count", "rows", "eps"), [(1, 10_000, 0.03), (3, 200, 0.15), (0, 1, None)])
def test_with_too_few_windows_the_rows_decide(count, rows, eps) -> None:
    """Nothing to replay: a step above twice the standard error of a share, or nothing at all without columns."""
    found = calibrate(hours(np.zeros(count), rows=rows), {})
    assert found.eps == ({"moving": eps, "steady": eps} if eps else {})
    assert not found.uses_hour_of_day


def test_few_rows_in_the_reference_are_paid_for() -> None:
    """2 / sqrt(rows) is the floor: four windows of 300 rows give .06."""
    assert calibrate(hours(np.zeros(4), rows=300), {}).eps["steady"] == 0.06


def test_columns_may_come_and_go() -> None:
    """A column that only some windows have, or that is all null, is calibrated on what there is."""
    windows = hours(np.zeros(60))
    for at, each in enumerate(windows):
        columns: dict[str, Sketch] = {**each.columns, "null": NumericSketch.of([], UNIT, nulls=1000)}
        if at >= 45:
            columns["new"] = NumericSketch.of(np.random.default_rng(at).normal(size=1000), UNIT)
        windows[at] = Replayed(each.hour, columns)
    found = calibrate(windows, {})
    assert set(found.eps) == {"moving", "steady", "null", "new"}
    assert found.eps["new"] <= 0.03
    assert calibrate([Replayed(0, {})] * 9, {}).eps == {}


def test_a_column_that_is_seldom_there_is_given_as_much_room() -> None:
    """Movement is measured over the windows that have the column, not thinned by those that lack it."""
    whole = hours(wander(0.1, 8))
    seldom = [each if at % 3 else Replayed(each.hour, {}) for at, each in enumerate(whole)]
    assert calibrate(seldom, {}).eps["moving"] == pytest.approx(calibrate(whole, {}).eps["moving"], abs=0.021)
    assert calibrate(seldom, {}).eps["moving"] >= 0.05


def test_columns_that_change_their_type_are_refused() -> None:
    """With the column's name."""
    windows = [*hours(np.zeros(6)), Replayed(0, {"moving": CategorySketch.of(["a"])})]
    with pytest.raises(ContractError, match="column 'moving'"):
        calibrate(windows, {})


@pytest.mark.parametrize("rows", [200, 1000, 20_000])
def test_a_steady_loss_gets_the_smallest_tolerance(rows) -> None:
    """Two hundredths, whatever the rows."""
    assert loss_tolerance(losses(np.ones(len(DAY)), rows=rows)) == TOLERANCES[0]


def test_a_loss_that_moves_gets_room() -> None:
    """A wander of .0125 needs more than .02; a cycle of .025 is covered once its hours are known."""
    wandering = losses(1 + wander(0.0125, 1))
    assert 0.03 <= loss_tolerance(wandering) <= 0.08
    daily = losses(1 + 0.025 * np.sin(2 * pi * DAY / 24))
    known = loss_tolerance(daily, hours=(DAY % 24).tolist())
    assert known == 0.03
    assert loss_tolerance(daily) > known
    assert loss_tolerance(daily[:100], hours=(DAY % 24).tolist()[:100]) > known


def test_a_loss_that_rises_for_good_is_no_wider_tolerance_than_there_is() -> None:
    """A doubled loss in the second week ends at the widest tolerance."""
    assert loss_tolerance(losses(np.where(DAY < 168, 1.0, 2.0))) == TOLERANCES[-1]


@pytest.mark.parametrize("some", [[], [Moments()] * 9, losses(np.ones(3))])
def test_without_losses_the_tolerance_is_the_smallest(some) -> None:
    """Nothing speaks for more."""
    assert loss_tolerance(some) == TOLERANCES[0]


def test_what_is_detectable_falls_with_rows_and_size() -> None:
    """More rows or larger shifts are seen no later, and 0.2 sd at 1,000 rows within hours."""
    rng = np.random.default_rng(0)
    columns = {
        f"n{at}": Reference(sketch=NumericSketch.of(rng.normal(5, 3, 20_000), Scale(5, 3)), eps=0.02, icc=0.0)
        for at in range(4)
    }
    columns["null"] = Reference(sketch=NumericSketch.of([], UNIT, nulls=20_000), eps=0.02, icc=0.0)
    columns["c"] = Reference(sketch=CategorySketch.of_counts({"a": 500, "b": 500}), eps=0.02, icc=0.0)
    found = {rows: detectable(columns, rows) for rows in (200, 1000, 5000)}
    assert list(found[1000]) == [0.2, 0.5, 1.0]
    for rows in found:
        assert found[rows][0.2] >= found[rows][0.5] >= found[rows][1.0] >= 1
    assert found[200][0.2] >= found[1000][0.2] >= found[5000][0.2]
    assert found[1000][0.2] <= 4
    assert detectable(columns, 1000, shifts=(0.01,)) == {0.01: None}
    assert detectable({"c": columns["c"]}, 1000) == dict.fromkeys((0.2, 0.5, 1.0))


@pytest.mark.parametrize("true", [0.0, 0.05, 0.3, 0.8])
def test_likeness_of_users_is_recovered(true) -> None:
    """From 400 users of 1 to 19 rows each: within .04 of what the numbers were made with."""
    rng = np.random.default_rng(9)
    sizes = rng.integers(1, 20, 400)
    users = np.repeat(np.arange(400), sizes)
    values = np.sqrt(true) * rng.normal(size=400)[users] + np.sqrt(1 - true) * rng.normal(size=len(users))
    assert intraclass_correlation(values, users.tolist()) == pytest.approx(true, abs=0.04)
    assert intraclass_correlation(np.exp(9 * values), users.tolist()) == pytest.approx(true, abs=0.04)


def test_likeness_of_texts() -> None:
    """A user who always says the same is wholly alike; levels drawn anew for each row are not alike at all."""
    rng = np.random.default_rng(4)
    users = [f"u{at // 8}" for at in range(4000)]
    own = [f"l{hash_ % 5}" for hash_ in np.repeat(rng.integers(0, 99, 500), 8)]
    assert intraclass_correlation(own, users) == pytest.approx(1.0)
    assert intraclass_correlation(rng.choice(["a", "b", "c"], 4000), users) < 0.01


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.one_of(st.none(), st.floats(), st.just(1.0)), st.one_of(st.none(), st.integers(0, 9))),
             max_size=80),
)  # fmt: skip
def test_any_values_and_users_give_a_share(rows) -> None:
    """NaN, infinities, nulls, unknown users, one user, no rows: always a number from 0 to 1."""
    values = np.array([np.nan if value is None else value for value, _ in rows], dtype=np.float64)
    users = [user for _, user in rows]
    assert 0 <= intraclass_correlation(values, users) <= 1
    texts = np.array([None if value is None else str(value) for value, _ in rows], dtype=object)
    assert 0 <= intraclass_correlation(texts, users) <= 1


@pytest.mark.parametrize(
    ("values", "users"),
    [
        ([1.0, 2.0] * 50, list(range(100))),
        ([1.0] * 100, [at // 5 for at in range(100)]),
        ([1.0, 2.0] * 50, [1] * 100),
        ([1.0, 2.0] * 50, [None] * 100),
        (["a"] * 100, [at // 5 for at in range(100)]),
    ],
    ids=["no user twice", "all values equal", "one user", "users unknown", "one level"],
)
def test_where_users_tell_nothing_a_usual_likeness_is_taken(values, users) -> None:
    """It cannot be told, so it is not taken for 0."""
    assert intraclass_correlation(np.array(values), users) == UNKNOWN_ICC
