"""Says how much worse than its reference a model surely is: a confidence sequence on a ratio of weighted means. Pure.

Made for bits per byte (x) weighted by bytes (w), of which more is worse. Any other figure serves if its reference is
above 0 and more of it is worse, such as 1 - accuracy with weights of 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, log, sqrt

import numpy as np

from monitors.counts.moments import Moments
from monitors.counts.sketch import Floats
from monitors.evidence.e_detector import BAD_RUN_LENGTH, LEAST_LOG10

WINDOWS = 72
"""Windows that are looked back upon."""
EFFECTS = (0.01, 0.03, 0.1, 0.3)
"""Excesses that are looked for, as shares of the reference."""
SURE = 2.58
"""Standard errors that the reference is given the benefit of: its upper 99.5 % bound stands for it."""
TOLERANCES = (0.02, 0.03, 0.05, 0.08, 0.12, 0.20)
"""Shares above what is usual that calibration chooses from."""
LEAST_ROWS = 50
"""Rows with a figure that a window needs to be counted."""
_EFFECTS = np.array(EFFECTS)[:, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """What the windows say about the model's loss."""

    ratio: float
    """The newest window's mean over the reference's."""
    at_least: float
    """The mean since some window is surely this many times the reference's: the limit at which `log10_m` would just
    reach the BAD run length. 0 if nothing can be said."""
    log10_m: float
    """Evidence that the mean exceeds the limit: log10 of windows in which chance would show as much once."""


