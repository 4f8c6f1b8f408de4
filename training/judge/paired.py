"""Two models' losses on the same documents: the change, how sure it is, and what so many documents could show. Pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

import numpy as np


@dataclass(frozen=True, slots=True)
class Pair:
    """One document, scored by both."""

    champion_bits: float
    challenger_bits: float
    bytes: int
    cluster: str | None = None
    """Whose document it is (source, user); documents of one cluster are alike. None: one of its own."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What a look at so many documents can tell, known before it is taken."""

    documents: int
    clusters: float
    """Of one size, as `clusters_alike` gives them."""
    spread: float
    """As of `Interval`: an assumption here, from an earlier evaluation or the spec."""
    confidence: float
    """One-sided."""

    def visible(self, power: float) -> float:
        """Give the least difference to a limit that is seen with this chance; infinite for less than two clusters."""
        if self.clusters < 2:
            return math.inf
        freedom = self.clusters - 1
        factor = student_quantile(self.confidence, freedom) + student_quantile(power, freedom)
        return factor * self.spread / math.sqrt(self.documents)

    def chance(self, difference: float) -> float:
        """Give the chance that a true difference to a limit is seen: Student's t, not central.

        Owen, "The power of Student's t-test", Journal of the American Statistical Association 60 (1965).
        """
        from scipy.stats import nct

        if self.clusters < 2:
            return 0.0
        if self.spread == 0:
            return float(difference > 0)
        freedom = self.clusters - 1
        shift = difference * math.sqrt(self.documents) / self.spread
        seen = float(nct.sf(student_quantile(self.confidence, freedom), freedom, shift))
        return seen if math.isfinite(seen) else float(difference > 0)  # scipy overflows far out in the tail


def documents_needed(difference: float, *, spread: float, confidence: float, power: float) -> int:
    """Give how many documents, each a cluster of its own, see a difference to a limit with this chance.

    Raises:
        ValueError: the difference is not positive: no number of documents shows what is not there.
    """
    if difference <= 0:
        raise ValueError(f"a difference of {difference} cannot be seen, however many documents there are")

    def sees(count: int) -> bool:
        return Power(documents=count, clusters=count, spread=spread, confidence=confidence).chance(difference) >= power

    low, high = 1, 2
    while not sees(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if sees(middle) else (middle, high)
    return high


def compare(pairs: Sequence[Pair], confidence: float) -> Interval:
    """Give the change of bits per byte, paired by document, with one-sided bounds at `confidence`.

    The change is a ratio of totals, sum(challenger - champion) / sum(champion); its standard error is that of the
    linearised residuals (Cochran, "Sampling Techniques", 3rd ed. 1977, section 6.3), added up within clusters, which
    are the independent units (Miller, "Adding Error Bars to Evals", arXiv:2411.00640, section 2.2). Each cluster's sum
    is divided by one minus its share of the bits, which is the jackknife (CR3 of MacKinnon, Nielsen & Webb, "Cluster-
    robust inference", Journal of Econometrics 232, 2023): a user who wrote half would hide half of their own residual.
    Degrees of freedom are one less than the clusters that would count as much if all were alike (Carter, Schnepel &
    Steigerwald, Review of Economics and Statistics 99, 2017). With clusters of one size both are the common formulas.
    With a single cluster nothing is known: the bounds are infinite.
    """
    old = np.array([pair.champion_bits for pair in pairs])
    new = np.array([pair.challenger_bits for pair in pairs])
    change = float((new - old).sum() / old.sum())
    residuals = new - old - change * old
    names = [
        f"document {number}" if pair.cluster is None else f"of {pair.cluster}" for number, pair in enumerate(pairs)
    ]
    _, members = np.unique(names, return_inverse=True)
    sums, sizes = np.bincount(members, weights=residuals), np.bincount(members, weights=old)
    clusters = len(sums)
    error = half = math.inf
    if clusters > 1:
        without = sums / (1 - sizes / old.sum())
        error = float(np.sqrt((clusters - 1) / clusters * (without**2).sum()) / old.sum())
        half = student_quantile(confidence, clusters_alike(sizes) - 1) * error
    size = fmean(pair.bytes for pair in pairs)
    return Interval(
        documents=len(pairs),
        champion=float(old.mean()) / size,
        challenger=float(new.mean()) / size,
        change=change,
        low=change - half,
        high=change + half,
        clusters=clusters,
        spread=error * math.sqrt(len(pairs)),
    )


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
