"""Two models' losses on the same documents: the change, how sure it is, and how alike a user's are. Pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pair:
    """One document, scored by both."""

    champion_bits: float
    challenger_bits: float
    bytes: int
    cluster: str | None = None
    """Whose document it is (source, user); documents of one cluster are alike. None: one of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Standard deviations of a document's relative change, as shares of the champion's bits."""

    within: float
    """Of documents of one cluster around that cluster's own change."""
    between: float = 0.0
    """Of the clusters' own changes: what all documents of a user have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A relative change of bits per byte, challenger against champion: negative is better."""

    documents: int
    champion: float
    """Bits per byte."""
    challenger: float
    """Bits per byte."""
    change: float
    """Share of the champion's bits per byte."""
    low: float
    high: float
    clusters: int = 0
    spread: float = 0.0
    """The change's standard error times the root of `documents`: of one document, likeness within clusters counted."""
    within: float = 0.0
    between: float = 0.0
    """As of `Spread`."""


def compare(pairs: Sequence[Pair], confidence: float) -> Interval:
    """Give the change of bits per byte, paired by document, with one-sided bounds at `confidence`.

    The change is a ratio of totals, sum(challenger - champion) / sum(champion); its standard error is that of the
    linearised residuals (Cochran, "Sampling Techniques", 3rd ed. 1977, section 6.3), added up within clusters, which
    are the independent units (Miller, "Adding Error Bars to Evals", arXiv:2411.00640, section 2.2); see
    `change_and_error`. Degrees of freedom are one less than the clusters that would count as much if all were alike
    (Carter, Schnepel & Steigerwald, Review of Economics and Statistics 99, 2017). With clusters of one size both are
    the common formulas. With a single cluster nothing is known: the bounds are infinite.
    """
    old = np.array([pair.champion_bits for pair in pairs])
    new = np.array([pair.challenger_bits for pair in pairs])
    members = cluster_numbers([pair.cluster for pair in pairs])
    sums, sizes = totals_of(members, new - old), totals_of(members, old)
    changes, errors = change_and_error(sums[None, :], sizes)
    change, error = float(changes[0]), float(errors[0])
    half = math.inf
    if len(sizes) > 1:
        half = student_quantile(confidence, clusters_alike(sizes) - 1) * error
    spread = spread_of(new - old - change * old, old, members)
    size = fmean(pair.bytes for pair in pairs)
    return Interval(
        documents=len(pairs),
        champion=float(old.mean()) / size,
        challenger=float(new.mean()) / size,
        change=change,
        low=change - half,
        high=change + half,
        clusters=len(sizes),
        spread=error * math.sqrt(len(pairs)),
        within=spread.within,
        between=spread.between,
    )


def change_and_error(sums: Floats, sizes: Floats) -> tuple[Floats, Floats]:
    """Give relative changes and their standard errors, both of shape (worlds,).

    `sums`: challenger minus champion in bits, shape (worlds, clusters). `sizes`: the champion's bits, (clusters,).
    Each cluster's residual is divided by one minus its share of the bits, which is the jackknife (CR3 of MacKinnon,
    Nielsen & Webb, "Cluster-robust inference", Journal of Econometrics 232, 2023): a user who wrote half would hide
    half of their own residual. With one cluster the error is infinite.
    """
    total, clusters = sizes.sum(), len(sizes)
    changes = sums.sum(axis=1) / total
    if clusters < 2:
        return changes, np.full(len(sums), math.inf)
    without = (sums - changes[:, None] * sizes) / (1 - sizes / total)
    return changes, np.sqrt((clusters - 1) / clusters * (without**2).sum(axis=1)) / total


def spread_of(residuals: Floats, sizes: Floats, members: NDArray[Any]) -> Spread:
    """Split the residuals' variance into that between clusters and that within them.

    `residuals` and `sizes` in bits, `members` the number of each document's cluster, all of shape (documents,). By
    moments, as in one-way analysis of variance (Searle, Casella & McCulloch, "Variance Components", 1992, chapter 3):
    the squares of cluster sums expect between² * sum(cluster size²) + within² * sum(size²), those of documents
    (between² + within²) * sum(size²). Where every document is its own cluster all of it is `within`.
    """
    documents, squares = len(sizes), float((sizes**2).sum())
    if documents < 2 or not squares:
        return Spread(within=0.0)
    single = float((residuals**2).sum()) * documents / (documents - 1)
    sums, totals = np.bincount(members, weights=residuals), np.bincount(members, weights=sizes)
    clusters, more = len(sums), float((totals**2).sum()) - squares
    if clusters in (1, documents) or more <= 0:
        return Spread(within=math.sqrt(single / squares))
    grouped = float(((sums / (1 - totals / totals.sum())) ** 2).sum()) * (clusters - 1) / clusters
    between = max(0.0, (grouped - single) / more)
    return Spread(within=math.sqrt(max(0.0, single / squares - between)), between=math.sqrt(between))


def cluster_numbers(names: Sequence[str | None]) -> NDArray[Any]:
    """Number the clusters from 0, shape (documents,); a document without a name is a cluster of its own."""
    keys = [f"document {number}" if name is None else f"of {name}" for number, name in enumerate(names)]
    return np.unique(keys, return_inverse=True)[1]


def totals_of(members: NDArray[Any], weights: Floats) -> Floats:
    """Add up weights by cluster, shape (clusters,)."""
    return np.bincount(members, weights=weights).astype(np.float64)


def clusters_alike(sizes: Iterable[float]) -> float:
    """Give how many clusters of one size tell as much as clusters of these sizes: as many, if these are of one size."""
    weights = np.fromiter(sizes, dtype=float)
    return float(weights.sum() ** 2 / (weights**2).sum())


@lru_cache(maxsize=4096)
def student_quantile(confidence: float, freedom: float) -> float:
    """Give the quantile of Student's t distribution.

    Scipy is needed anyway by the packages around; its inverse is exact where series expansions are not.
    """
    from scipy.stats import t

    return float(t.ppf(confidence, freedom))