def harm(
    reference: Moments, windows: Sequence[Moments], *, limit: float, rows_per_user: float = 1.0, icc: float = 0.0
) -> Harm | None:
    """Hold the windows, oldest first, against "the mean is at most `limit` times the reference's".

    Harmful when `log10_m` reaches log10 of `BAD_RUN_LENGTH`, which is when `at_least` reaches `limit`. None if the
    newest window or the reference has no mean to compare.

    The e-detector of `e_detector` is restarted at each of the last 72 windows, on normal likelihood ratios of a few
    effects. It tests for a rise of risk over a tolerated one (Podkopaev and Ramdas, arXiv:2110.06177). With estimated
    variances it is asymptotically valid (Waudby-Smith et al., arXiv:2103.06476). All windows share the reference's
    error, so the reference counts with its upper bound. Windows of fewer than `LEAST_ROWS` rows are passed over: their
    variance is not known. Rows of one user count by their design effect, as in `e_detector.Detector.advance`.
    """
    there, newest = reference.mean, windows[-1].mean if windows else None
    if there is None or newest is None or there <= 0 or not isfinite(reference.relative_error):
        return None
    ratios = _Ratios.of(reference, windows[-WINDOWS:], sqrt(1 + max(rows_per_user - 1, 0) * icc))
    return Harm(
        ratio=newest / there,
        at_least=_highest(lambda at: ratios.log_m(at)[-1], log(BAD_RUN_LENGTH), below=ratios.largest),
        log10_m=max(float(ratios.log_m(np.array([limit]))[-1, 0]) / log(10), LEAST_LOG10),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Ratios:
    """Windows' means and their precisions, in units of the reference's mean."""

    means: Floats
    precisions: Floats
    slack: float
    """What the reference's mean is multiplied by for its own error."""

    @classmethod
    def of(cls, reference: Moments, windows: Sequence[Moments], effect: float) -> "_Ratios":
        there = reference.mean or 1.0
        some = [window for window in windows if window.rows >= LEAST_ROWS]
        errors = np.array([window.error for window in some]) * effect / there
        return cls(
            np.array([(window.mean or 0.0) / there for window in some]),
            1 / errors**2,
            1 + SURE * effect * reference.relative_error,
        )

    @property
    def largest(self) -> float:
        return float(self.means.max(initial=0.0))

    def newest(self, limits: Floats) -> Floats:
        """Give log M after the last window against each limit."""
        steps = (_EFFECTS * (self.means - _EFFECTS / 2) * self.precisions).T[:, :, None]
        steps = steps - (_EFFECTS * self.precisions).T[:, :, None] * (limits * self.slack)
        sums = np.concatenate([np.zeros((1, *steps.shape[1:])), np.cumsum(steps, axis=0)])
        rise = (sums - np.minimum.accumulate(sums, axis=0)).max()
        if rise + log(len(steps)) >= log(2 * BAD_RUN_LENGTH * len(EFFECTS)):
            return np.asarray(self.log_m(limits)[-1])
        since = sums[-1] - sums[:-1]
        top = since.max(axis=(0, 1))
        with np.errstate(divide="ignore"):
            return np.asarray(top + np.log(np.exp(since - top).sum(axis=0).mean(axis=0)))

    def log_m(self, limits: Floats) -> Floats:
        """Give log M after each window (rows, beginning with none) against each limit (columns).

        An effect's M is held where it alone makes the whole twice `BAD_RUN_LENGTH`.
        """
        gains = (_EFFECTS * (self.means - _EFFECTS / 2) * self.precisions).T[:, :, None]
        costs = (_EFFECTS * self.precisions).T[:, :, None]
        ceiling = 2 * BAD_RUN_LENGTH * len(EFFECTS)
        states = np.zeros((len(self.means) + 1, len(EFFECTS), len(limits)))
        with np.errstate(over="ignore", under="ignore", divide="ignore"):
            for at, e in enumerate(np.exp(gains - costs * (limits * self.slack))):
                np.minimum((1 + states[at]) * e, ceiling, out=states[at + 1])
            return np.asarray(np.log(states.mean(axis=1)))


@dataclass(frozen=True, slots=True)
class Point:
    """What a window showed of a figure that is 1 as long as nothing has changed."""

    value: float
    error: float
    """Its standard error; infinite where nothing was seen."""


def log_m(points: Sequence[Point], limits: Floats) -> Floats:
    """Give the natural log of the evidence that the figure, oldest first, lies above each of some limits.

    The e-detector of `harm`. Where no effect's M ever comes near the ceiling, as nearly always, it is found in one go:
    M is the sum over all beginnings of the product of the e-values since.
    """
    some = [point for point in points[-WINDOWS:] if isfinite(point.error) and point.error > 0]
    if not some:
        return np.full(len(limits), -np.inf)
    ratios = _Ratios(np.array([point.value for point in some]), np.array([point.error**-2 for point in some]), 1.0)
    return ratios.newest(limits)


def log_m_of(log_e: Floats) -> float:
    """Give the natural log of the evidence of windows, oldest first, by their log e-values (windows x effects).

    The same e-detector: the mean over effects of M <- (1 + M) e, each held at the ceiling.
    """
    ceiling = log(2 * BAD_RUN_LENGTH * log_e.shape[1]) if log_e.size else 0.0
    state = np.full(log_e.shape[1], -np.inf)
    for step in log_e[-WINDOWS:]:
        state = np.minimum(np.logaddexp(0, state) + step, ceiling)
    return float(np.logaddexp.reduce(state) - log(len(state))) if len(log_e) else -np.inf


def surely(points: Sequence[Point]) -> float:
    """Give the limit that the figure is surely above: where `log_m` would just reach the BAD run length; 0 if none."""
    most = max((point.value for point in points[-WINDOWS:]), default=0.0)
    return _highest(lambda limits: log_m(points, limits), log(BAD_RUN_LENGTH), below=most)


def highest(points: Sequence[Point], limits: Sequence[float]) -> Floats:
    """Give the highest log M that the points, looked at one after another, would ever have shown for each limit."""
    some = [point for point in points if isfinite(point.error) and point.error > 0]
    if not some:
        return np.full(len(limits), -np.inf)
    ratios = _Ratios(np.array([point.value for point in some]), np.array([point.error**-2 for point in some]), 1.0)
    return np.asarray(ratios.log_m(np.array(limits)).max(axis=0))


def highest_log_m(
    reference: Moments, windows: Sequence[Moments], limits: Sequence[float], *, rows_per_user: float, icc: float
) -> Floats:
    """Give the highest log M that the windows, looked at one after another, would ever have shown for each limit."""
    ratios = _Ratios.of(reference, windows, sqrt(1 + max(rows_per_user - 1, 0) * icc))
    return np.asarray(ratios.log_m(np.array(limits)).max(axis=0))


def _highest(falling: Callable[[Floats], Floats], least: float, *, below: float) -> float:
    """Give the highest argument in 0..`below` at which a falling function is at least `least`; 0 if there is none."""
    low, high = 0.0, below
    for _ in range(3):
        grid = np.linspace(low, high, 33)
        at = int((falling(grid) >= least).sum())
        if at in (0, len(grid)):
            return low if at == 0 else high
        low, high = float(grid[at - 1]), float(grid[at])
    return low
