"""Distances between two distributions that are given as counts."""

import numpy as np

from datasets_defs.core.errors import ContractError
from monitors.counts.buckets import HIGHEST, LOWEST
from monitors.counts.sketch import CategorySketch, Codes, Floats, NumericSketch, Sketch, decile_edges, middles


def kolmogorov_smirnov(a: NumericSketch, b: NumericSketch) -> float:
    """Give the largest difference of the two distribution functions at the buckets' edges, 0..1; NaN without numbers.

    At most the exact statistic, and below it by no more than their difference moves inside one bucket.
    """
    codes = _common(a, b)
    return (
        float(np.abs(a.share_at_most(codes) - b.share_at_most(codes)).max())
        if a.numbers and b.numbers
        else float("nan")
    )


def wasserstein(a: NumericSketch, b: NumericSketch) -> float:
    """Give the area between the two distribution functions of the finite numbers, in sd of the scale; NaN without any.

    The first Wasserstein distance in one dimension (Vallender 1974), with every number at the middle of its bucket.
    """
    a, b = _finite(a), _finite(b)
    if not a.numbers or not b.numbers:
        return float("nan")
    codes = _common(a, b)
    gaps = np.abs(a.share_at_most(codes) - b.share_at_most(codes))[:-1]
    return float(gaps @ np.diff(middles(codes)))


def jensen_shannon(a: Sketch, b: Sketch) -> float:
    """Give the Jensen-Shannon distance in natural units, 0..sqrt(ln 2): over levels, or the ten bins of `a`'s deciles.

    The root of the divergence of Lin, "Divergence measures based on the Shannon entropy", 1991. NaN without values.
    """
    p, q = _shares(a, b)
    middle = (p + q) / 2

    def divergence(x: Floats) -> float:
        some = x > 0
        return float(x[some] @ np.log(x[some] / middle[some]))

    return float(np.sqrt(max((divergence(p) + divergence(q)) / 2, 0.0))) if len(p) else float("nan")


def psi(a: Sketch, b: Sketch) -> float:
    """Give the population stability index: over levels, or over the ten bins of `a`'s deciles; NaN without values.

    Sum of (q - p) ln(q / p) (Siddiqi, "Credit Risk Scorecards", 2006), with half a row added to each bin so that an
    empty one stays finite.
    """
    p, q = _shares(a, b)
    if not len(p):
        return float("nan")
    p, q = ((x * n + 0.5) / (n + 0.5 * len(p)) for x, n in ((p, a.present), (q, b.present)))
    return float((q - p) @ np.log(q / p))


def l_infinity(a: Sketch, b: Sketch) -> float:
    """Give the largest difference of one level's shares, or of one of `a`'s decile bins, 0..1; NaN without values."""
    p, q = _shares(a, b)
    return float(np.abs(p - q).max()) if len(p) else float("nan")


def _shares(a: Sketch, b: Sketch) -> tuple[Floats, Floats]:
    """Give the shares of both over the same levels or bins; nothing if one of them has no values."""
    if not a.present or not b.present:
        return np.zeros(0), np.zeros(0)
    if isinstance(a, CategorySketch) and isinstance(b, CategorySketch):
        levels = sorted({*a.levels, *b.levels})
        return a.count_of(levels) / a.present, b.count_of(levels) / b.present
    if isinstance(a, NumericSketch) and isinstance(b, NumericSketch):
        _common(a, b)
        edges = decile_edges(a)
        p, q = (np.diff(sketch.share_at_most(edges), prepend=0.0, append=1.0) for sketch in (a, b))
        return p, q
    raise ContractError("numbers and texts cannot be compared: the column changed its type")


def _common(a: NumericSketch, b: NumericSketch) -> Codes:
    if a.scale != b.scale:
        raise ContractError(f"sketches on the scales {a.scale} and {b.scale} cannot be compared")
    return np.union1d(a.codes, b.codes)


def _finite(sketch: NumericSketch) -> NumericSketch:
    inner = slice(*np.searchsorted(sketch.codes, (LOWEST + 1, HIGHEST)))
    return NumericSketch(sketch.scale, sketch.codes[inner], sketch.counts[inner])
