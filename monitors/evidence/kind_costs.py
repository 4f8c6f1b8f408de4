"""Splits a rise of the loss by kinds of prompts: the same ones cost more, harder ones are asked more, new ones. Pure.

A frozen model's loss on a text never changes, so a window's mean moves with what is asked. The decomposition is that of
Kitagawa, "Components of a difference between two rates", JASA 50, 1955, with a third part for what the reference lacks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log, sqrt

import numpy as np

from monitors.counts.moments import Moments
from monitors.counts.sketch import Floats
from monitors.evidence.harm import Point

PRIOR_ROWS = 20.0
"""Rows at the mean of all that a kind's own cost is taken with: a kind seen five times is not known to be cheap."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KindCosts:
    """What each kind of prompts costs a version, by its reference; the new ones are last."""

    costs: Floats
    """Bits per byte."""
    spreads: Floats
    """Mean, over a kind's rows, of the squared weight times distance from the cost."""
    mean: float
    """Of all prompts of the reference."""
    shares: Floats
    """Share of the rows."""
    error: float
    """Relative standard error of the reference's mean, which all windows share."""

    @classmethod
    def of(cls, kinds: Sequence[Moments], rows: Sequence[int]) -> "KindCosts | None":
        """Take them from reference rows; None where none has a loss."""
        return cls.of_sums(sums_of(kinds), np.array(rows, dtype=np.float64)) if kinds else None

    @classmethod
    def of_sums(cls, sums: Floats, rows: Floats) -> "KindCosts | None":
        """Take them from the sums of `sums_of`, and the rows of each kind."""
        total = sums.sum(axis=1)
        whole = Moments(int(total[0]), *total[1:].tolist())
        if whole.mean is None or whole.mean <= 0 or whole.rows < 2:
            return None
        weight = whole.w / whole.rows
        costs = (sums[2] + PRIOR_ROWS * weight * whole.mean) / (sums[1] + PRIOR_ROWS * weight)
        usual = (whole.w2x2 - 2 * whole.mean * whole.w2x + whole.mean**2 * whole.w2) / whole.rows
        squares = sums[5] - 2 * costs * sums[4] + costs**2 * sums[3]
        spreads = (squares + PRIOR_ROWS * usual) / (sums[0] + PRIOR_ROWS)
        shares = rows / max(float(rows.sum()), 1.0)
        return cls(costs=costs, spreads=spreads, mean=whole.mean, shares=shares, error=whole.relative_error)


GROWTHS = (0.03, 0.06, 0.12, 0.25)
"""Sizes of growth of new kinds that are looked for, as differences of shares."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many of a window's rows are new, clusters discounted."""

    hits: float
    rows: float

    @property
    def value(self) -> float:
        """The share; 0 without rows."""
        return self.hits / self.rows if self.rows else 0.0

    def log_e(self, usual: float) -> list[float]:
        """Give the log e-values of a growth beyond a usual share: Bernoulli likelihood ratios of `GROWTHS`.

        Each has a mean of at most 1 for every share up to the usual one.
        """
        null = min(max(usual, 1e-3), 0.7)
        return [
            self.hits * log((null + growth) / null) + (self.rows - self.hits) * log((1 - null - growth) / (1 - null))
            for growth in GROWTHS
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A window's loss against the reference, as shares of the reference's mean."""

    ratio: float
    """The window's mean over the reference's."""
    same: Point
    """What known kinds cost over what they cost in the reference: 1 while nothing has happened to the model."""
    new: Point
    """What new kinds add to the mean, on top of 1."""
    grown: Share
    """Of the rows, the new kinds."""
    mixture: float
    """What is added by known kinds being asked more or less."""
    shares: tuple[float, ...]
    """Of the rows, by kind."""
    costs: tuple[float | None, ...]
    """Bits per byte, by kind; None where none was asked."""


def split(kinds: Sequence[Moments], rows: Sequence[int], reference: KindCosts, *, effect: float = 1.0) -> Split | None:
    """Split a window's loss; `effect` is the design effect of rows that come from the same users.

    None where no row of the window has a loss. Errors are those of the window's rows: the squared distances from what
    is expected, or what the reference has of those where the window's few rows show less.
    """
    return split_sums(sums_of(kinds), np.array(rows, dtype=np.float64), reference, effect=effect)


def split_sums(sums: Floats, rows: Floats, reference: KindCosts, *, effect: float = 1.0) -> Split | None:
    """Split a window's loss as `split` does; `sums` are those of `sums_of`, and `rows` those of each kind."""
    count, w, wx, w2, w2x, w2x2 = sums
    if w.sum() <= 0 or len(count) != len(reference.costs):
        return None
    known = slice(0, len(count) - 1)
    squares = np.maximum(w2x2 - 2 * reference.costs * w2x + reference.costs**2 * w2, count * reference.spreads)
    expected = float(w[known] @ reference.costs[known])
    same = Point(1.0, inf)
    if expected > 0:
        same = Point(float(wx[known].sum()) / expected, sqrt(effect * float(squares[known].sum())) / expected)
    total, mean = float(w.sum()), reference.mean
    shares = w / total
    mixture = float(shares[known] @ reference.costs[known]) / mean - float(shares[known].sum())
    return Split(
        ratio=float(wx.sum()) / total / mean,
        same=same,
        new=_new(sums[:, -1], total, reference, effect),
        grown=Share(float(rows[-1]) / effect, float(rows.sum()) / effect),
        mixture=mixture,
        shares=tuple((rows / max(float(rows.sum()), 1)).tolist()),
        costs=tuple(float(a / b) if b > 0 else None for a, b in zip(wx, w, strict=True)),
    )


def _new(sums: Floats, total: float, reference: KindCosts, effect: float) -> Point:
    """Give 1 plus what new kinds add: their bytes' share times how much more they cost than the mean."""
    count, w, wx, w2, w2x, w2x2 = sums.tolist()
    mean = reference.mean
    squares = max(w2x2 - 2 * mean * w2x + mean**2 * w2, (count + 1) * float(reference.spreads[-1]))
    return Point(1 + (wx - mean * w) / total / mean, sqrt(effect * squares) / total / mean)


def sums_of(kinds: Sequence[Moments]) -> Floats:
    """Give the six sums of `Moments` (rows) of each kind."""
    return np.array([(kind.rows, kind.w, kind.wx, kind.w2, kind.w2x, kind.w2x2) for kind in kinds], dtype=np.float64).T
