"""From what a window's prompts cost to a verdict on the loss: which prompts cost more, and what that calls for. Pure.

A frozen model's loss on a text does not change. So a rise is one of three. The same kinds of prompts cost more: serving
or weights are broken, which calls for a person or the way back, never for a retrain. Known kinds that are harder are
asked more: watched. New kinds cost more and stay: a retrain. The first and the last are tested window by window, each
with a stated time between false alarms; the middle one is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from math import isfinite, log, sqrt
from typing import Any

import numpy as np

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.incidents import HarmKind
from datasets_defs.spec.signals import DriftSpec
from monitors.counts.moments import Moments
from monitors.counts.rollup import WindowSketch
from monitors.counts.sketch import Floats
from monitors.drift.subject import LOSS_METHOD, Subject, condition_of
from monitors.drift.whole_loss import judge_whole
from monitors.evidence.e_detector import LEAST_LOG10
from monitors.evidence.harm import SURE, Point, log_m, log_m_of, surely
from monitors.evidence.kind_costs import KindCosts, Split, split
from monitors.profiles.profile import Profile
from monitors.season.usual import Usual

LEARNING_RATIO = 1.2
"""In an hour that is still learned known kinds are harmful only when they surely cost so many times the reference's."""
MOSTLY = 0.5
"""New kinds explain a rise when they add at least this part of what known ones seem to."""
RECENT = 6
"""Windows whose mean excess is compared for that."""
SURE_ADDED = 1.64
"""Standard errors that what new kinds add is given the benefit of, once it is sure that they have grown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSeen:
    """What a judged window showed of a champion's loss, as its verdict keeps it."""

    moments: Moments | None = None
    """Of all its prompts."""
    same: Point | None = None
    """What known kinds cost over what is usual at that hour; None where kinds were not known."""
    new: Point | None = None
    """What new kinds added beyond what is usual at that hour, on top of 1."""
    growth: tuple[float, ...] = ()
    """Log e-values of new kinds having grown beyond what is usual at that hour."""
    learning: bool = False
    """Whether the hour was still learned."""

    @classmethod
    def of(cls, verdict: Verdict) -> "LossSeen | None":
        """Read it from a verdict; None where the verdict measured nothing."""
        evidence = verdict.evidence
        if "moments" not in evidence:
            return None
        same, new = (Point(*evidence[name]) if evidence.get(name) else None for name in ("same", "new"))
        return cls(
            moments=Moments(*evidence["moments"]),
            same=same,
            new=new,
            growth=tuple(evidence.get("growth", ())),
            learning="learning" in evidence,
        )


def loss_seen(by_kind: Split, usual: Usual, growth_tolerance: float, *, learning: bool) -> LossSeen:
    """Hold a window's loss against what is usual at its hour."""
    return LossSeen(
        same=Point(1 + by_kind.same.value - usual.same, by_kind.same.error),
        new=Point(1 + by_kind.new.value - usual.new, by_kind.new.error),
        growth=() if usual.share is None else tuple(by_kind.grown.log_e(usual.share + growth_tolerance)),
        learning=learning,
    )


