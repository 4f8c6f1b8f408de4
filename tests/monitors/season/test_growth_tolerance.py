"""How far the share of new kinds may rise: learned from all kinds while days are few, from new ones later."""

import numpy as np

from monitors.evidence.e_detector import EPS_GRID
from monitors.evidence.harm import Point
from monitors.evidence.kind_costs import Share, Split
from monitors.season.calendar import HOURS, Calendar
from monitors.season.growth import MOST_GROWTH, growth_tolerance

KINDS, ROWS = 8, 100
CLASSES = Calendar().classes
NO_LOSS = Point(1.0, 0.1)


def learned(days: int, *, moving: float = 0.0, new_moving: float = 0.0, seed: int = 1) -> float:
    """Give the tolerance after some working days whose kinds' shares move from day to day, as logits."""
    rng = np.random.default_rng(seed)
    logits = np.log(np.append(np.full(KINDS, 0.95 / KINDS), 0.05)) + moving * rng.normal(size=(days, KINDS + 1))
    logits[:, -1] += new_moving * rng.normal(size=days)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = np.array([rng.multinomial(ROWS, shares[hour // HOURS]) for hour in range(days * HOURS)])
    splits = [
        Split(
            ratio=1.0, same=NO_LOSS, new=NO_LOSS, grown=Share(float(each[-1]), float(ROWS)), mixture=0.0,
            shares=tuple((each / ROWS).tolist()), costs=(),
        )
        for each in rows
    ]  # fmt: skip
    hours = np.arange(days * HOURS)
    return growth_tolerance(splits, hours % HOURS, hours // HOURS, CLASSES)


def test_three_days_that_are_alike_allow_little() -> None:
    """What the rows' own noise leaves uncertain about two differences between days does not open the tolerance."""
    found = [learned(3, seed=seed) for seed in range(10)]
    assert np.median(found) < 0.7 * MOST_GROWTH
    assert min(found) >= EPS_GRID[0]


def test_days_on_which_all_kinds_move_allow_more() -> None:
    """Three days are enough to see that nothing stands still here, for every kind tells it."""
    medians = [np.median([learned(3, moving=moving, seed=seed) for seed in range(20)]) for moving in (0.0, 0.2, 0.4)]
    assert medians[0] < 0.6 * medians[1]
    assert medians[1] > 3 * 0.2 * 0.05 * 0.95
    assert medians[2] == MOST_GROWTH


def test_new_kinds_that_move_alone_are_known_after_weeks() -> None:
    """Known kinds that stand still do not hide for long that new ones come and go."""
    assert all(learned(28, new_moving=0.5, seed=seed) == MOST_GROWTH for seed in range(5))


def test_less_than_two_days_allow_the_most() -> None:
    """One day shows no difference between days, and no window shows nothing."""
    assert learned(1) == MOST_GROWTH
    none = np.zeros(2, dtype=np.int64)
    assert growth_tolerance([None, None], none, np.arange(2), CLASSES) == MOST_GROWTH
