"""Do two sets of vectors come from one distribution? Maximum mean discrepancy with random Fourier features. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]

FREQUENCIES = 128
PERMUTATIONS = 200
MAX_ROWS = 1_000
"""Of each side; more are thinned."""
_PAIRS = 1_000


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """How far two sets are apart."""

    statistic: float
    """Squared distance of their mean features; near 0 for sets of one kind."""
    p_value: float
    """Share of random splits of all rows that are as far apart: at least 1 / 201."""


def discrepancy(reference: Vectors, current: Vectors, *, seed: int = 0) -> Discrepancy:
    """Compare two sets of vectors by a Gaussian kernel as wide as the median distance of rows.

    The kernel's mean embeddings are taken over 256 random Fourier features (Rahimi and Recht, "Random Features for
    Large-Scale Kernel Machines", NIPS 2007). Their squared distance is the statistic (Gretton et al., "A Kernel
    Two-Sample Test", JMLR 13, 2012). Its p-value comes from permuting the rows, so it is exact for any sample size when
    rows are exchangeable. Rows of one user or document are not: give one row of each.

    Raises:
        ValueError: a side has fewer than two rows, or they differ in length.
    """
    if min(len(reference), len(current)) < 2 or reference.shape[1:] != current.shape[1:]:
        raise ValueError(f"two sides of two rows or more are needed, not {reference.shape} and {current.shape}")
    rng = np.random.default_rng(seed)
    sides = [_thinned(np.asarray(side, dtype=np.float64), rng) for side in (reference, current)]
    features, first = _features(np.concatenate(sides), rng), len(sides[0])
    rows = len(features)
    weights = np.where(np.arange(rows) < first, 1 / first, -1 / (rows - first))
    splits = np.stack([weights, *(rng.permutation(weights) for _ in range(PERMUTATIONS))])
    distances = np.square(splits @ features).sum(axis=1)
    as_far = int((distances[1:] >= distances[0] * (1 - 1e-9) - 1e-15).sum())  # equal but for rounding is as far
    return Discrepancy(statistic=float(distances[0]), p_value=(1 + as_far) / (1 + PERMUTATIONS))


def _thinned(rows: Vectors, rng: np.random.Generator) -> Vectors:
    return rows if len(rows) <= MAX_ROWS else rows[np.sort(rng.choice(len(rows), MAX_ROWS, replace=False))]


def _features(rows: Vectors, rng: np.random.Generator) -> Vectors:
    pairs = rng.choice(len(rows), size=(2, _PAIRS))
    apart = np.linalg.norm(rows[pairs[0]] - rows[pairs[1]], axis=1)
    apart = apart[apart > 0]
    width = float(np.median(apart)) if apart.size else 1.0
    angles = rows @ (rng.standard_normal((rows.shape[1], FREQUENCIES)) / width)
    features: Vectors = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / np.sqrt(FREQUENCIES)
    return features