def judge_loss(
    subject: Subject,
    sketch: WindowSketch,
    profile: Profile,
    spec: DriftSpec,
    seen: Sequence[LossSeen],
    *,
    learning: str | None,
    about: Mapping[str, Any],
) -> Verdict:
    """Judge a window's loss, kinds of prompts apart where the profile knows them."""
    evidence = {**about, **_measured(sketch, profile, learning)}
    costs, icc = profile.kind_costs, profile.icc.get("prompt_bits_per_byte", 0.0)
    effect = 1 + max(sketch.rows_per_user - 1, 0) * icc
    by_kind = (
        split(sketch.kinds, sketch.kind_rows, costs, effect=effect) if costs is not None and sketch.kinds else None
    )
    if by_kind is None or costs is None:
        windows = [loss.moments for loss in seen if loss.moments is not None]
        least = LEARNING_RATIO if learning is not None else None
        return judge_whole(subject, sketch, profile, spec, windows, evidence, least_ratio=least)
    usual = profile.usual_loss(sketch.window.start, spec.harm_ratio, seasonal=spec.season == "week")
    now = loss_seen(by_kind, usual, profile.growth_tolerance, learning=learning is not None)
    verdict = weigh([*seen, now], profile_limits(profile, spec, costs), learning=now.learning)
    listed = _listed(by_kind, costs, profile)
    evidence |= {
        "same": _plain(now.same), "new": _plain(now.new),
        "growth": list(now.growth), "mixture": by_kind.mixture, "loss_ratio": by_kind.ratio,
        "loss_ratio_at_least": verdict.at_least, "log10_m": verdict.log10_m, "kinds": listed,
        **({"harm": verdict.harm} if verdict.harm is not None else {}),
    }  # fmt: skip
    reason = _reason(by_kind, sketch, costs, verdict, listed)
    if learning is not None:
        reason = f"{reason}; {learning}, so only {LEARNING_RATIO:.2f} times the reference's counts"
    condition = verdict.condition
    if learning is not None and not profile.is_scored_apart and condition is not Condition.BAD:
        condition, evidence["waits"] = Condition.NO_DATA, True
    return subject.verdict(
        "loss", condition, reason, LOSS_METHOD, score=by_kind.ratio, limit=verdict.limit, evidence=evidence
    )


