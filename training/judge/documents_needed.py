"""How many documents see a difference, by the formula of the paired t-test; for what simulation is too slow. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from datasets_defs.spec.gate import GateSpec
from training.judge.paired import Spread, clusters_alike, student_quantile

SURELY = 0.99
"""Chance with which old documents are to show that nothing is forgotten: they are plentiful, and shall not decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What one condition can tell, by a formula: to find numbers of documents, which simulation would be slow for."""

    documents: int
    clusters: float
    """Of one size, as `clusters_alike` gives them."""
    spread: float
    """Of one document, likeness within clusters counted, as `spread` of an `Interval`."""
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


@lru_cache(maxsize=4096)
def documents_needed(
    difference: float, *, spread: float, confidence: float, power: float, per_cluster: float = 1
) -> int:
    """Give how many documents see a difference to a limit with this chance; each `per_cluster` of them are a cluster.

    Raises:
        ValueError: the difference is not positive: no number of documents shows what is not there.
    """
    if difference <= 0:
        raise ValueError(f"a difference of {difference} cannot be seen, however many documents there are")

    def sees(count: int) -> bool:
        clusters = count / per_cluster
        return (
            Power(documents=count, clusters=clusters, spread=spread, confidence=confidence).chance(difference) >= power
        )

    low, high = 1, 2
    while not sees(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if sees(middle) else (middle, high)
    return high


def recent_needed(spec: GateSpec, known: Spread | None = None) -> int:
    """Give how many recent documents, each of another user, see what is worth seeing: before any of them is known."""
    spread = spec.expected_spread if known is None else math.hypot(known.within, known.between)
    enough = documents_needed(
        spec.worth_seeing - spec.min_gain_share,
        spread=spread,
        confidence=spec.confidence,
        power=spec.power,
    )
    return max(spec.min_documents, enough)


def old_wanted(sizes: Sequence[int], spec: GateSpec, known: Spread | None = None) -> int:
    """Give how many old documents show that nothing is forgotten, bounded by what scoring them may cost.

    `sizes`: bytes of those that there are. Documents of uneven size tell as much as fewer of one size, see
    `clusters_alike`.
    """
    most = max(spec.min_documents, spec.max_old_documents)
    if spec.max_loss_share <= 0 or not sizes:
        return most
    spread = spec.expected_spread if known is None else math.hypot(known.within, known.between)
    uneven = math.sqrt(len(sizes) / clusters_alike(sizes))
    enough = documents_needed(spec.max_loss_share, spread=spread * uneven, confidence=spec.confidence, power=SURELY)
    return min(max(spec.min_documents, enough), most)
