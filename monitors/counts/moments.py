"""Sums that a mean and its spread are found from, and that add up."""

from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from numpy.typing import ArrayLike

_LEAST_SPREAD = 1e-3
"""Rows that all cost the same are taken to spread by this share of it."""


_LARGEST = 1e60


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over rows from which a weighted mean and its error follow; they add up over any split of the rows."""

    rows: int = 0
    w: float = 0.0
    wx: float = 0.0
    w2: float = 0.0
    w2x: float = 0.0
    w2x2: float = 0.0

    @classmethod
    def of(cls, values: ArrayLike, weights: ArrayLike = 1.0) -> "Moments":
        """Sum over the rows with a finite value below 1e60 and a finite weight above 0; the others are left out."""
        x, w = np.broadcast_arrays(np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64))
        known = (np.abs(x) < _LARGEST) & (w > 0) & (w < _LARGEST)
        x, w = x[known], w[known]
        wx = w * x
        return cls(len(x), float(w.sum()), float(wx.sum()), float(w @ w), float(w @ wx), float(wx @ wx))

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.rows + other.rows,
            self.w + other.w,
            self.wx + other.wx,
            self.w2 + other.w2,
            self.w2x + other.w2x,
            self.w2x2 + other.w2x2,
        )

    @property
    def mean(self) -> float | None:
        """Weighted mean; None without rows."""
        return self.wx / self.w if self.w > 0 else None

    @property
    def error(self) -> float:
        """Standard error of the mean over independent rows; infinite for fewer than two.

        A ratio of totals: linearised residuals w (x - mean) (Cochran, "Sampling Techniques", 3rd ed. 1977, section
        6.3). Rows that are all alike are taken to spread a little, since no figure is that sure.
        """
        mean = self.mean
        if mean is None or self.rows < 2:
            return inf
        squares = self.w2x2 - 2 * mean * self.w2x + mean * mean * self.w2
        least = (_LEAST_SPREAD * mean) ** 2 * self.w2
        return sqrt(max(squares, least) * self.rows / (self.rows - 1)) / self.w

    @property
    def relative_error(self) -> float:
        """`error` as a share of the mean; infinite where the mean is not above 0."""
        mean = self.mean
        return self.error / mean if mean is not None and mean > 0 else inf
