"""What the past of accepted windows can tell: halves that replay each other, and the spread between windows. Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from monitors.counts.sketch import Floats

QUIET_M = 100.0
"""Evidence up to which a replay counts as quiet."""
LEAST_REPLAYED = 4
"""With fewer windows there is nothing to replay."""
HOUR_OF_DAY_DAYS = 7
"""Windows of each hour of the day that are needed to tell the hours apart."""
SPREADS = 4.0
"""Standard deviations between windows, of a share or of the loss, that are tolerated: what a year holds beside a
fortnight."""
NOISE_ERRORS = 3.0
"""Standard errors that the noise's variance is allowed, so that noise alone widens no tolerance."""
_T = TypeVar("_T")


def halves(windows: Sequence[_T]) -> list[tuple[Sequence[_T], Sequence[_T]]]:
    """Give a reference and what is replayed against it, twice; nothing where there are too few windows."""
    if len(windows) < LEAST_REPLAYED:
        return []
    early, late = windows[: len(windows) // 2], windows[len(windows) // 2 :]
    return [(early, late), (late, early)]


def covers_days(hours: Sequence[int]) -> bool:
    """Say whether windows of these hours of the day hold a week of each."""
    counts = Counter(hours)
    return len(counts) >= 24 and min(counts.values()) >= HOUR_OF_DAY_DAYS


def first(holds: NDArray[np.bool_]) -> int:
    """Give the position of the first that holds, of `(n,)`; n if none does."""
    return int(np.argmax(holds)) if holds.any() else len(holds)


def between(values: Floats, noise: Floats, known: NDArray[np.bool_], groups: NDArray[np.int64]) -> Floats:
    """Give the standard deviation of each figure, `(n,)`, about its groups' means and beyond the rows' noise.

    `values`, their `noise` as a variance, and whether they are `known` are windows x n; `groups` is one per window.
    """
    squares, free = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for group in np.unique(groups):
        of_group, there = values[groups == group], known[groups == group]
        count = there.sum(axis=0)
        mean = np.where(there, of_group, 0).sum(axis=0) / np.maximum(count, 1)
        squares += (np.where(there, of_group - mean, 0) ** 2).sum(axis=0)
        free += np.maximum(count - 1, 0)
    free = np.maximum(free, 1)
    usual = np.where(known, noise, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.asarray(np.sqrt(np.maximum(squares / free - (1 + NOISE_ERRORS * np.sqrt(2 / free)) * usual, 0.0)))
