"""Whether a challenger may replace the champion. Pure."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any, Literal

from datasets_defs.models import GateSpec


@dataclass(frozen=True, slots=True)
class Pair:
    """One document, scored by both."""

    champion_bits: float
    challenger_bits: float
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GateEvidence:
    """Both models' losses on the same frozen documents; `champion_version` None: there is no champion yet."""

    recent: Sequence[Pair]
    old: Sequence[Pair]
    champion_version: int | None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision:
    """Accepts, rejects or cannot tell, with the reason."""

    decision: Literal["accept", "reject", "inconclusive"]
    reason: str
    recent: Interval | None = None
    old: Interval | None = None

    @property
    def scores(self) -> dict[str, Any]:
        """The intervals as plain values, by slice."""
        found = {"recent": self.recent, "old": self.old}
        return {name: asdict(interval) for name, interval in found.items() if interval is not None}


def decide(evidence: GateEvidence, spec: GateSpec) -> GateDecision:
    """Accept a challenger that is surely better on recent documents and surely not much worse on old ones.

    Superiority and non-inferiority each hold at the one-sided `confidence`, and both must hold, so the chance of
    accepting a challenger that fails one of them is at most 1 - confidence (intersection-union test: Berger, "Multi-
    parameter hypothesis testing and acceptance sampling", Technometrics 1982). A look at too few documents, at
    identical losses, or with bounds on both sides of a limit is inconclusive: neither a yes nor a no.
    """
    if evidence.champion_version is None:
        return GateDecision(decision="accept", reason="there is no champion to be better than")
    for name, pairs in (("recent", evidence.recent), ("old", evidence.old)):
        if len(pairs) < spec.min_documents:
            reason = f"{len(pairs)} {name} documents; {spec.min_documents} are needed to judge"
            return GateDecision(decision="inconclusive", reason=reason)
    recent, old = compare(evidence.recent, spec.confidence), compare(evidence.old, spec.confidence)
    decision, reason = _decided(recent, old, spec)
    return GateDecision(decision=decision, reason=reason, recent=recent, old=old)


def compare(pairs: Sequence[Pair], confidence: float) -> Interval:
    """Give the change of bits per byte, paired by document, with one-sided bounds at `confidence`.

    The change is a ratio of totals, sum(challenger - champion) / sum(champion); its standard error is that of the
    linearised residuals (Cochran, "Sampling Techniques", 3rd ed. 1977, section 6.3) over documents as independent
    units (Miller, "Adding Error Bars to Evals", arXiv:2411.00640, section 2), with Student's quantile.
    """
    count = len(pairs)
    champion = fmean(pair.champion_bits for pair in pairs)
    change = fmean(pair.challenger_bits - pair.champion_bits for pair in pairs) / champion
    residuals = [pair.challenger_bits - pair.champion_bits - change * pair.champion_bits for pair in pairs]
    half = student_quantile(confidence, count - 1) * stdev(residuals) / math.sqrt(count) / champion
    size = fmean(pair.bytes for pair in pairs)
    return Interval(
        documents=count,
        champion=champion / size,
        challenger=fmean(pair.challenger_bits for pair in pairs) / size,
        change=change,
        low=change - half,
        high=change + half,
    )


def _decided(
    recent: Interval, old: Interval, spec: GateSpec
) -> tuple[Literal["accept", "reject", "inconclusive"], str]:
    gain = f"recent {recent.champion:.3f} → {recent.challenger:.3f} bits/byte ({_span(recent)})"
    loss = f"old {old.champion:.3f} → {old.challenger:.3f} ({_span(old)})"
    needs = f"needed: recent at least {spec.min_gain_share:.1%} down, old at most {spec.max_loss_share:.1%} up"
    if recent.change == recent.low == recent.high == 0:
        return "inconclusive", f"champion and challenger cost the same on every recent document; {needs}"
    if -recent.low < spec.min_gain_share:
        return "reject", f"{gain}: surely not better enough; {needs}"
    if old.low > spec.max_loss_share:
        return "reject", f"{loss}: surely forgets too much; {needs}"
    if -recent.high >= spec.min_gain_share and old.high <= spec.max_loss_share:
        return "accept", f"{gain}; {loss}; {needs}"
    return "inconclusive", f"{gain}; {loss}: the bounds lie on both sides of a limit; {needs}"


def _span(interval: Interval) -> str:
    return f"{interval.low:+.1%} to {interval.high:+.1%}, {interval.documents} documents"


def student_quantile(confidence: float, freedom: int) -> float:
    """Give the quantile of Student's t distribution.

    Scipy is needed anyway by the packages around; its inverse is exact where series expansions are not.
    """
    from scipy.stats import t

    return float(t.ppf(confidence, freedom))
