"""How much a figure may leave its season without being called changed: by leaving out whole days, one by one. Pure.

Windows of one day resemble each other, so a replay that learns from a day's other hours would think itself too sure.
Each day is judged by a season that was learned without it, and the smallest tolerance is taken under which no evidence
worth speaking of gathers. Few days say little of what days can be like: the spread between them, which is tolerated
too, is widened by Student's quantile for so many days.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitors.counts.sketch import Floats
from monitors.evidence.e_detector import Detector, Tally
from monitors.season.season import Ints, Season, Sums, Windows, daily_variance

SPREADS = 3.0
"""Standard deviations between days that are tolerated: what a year holds beside a few weeks."""
SURE = 2.0
"""Standard errors that what is expected of an hour is given the benefit of."""
_QUANTILE = 0.995
QUIET_LOG = float(np.log(100.0))
"""Log of the evidence up to which a replay counts as quiet."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learned:
    """A season, and the days that it was learned from."""

    windows: Windows
    sums: Sums
    classes: tuple[int, ...]
    daily: Floats
    """Variance between days, per figure."""
    columns: Ints
    season: Season

    @classmethod
    def of(cls, windows: Windows, classes: tuple[int, ...], columns: Ints) -> "Learned":
        """Learn from windows in the order of time."""
        sums, daily = Sums.of(windows), daily_variance(windows, classes, columns)
        season = sums.season(classes, daily, columns)
        return cls(windows=windows, sums=sums, classes=classes, daily=daily, columns=columns, season=season)

    def days(self) -> Iterator[tuple[NDArray[np.bool_], Floats, Floats]]:
        """Give, day by day, which windows are of it, and between what the season of all other days has them.

        A window whose hour no other day has is left out.
        """
        for day in np.unique(self.windows.days):
            of_day = self.windows.days == day
            others = (self.sums - Sums.of(self.windows.only(of_day))).season(self.classes, self.daily, self.columns)
            of_day &= others.seen[self.windows.slots] > 0
            if of_day.any():
                yield of_day, *bounds(others, self.windows.slots[of_day])

    @property
    def spread(self) -> Floats:
        """Give, per figure, how far days lie apart at most, as far as so many days tell."""
        free = max(len(np.unique(self.windows.days)) - 1, 1)
        return np.asarray(widened(self.daily, free))


def widened(variance: Floats | float, freedom: float) -> Floats | float:
    """Give how far days lie apart at most, by a variance between them that has so many degrees of freedom."""
    from scipy.stats import norm, t  # a second of import, for a new profile alone

    return SPREADS * np.sqrt(variance) * float(t.ppf(_QUANTILE, freedom) / norm.ppf(_QUANTILE))


def bounds(season: Season, slots: Ints) -> tuple[Floats, Floats]:
    """Give between what a season has the figures of some slots, its own error included."""
    low, high = season.between(slots)
    error = SURE * season.error[slots]
    return low - error, high + error


def figures_of(detector: Detector, tallies: Sequence[Tally], rows_per_user: Sequence[float]) -> tuple[Floats, ...]:
    """Give windows' shares of each indicator, the rows behind them, and the variance that rows alone give."""
    effects = np.array([detector.effects(per_user) for per_user in rows_per_user])
    hits = np.array([tally.hits for tally in tallies])
    rows = np.array([tally.rows for tally in tallies])
    weights = rows / effects
    noise = detector.share * (1 - detector.share) / np.maximum(weights, 1e-9)
    return hits / np.maximum(rows, 1), weights, noise


def replayed(detector: Detector, learned: Learned) -> Floats:
    """Give the highest log M of each column, each day judged by the season of the others."""
    width = int(detector.widths.sum())
    rows = learned.windows.weights[:, :width]
    hits = rows * learned.windows.values[:, :width]
    state, highest = detector.start(), np.full(len(detector.columns), -np.inf)
    for of_day, low, high in learned.days():
        own = hits[of_day]
        shares = clipped(low[:, :width]), clipped(high[:, :width])
        for log_e in detector.log_e_of(own, rows[of_day] - own, *shares):
            state = np.logaddexp(0, state) + log_e
            highest = np.maximum(highest, detector.log_m_of_columns(state))
    return highest


def clipped(shares: Floats) -> Floats:
    """Keep shares inside 0..1, where a likelihood ratio has its meaning."""
    return np.clip(shares, 1e-4, 1 - 1e-4)
