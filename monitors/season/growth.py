"""How far the share of new kinds of prompts may lie above what is usual: by how the shares of all kinds move. Pure.

A season of three days shows two differences between days, and a spread taken from two allows nearly anything. But each
known kind has a share of its own that moves from day to day, too. So the variance between days is moderated. That of
new kinds counts with the days seen, that which known kinds have in common with the number of kinds (Smyth, "Linear
models and empirical Bayes methods", Statistical Applications in Genetics and Molecular Biology 3, 2004). After some
weeks the new kinds' own decides.
"""

from collections.abc import Sequence

import numpy as np

from monitors.counts.sketch import Floats
from monitors.evidence.e_detector import EPS_GRID
from monitors.evidence.kind_costs import Split
from monitors.season.season import Ints, Windows, daily_variance
from monitors.season.tolerance import widened

MOST_GROWTH = 0.06
"""Largest tolerance of the share of new kinds: few days would allow any, and growth alone retrains nothing."""


def growth_tolerance(losses: Sequence[Split | None], slots: Ints, days: Ints, classes: tuple[int, ...]) -> float:
    """Choose the tolerance from accepted windows; the largest where fewer than two days are known."""
    kept = [at for at, loss in enumerate(losses) if loss is not None and loss.grown.rows > 0]
    known = [loss for loss in losses if loss is not None and loss.grown.rows > 0]
    seen_days = len(np.unique(days[kept]))
    if seen_days < 2:
        return MOST_GROWTH
    shares = np.array([loss.shares for loss in known])
    rows = np.array([loss.grown.rows for loss in known])
    usual = np.average(shares, axis=0, weights=rows)
    scale = np.maximum(usual * (1 - usual), 1e-9)
    windows = Windows(
        values=shares, weights=np.repeat(rows[:, None], len(usual), axis=1), noise=scale / rows[:, None],
        slots=slots[kept], days=days[kept],
    )  # fmt: skip
    variance = daily_variance(windows, classes, np.arange(len(usual)))
    moderated, freedom = _moderated(variance, scale**2, seen_days - 1)
    return float(np.clip(widened(moderated, freedom), EPS_GRID[0], MOST_GROWTH))


def _moderated(variance: Floats, scale: Floats, freedom: int) -> tuple[float, float]:
    """Give the variance between days of the last share, and its degrees of freedom.

    A share near 0 or 1 has less room to move: logits of shares are what moves alike, so a kind's variance counts
    relative to `scale`, (share * (1 - share))². Shares add up to one, so kinds tell as much as one less of them.
    """
    known = scale[:-1]
    alike = max(float(known.sum() ** 2 / (known**2).sum()) - 1, 0.0) if len(known) else 0.0
    common = float(variance[:-1].sum() / known.sum() * scale[-1]) if alike else 0.0
    return (freedom * float(variance[-1]) + alike * common) / (freedom + alike), freedom + alike