def _measured(sketch: WindowSketch, profile: Profile, learning: str | None) -> dict[str, Any]:
    return {
        "rows": sketch.loss.rows,
        "window_bits_per_byte": sketch.loss.mean,
        "reference_bits_per_byte": profile.loss.mean,
        "moments": list(astuple(sketch.loss)),
        **({"learning": learning} if learning is not None else {}),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class LossLimits:
    """From where on known kinds cost too much, and new ones add too much: multiples of the reference's mean."""

    same: float
    new: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What the windows say of the loss."""

    condition: Condition
    harm: HarmKind | None
    log10_m: float
    """Of the stronger of both tests."""
    limit: float
    at_least: float


def profile_limits(profile: Profile, spec: DriftSpec, costs: KindCosts) -> LossLimits:
    """Give the limits of a profile: its tolerances, the spec's least ratio, and the reference's own error."""
    slack = SURE * costs.error if isfinite(costs.error) else LEARNING_RATIO - 1
    return LossLimits(
        same=max(spec.harm_ratio, 1 + profile.loss_tolerance) + slack,
        new=spec.harm_ratio,
    )


def weigh(seen: Sequence[LossSeen], limits: LossLimits, *, learning: bool) -> Weighed:
    """Weigh the windows up to the newest, oldest first; in an hour that is still learned, by absolute rules.

    Known kinds are tested for costing more, new ones for having grown, each with the run length of `BAD_RUN_LENGTH`.
    New ones that have grown are harmful when they surely add more than their limit, too. Where known kinds
    seem to cost more while new ones add at least half as much, prompts of a new kind pass for known ones: a warning,
    until it is sure of the new ones.
    """
    some = [loss for loss in seen if loss.same is not None and (learning or not loss.learning)]
    same, new = ([point for loss in some if (point := getattr(loss, name)) is not None] for name in ("same", "new"))
    limit = max(limits.same, LEARNING_RATIO) if learning else limits.same
    of_same = _condition(same, limit)
    growth = np.array([loss.growth for loss in some if loss.growth])
    grown = log_m_of(growth) / log(10) if len(growth) else LEAST_LOG10
    of_new = Condition.OK  # kinds that have grown and cost no more are no harm
    if condition_of(grown) is not Condition.OK and some[-1].growth and 1 + _excess(new) > limits.new:
        of_new = Condition.WARN
    if condition_of(grown) is Condition.BAD and some[-1].growth:
        adds = _least(new[-_since(growth) :])
        if min(adds, new[-1].value) > limits.new:
            return Weighed(condition=Condition.BAD, harm=HarmKind.NEW, log10_m=grown, limit=limits.new, at_least=adds)
    condition = of_same[0]
    if condition is Condition.BAD and _excess(new) >= MOSTLY * _excess(same):
        condition = Condition.WARN
    harm_kind = HarmKind.SAME if condition is Condition.BAD else None
    if condition is Condition.OK:
        condition = of_new
    return Weighed(
        condition=condition, harm=harm_kind, log10_m=max(of_same[1], grown), limit=limit, at_least=of_same[2]
    )


def _since(growth: Floats) -> int:
    """Say for how many windows new kinds have most plainly been more than usual."""
    sums = np.cumsum(growth[::-1], axis=0)
    return int(np.unravel_index(np.argmax(sums), sums.shape)[0]) + 1


def _least(points: Sequence[Point]) -> float:
    """Give what the newest windows together show at least: their mean, less `SURE_ADDED` of its standard errors.

    Each window counts alike. Weighed by precision, cheap windows would hide dear ones, whose costs also spread more.
    """
    recent = [point for point in points[-RECENT:] if isfinite(point.error) and point.error > 0]
    if not recent:
        return 0.0
    mean = sum(point.value for point in recent) / len(recent)
    return mean - SURE_ADDED * sqrt(sum(point.error**2 for point in recent)) / len(recent)


def _condition(points: Sequence[Point], limit: float) -> tuple[Condition, float, float]:
    """Give how a figure stands, log10 of its evidence, and what it surely exceeds (0 while nothing speaks for it)."""
    log10_m = max(float(log_m(points, np.array([limit]))[0]) / log(10), LEAST_LOG10)
    condition = condition_of(log10_m)
    if condition is Condition.BAD and points[-1].value < limit:
        condition = Condition.WARN
    return condition, log10_m, surely(points) if condition is not Condition.OK else 0.0


def _excess(points: Sequence[Point]) -> float:
    recent = [point.value - 1 for point in points[-RECENT:]]
    return max(sum(recent) / max(len(recent), 1), 0.0)


def _plain(point: Point | None) -> list[float] | None:
    return [point.value, point.error] if point is not None and isfinite(point.error) else None


def _listed(by_kind: Split, costs: KindCosts, profile: Profile) -> list[dict[str, Any]]:
    """List the kinds that add most to the window's loss, with shares and costs, before and now."""
    names = [*range(len(costs.costs) - 1), -1]
    kinds = profile.encoding.kinds
    rows = [
        {
            "kind": kinds.name(number) if kinds is not None else str(number),
            "share": by_kind.shares[at],
            "usual_share": float(costs.shares[at]),
            "bits_per_byte": by_kind.costs[at],
            "usual_bits_per_byte": float(costs.costs[at]) if number >= 0 else costs.mean,
        }
        for at, number in enumerate(names)
    ]
    return sorted(rows, key=lambda row: -_adds(row, costs.mean))[:3]


def _adds(row: Mapping[str, Any], mean: float) -> float:
    return float(row["share"]) * ((row["bits_per_byte"] or mean) - mean) - float(row["usual_share"]) * (
        float(row["usual_bits_per_byte"]) - mean
    )


def _reason(
    by_kind: Split, sketch: WindowSketch, costs: KindCosts, verdict: Weighed, listed: Sequence[Mapping[str, Any]]
) -> str:
    mean = sketch.loss.mean or 0.0
    start = f"prompts cost {mean:.2f} bits per byte, {by_kind.ratio:.2f} times the reference's {costs.mean:.2f}"
    parts = f"known kinds cost {by_kind.same.value:.2f} times what they did, new ones add {by_kind.new.value - 1:+.0%}"
    if verdict.harm is HarmKind.SAME:
        return (
            f"the same prompts cost more: {start}; {parts} (surely {verdict.at_least:.2f}, limit {verdict.limit:.2f})"
        )
    if verdict.harm is HarmKind.NEW:
        kinds = "; ".join(_in_words(row) for row in listed[:2])
        return f"new kinds of prompts cost more: {start}; {parts} (limit {verdict.limit - 1:+.0%}); most of it: {kinds}"
    if by_kind.mixture >= 0.02:
        return f"{start}; more of known hard prompts ({by_kind.mixture:+.0%}); {parts}"
    return f"{start}; {parts}; harmful from {verdict.limit:.2f} on"


def _in_words(row: Mapping[str, Any]) -> str:
    cost = "unknown" if row["bits_per_byte"] is None else f"{row['bits_per_byte']:.2f}"
    return f"{row['kind']}, {row['usual_share']:.0%} → {row['share']:.0%} of the rows at {cost} bits per byte"
