"""The battery's small form: families of nulls from a model's birth, and what must be found all the same."""

import numpy as np
import pytest

from tests.benchmarks.decision import COLUMNS, FORTNIGHT, watch_null
from tests.benchmarks.decision_policy import Model
from tests.benchmarks.decision_traffic import KINDS, NULLS, add_daily, add_weekly, draw, plain


@pytest.mark.parametrize("family", ["daily", "weekly", "loss_cycle", "few"])
def test_traffic_that_breathes_calls_nobody(family: str) -> None:
    """Three weeks from birth without an incident, and nearly all hours judged from the third day on."""
    found = watch_null(504, COLUMNS, (family, 3))
    assert (found.incidents, found.retrains) == (0, 0)
    assert found.judged > 350


@pytest.mark.parametrize("what", ["new", "same"])
def test_harm_is_found_and_named(what: str) -> None:
    """A harmful new topic is retrained on within hours; the same prompts costing more calls a person, no retrain."""
    rng = np.random.default_rng(5)
    traffic = plain(FORTNIGHT + 24, COLUMNS, rng, rows=200)
    add_daily(traffic, 0.3, rng)
    add_weekly(traffic, 0.2, rng)
    after = np.arange(traffic.hours) >= FORTNIGHT
    if what == "new":
        traffic.added = np.where(after, 0.3, 0.0)
    else:
        traffic.within *= np.where(after, 1.3, 1.0)
    found = Model(traffic, draw(traffic, rng)).play()
    since = [hour - FORTNIGHT for hour in found.retrains]
    assert all(hour >= FORTNIGHT for hour, _, _ in found.incidents)
    assert (len(since) > 0 and since[0] < 10) if what == "new" else (since == [] and len(found.incidents) == 1)


def test_the_families_are_drawn() -> None:
    """Each family gives whole hours: as many rows in its kinds and levels as it says, and finite losses."""
    for at, family in enumerate(NULLS.values()):
        rng = np.random.default_rng(at)
        traffic = family(800, rng, 3)
        drawn = draw(traffic, rng)
        assert drawn.kind_rows.shape == (800, KINDS + 1)
        assert (drawn.kind_rows.sum(axis=1) == traffic.rows).all()
        assert (drawn.levels.sum(axis=1) == traffic.rows).all()
        assert np.isfinite(drawn.sums).all()
