"""The simulation draws what it says, and its policy acts when there is something to act on."""

import numpy as np
import pytest

from tests.benchmarks import policy_simulation as simulation
from tests.benchmarks.policy_simulation import COLUMNS, FORTNIGHT, ICC, LOSS, NULLS, NUMERIC, USER_ROWS, Traffic

ROWS = 1000


@pytest.mark.parametrize(("traffic", "effect"), [(NULLS[0], 1.0), (NULLS[3], 1 + (USER_ROWS - 1) * ICC)])
def test_counts_have_the_shares_and_the_spread_of_their_rows(traffic, effect) -> None:
    """Deciles hold a tenth each, at the variance of independent rows or of clustered ones; losses likewise."""
    hours = list(simulation.draw(traffic, np.zeros((3000, COLUMNS)), ROWS, np.random.default_rng(1)))
    counts = np.array([hour.columns["n03"].counts for hour in hours])
    assert (counts.sum(axis=1) == ROWS).all()
    assert counts.mean(axis=0) / ROWS == pytest.approx(np.full(10, 0.1), abs=0.001)
    assert counts.var(axis=0).mean() == pytest.approx(ROWS * 0.1 * 0.9 * effect, rel=0.05)
    levels = np.array([hour.columns["c02"].counts for hour in hours]).mean(axis=0) / ROWS
    assert levels == pytest.approx([2 / 3, 1 / 3], abs=0.002)
    means = [hour.loss.mean for hour in hours]
    assert np.mean(means) == pytest.approx(1, abs=0.001)
    assert np.std(means) == pytest.approx(simulation.LOSS_SPREAD * np.sqrt(effect / ROWS), rel=0.06)
    assert hours[0].loss.error == pytest.approx(simulation.LOSS_SPREAD / np.sqrt(ROWS), rel=0.1)


@pytest.mark.parametrize("traffic", NULLS, ids=lambda traffic: traffic.name)
def test_means_move_as_named(traffic) -> None:
    """The daily cycle repeats and has its height; the wander has its standard deviation; the others stay at 0."""
    means = traffic.means(24 * 400, np.random.default_rng(2))
    expected = np.hypot(traffic.daily / np.sqrt(2), traffic.wander)
    assert means.std() == pytest.approx(expected, rel=0.1)
    assert means.mean() == pytest.approx(0, abs=0.01)
    if traffic.daily:
        assert means[:24] == pytest.approx(means[240:264])
        assert np.abs(means).max() == pytest.approx(traffic.daily, rel=0.02)


@pytest.mark.slow
def test_a_shift_is_found_and_nothing_else_is() -> None:
    """A week of nothing raises nothing; 0.2 sd in one column of 20 at 5,000 rows is confirmed within hours."""
    quiet = simulation.false_actions(NULLS[0], 168 / simulation.YEAR, seed=4)
    assert (quiet.drift_incidents, quiet.retrains) == (0, 0)
    assert quiet.years == pytest.approx(168 / simulation.YEAR)
    assert 2 <= simulation.delay(5000, seed=4, models=1) <= 3


def test_a_rise_of_the_loss_retrains() -> None:
    """A loss that rises by a quarter after four days, with its column, is drift and harm: a retrain within hours."""
    rng = np.random.default_rng(5)
    means = np.zeros((FORTNIGHT + 110, COLUMNS))
    means[FORTNIGHT + 96 :, LOSS] = 1.0
    model = simulation.Model(list(simulation.draw(NULLS[0], means[:FORTNIGHT], ROWS, rng)), rows_per_user=1.0, icc=0.0)
    found = simulation.watch(model, simulation.draw(NULLS[0], means[FORTNIGHT:], ROWS, rng))
    assert found.retrains == 1
    assert found.hours == 110


@pytest.mark.slow
def test_drift_without_harm_becomes_the_new_reference() -> None:
    """A shift that stays is one incident, and none any more once it is the reference."""
    rng = np.random.default_rng(6)
    means = np.zeros((FORTNIGHT + 400, COLUMNS))
    means[FORTNIGHT + 48 :, NUMERIC - 1] = 0.5
    model = simulation.Model(list(simulation.draw(NULLS[0], means[:FORTNIGHT], ROWS, rng)), rows_per_user=1.0, icc=0.0)
    found = simulation.watch(model, simulation.draw(NULLS[0], means[FORTNIGHT:], ROWS, rng))
    assert (found.drift_incidents, found.retrains) == (1, 0)
    assert 49 <= found.drift_at[0] <= 51


@pytest.mark.slow
def test_rough_traffic_is_not_hidden() -> None:
    """A loss that swings by a whole sd of its rows from day to day does retrain: the simulation can fail."""
    rng = np.random.default_rng(7)
    calm, rough = Traffic("calm"), Traffic("rough", wander=1.0)
    model = simulation.Model(
        list(simulation.draw(calm, calm.means(FORTNIGHT, rng), ROWS, rng)), rows_per_user=1.0, icc=0.0
    )
    found = simulation.watch(model, simulation.draw(rough, rough.means(400, rng), ROWS, rng))
    assert found.retrains > 0
