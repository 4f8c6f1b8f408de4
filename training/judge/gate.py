"""Whether a challenger may replace the champion. Pure: evidence in, a decision with its reason out."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from datasets_defs.spec.gate import GateSpec
from training.judge.paired import Interval, Pair, compare
from training.judge.power import PowerPlan
from training.judge.self_tests import SelfTests, failures

Verdict = Literal["accept", "reject", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Protected:
    """Documents of a slice on which the challenger must not be much worse."""

    name: str
    pairs: Sequence[Pair]
    max_loss_share: float
    min_documents: int
    required: bool = True
    """Too few documents are inconclusive; otherwise they are told of, and not judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """A former champion on the recent documents: `champion_bits` are the challenger's, `challenger_bits` its own."""

    version: int
    pairs: Sequence[Pair]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateEvidence:
    """Both models' losses on the same frozen documents; `champion_version` None: there is no champion yet."""

    recent: Sequence[Pair]
    old: Sequence[Pair]
    champion_version: int | None
    protected: Sequence[Protected] = ()
    """Golden set and slices."""
    archived: Archived | None = None
    self_tests: SelfTests | None = None
    """None: nobody asks, as for a comparison by hand of two versions that no snapshot belongs to."""
    broken_rules: Sequence[str] = ()
    """The spec's rules that the challenger breaks, in words."""
    plan: PowerPlan | None = None
    """What was announced of the look; None: nobody planned one, and the documents that there are decide."""
    problem: str | None = None
    """Why it could not be measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision:
    """Accepts, rejects or cannot tell, with the reason."""

    decision: Verdict
    reason: str
    recent: Interval | None = None
    old: Interval | None = None
    protected: dict[str, Interval] = field(default_factory=dict)
    archived: Interval | None = None
    """Former champion against challenger."""
    plan: PowerPlan | None = None
    ask: tuple[str, ...] = ()
    """Why a person has to decide on a challenger that is accepted by its figures."""
    escalate: bool = False
    """The evaluation itself cannot be trusted: a person has to look."""

    def asking(self, reasons: Sequence[str]) -> "GateDecision":
        """Give the decision with further reasons for which a person has to decide; only an accepting one needs them."""
        if self.decision != "accept" or not reasons:
            return self
        words = "; ".join(reasons)
        return replace(self, ask=(*self.ask, *reasons), reason=f"{self.reason}; a person has to decide: {words}")

    @property
    def scores(self) -> dict[str, Any]:
        """The intervals as plain values, by slice."""
        by_slice = {"recent": self.recent, "old": self.old, **self.protected, "archived": self.archived}
        return {name: asdict(interval) for name, interval in by_slice.items() if interval is not None}


def decide(evidence: GateEvidence, spec: GateSpec) -> GateDecision:
    """Accept a challenger that is surely better on recent documents and surely not much worse anywhere else.

    One look at a number of documents that is fixed before. The challenger has to be superior on recent documents, and
    not inferior on old ones, the golden set and every protected slice. Each of these is tested at the one-sided
    `confidence`, and all must hold. So the chance of accepting a challenger that fails any of them is at most 1 -
    confidence, however many there are. An intersection-union test needs no correction for their number (Berger,
    "Multiparameter hypothesis testing and acceptance sampling", Technometrics 1982). A look at too few documents, at
    identical losses, with bounds on both sides of a limit, or by an evaluation that fails its own tests is
    inconclusive: neither a yes nor a no.
    """
    if evidence.champion_version is None:
        return GateDecision(decision="accept", reason="there is no champion to be better than")
    if distrust := _distrust(evidence, spec):
        return GateDecision(decision="inconclusive", reason=distrust, escalate=True)
    plan = evidence.plan
    if short := _too_few(evidence, spec):
        return GateDecision(decision="inconclusive", reason=short, plan=plan)
    return _looked(evidence, spec)


def _looked(evidence: GateEvidence, spec: GateSpec) -> GateDecision:
    """Compute all bounds, and decide by them."""
    confidence = spec.confidence
    recent, old = compare(evidence.recent, confidence), compare(evidence.old, confidence)
    judged = [part for part in evidence.protected if len(part.pairs) >= part.min_documents]
    intervals = {part.name: compare(part.pairs, confidence) for part in judged}
    limits = {"old": spec.max_loss_share} | {part.name: part.max_loss_share for part in judged}
    decision, reason = _decided(recent, {"old": old, **intervals}, limits, spec)
    if decision == "accept" and evidence.broken_rules:
        decision, reason = "reject", f"{'; '.join(evidence.broken_rules)}; otherwise {reason}"
    archived = compare(evidence.archived.pairs, confidence) if evidence.archived else None
    return GateDecision(
        decision=decision,
        reason=reason + _remarks(evidence, archived),
        recent=recent,
        old=old,
        protected=intervals,
        archived=archived,
        plan=evidence.plan,
    )


def _distrust(evidence: GateEvidence, spec: GateSpec) -> str | None:
    """Say why the measurement itself is not to be trusted."""
    if evidence.problem is not None:
        return f"could not be measured: {evidence.problem}"
    everything = [*evidence.recent, *evidence.old, *(pair for part in evidence.protected for pair in part.pairs)]
    if wrong := sum(
        not (math.isfinite(pair.champion_bits) and math.isfinite(pair.challenger_bits)) for pair in everything
    ):
        return f"{wrong} of {len(everything)} losses are no numbers: a model or the scoring is broken"
    problems = failures(evidence.self_tests, spec) if evidence.self_tests is not None else []
    return f"the evaluation fails its own tests: {'; '.join(problems)}" if problems else None


def _too_few(evidence: GateEvidence, spec: GateSpec) -> str | None:
    counts = [("recent", len(evidence.recent), spec.min_documents), ("old", len(evidence.old), spec.min_documents)]
    counts += [(part.name, len(part.pairs), part.min_documents) for part in evidence.protected if part.required]
    for name, count, needed in counts:
        if count < needed:
            return f"{count} {name} documents; {needed} are needed to judge"
    return evidence.plan.reason if evidence.plan is not None and not evidence.plan.suffices else None


def _decided(
    recent: Interval, others: dict[str, Interval], limits: dict[str, float], spec: GateSpec
) -> tuple[Verdict, str]:
    gain = f"recent {recent.champion:.3f} → {recent.challenger:.3f} bits/byte ({_span(recent)})"
    losses = {
        name: f"{name} {interval.champion:.3f} → {interval.challenger:.3f} ({_span(interval)})"
        for name, interval in others.items()
    }
    allowed = ", ".join(f"{name} at most {limit:.1%} up" for name, limit in limits.items())
    needs = f"needed: recent at least {spec.min_gain_share:.1%} down, {allowed}"
    if recent.change == recent.low == recent.high == 0:
        return "inconclusive", f"champion and challenger cost the same on every recent document; {needs}"
    if -recent.low < spec.min_gain_share:
        return "reject", f"{gain}: surely not better enough; {needs}"
    if worse := [name for name, interval in others.items() if interval.low > limits[name]]:
        return "reject", f"{'; '.join(losses[name] for name in worse)}: surely forgets too much; {needs}"
    everything = "; ".join([gain, *losses.values()])
    if -recent.high >= spec.min_gain_share and all(interval.high <= limits[name] for name, interval in others.items()):
        return "accept", f"{everything}; {needs}"
    return "inconclusive", f"{everything}: the bounds lie on both sides of a limit; {needs}"


def _remarks(evidence: GateEvidence, archived: Interval | None) -> str:
    """Say what a person should know beside the decision."""
    remarks = [
        f"{part.name} has {len(part.pairs)} documents, too few to judge"
        for part in evidence.protected
        if not part.required and 0 < len(part.pairs) < part.min_documents
    ]
    if archived is not None and evidence.archived is not None and archived.high < 0:
        remarks.append(
            f"version {evidence.archived.version}, a former champion, is surely better still on the recent documents "
            f"({_span(archived)} against the challenger): consider bringing it back"
        )
    return "".join(f"; {remark}" for remark in remarks)


def _span(interval: Interval) -> str:
    return f"{interval.low:+.1%} to {interval.high:+.1%}, {interval.documents} documents"
