"""Says whether users fare worse with one version than with another that serves beside it: always valid. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

from datasets_defs.spec.rollout import ComparisonSpec
from datasets_defs.store.arm_log import ArmUnit
from monitors.counts.moments import Moments
from monitors.incidents.shadow_comparison import LEAST_UNITS, Shadow, half_width

MEASURES = ("score", "errors", "checks", "latency")
"""What is compared, in the order in which it is told."""
SOUGHT = 0.1
"""Harm that the bounds are tightest for: of a score or a share, and of a latency's logarithm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmMeasure:
    """How much worse the challenger is by one measure; below 0 it is better."""

    result: Shadow
    units: int
    """Of the arm with fewer: users, or requests without one, that say anything of it."""
    harm: float | None = None
    """None: nothing was measured in one of the arms."""
    at_least: float | None = None
    """Surely no less; None if nothing can be said."""
    at_most: float | None = None

    @property
    def words(self) -> str:
        """Say it for people."""
        if self.harm is None or self.at_least is None or self.at_most is None:
            return f"not measured ({self.units} of {LEAST_UNITS} users)"
        return f"{self.harm:+.3f} worse (surely {self.at_least:+.3f} to {self.at_most:+.3f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmsComparison:
    """The challenger's users against the champion's, with the reason."""

    result: Shadow
    reason: str
    measures: Mapping[str, ArmMeasure]


def compare_arms(
    champion: Sequence[ArmUnit], challenger: Sequence[ArmUnit], spec: ComparisonSpec, *, steps: int = 1
) -> ArmsComparison:
    """Compare two versions that answered different users at the same time; may be asked again at any time.

    Users are the units, since one user's requests are alike; a request without one stands for itself. The confidence is
    shared among the measures, both their bounds, and the steps of a rollout that are each compared like this. Worse is
    what one measure shows beyond its margin; not worse what all that could be measured show to be within.
    """
    miss = (1 - spec.confidence) / 2 / len(MEASURES) / steps
    margins = {"score": spec.margins.score, "errors": spec.margins.errors, "checks": spec.margins.checks,
               "latency": log(1 + spec.margins.latency)}  # fmt: skip
    measures = {
        name: _measure(_moments(name, champion), _moments(name, challenger), margins[name], miss, name)
        for name in MEASURES
    }
    result = _together([measure.result for measure in measures.values()])
    told = {
        name: measure for name, measure in measures.items() if result is not Shadow.WORSE or measure.result is result
    }
    reason = "; ".join(f"{name} {measure.words}" for name, measure in told.items())
    return ArmsComparison(result=result, reason=reason, measures=measures)


def _together(results: Iterable[Shadow]) -> Shadow:
    known = {result for result in results if result is not Shadow.TOO_FEW}
    if not known:
        return Shadow.TOO_FEW
    if Shadow.WORSE in known:
        return Shadow.WORSE
    return Shadow.OPEN if Shadow.OPEN in known else Shadow.NOT_WORSE


def _moments(name: str, units: Sequence[ArmUnit]) -> Moments:
    """Sum a measure up over users, more being worse."""
    some = [(total, count) for total, count in (_sums(name, unit) for unit in units) if count > 0]
    return Moments.of([total / count for total, count in some], [count for _, count in some])


def _sums(name: str, unit: ArmUnit) -> tuple[float, int]:
    match name:
        case "score":
            return -unit.score, unit.scored
        case "errors":
            return unit.errors, unit.requests
        case "checks":
            return unit.failed, unit.checked
        case _:
            return unit.log_seconds, unit.timed


def _measure(champion: Moments, challenger: Moments, margin: float, miss: float, name: str) -> ArmMeasure:
    units = min(champion.rows, challenger.rows)
    if champion.mean is None or challenger.mean is None or units < LEAST_UNITS:
        return ArmMeasure(result=Shadow.TOO_FEW, units=units)
    shares = name in ("errors", "checks")
    error = sqrt(_variance(champion, shares=shares) + _variance(challenger, shares=shares))
    harm, width = challenger.mean - champion.mean, half_width(error, miss, units=units, sought=SOUGHT)
    low, high = harm - width, harm + width
    result = Shadow.WORSE if low > margin else Shadow.NOT_WORSE if high < margin else Shadow.OPEN
    if name == "latency":  # means of logarithms: told as shares of the champion's typical time
        harm, low, high = exp(harm) - 1, exp(low) - 1, exp(min(high, 50)) - 1
    return ArmMeasure(result=result, units=units, harm=harm, at_least=low, at_most=high)


def _variance(moments: Moments, *, shares: bool) -> float:
    """Give the square of a mean's error; a share of rare events spreads at least as one event more would.

    Ten requests without a failure do not show that none ever fails, and the sample's own spread would be 0.
    """
    own = moments.error**2
    if not shares or moments.mean is None:
        return own
    share = (moments.mean * moments.w + 1) / (moments.w + 2)
    return max(own, share * (1 - share) / moments.w)
