"""Says whether a champion costs more than the one before it on the same prompts: an always-valid comparison. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from datasets_defs.spec.gate import ShadowSpec
from datasets_defs.store.shadow_log import ShadowScore
from monitors.counts.moments import Moments

Errors = TypeVar("Errors", float, NDArray[np.float64])
"""One standard error, or those of many looks at once."""
SOUGHT = 0.02
"""Difference that the bounds are tightest for, as a share of the former champion's bits."""
LEAST_UNITS = 30
"""Users, or prompts without one, from which on something is said: of fewer, the spread is anybody's guess."""


class Shadow(StrEnum):
    """How a champion stands against the one before it."""

    WORSE = "worse"
    """Surely costs more."""
    NOT_WORSE = "not worse"
    """Surely costs no more than the margin allows, which may be because it costs less."""
    OPEN = "open"
    """Neither is sure yet."""
    TOO_FEW = "too few"
    """Too few prompts were scored to say anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowComparison:
    """Champion against former champion, with its reason."""

    result: Shadow
    reason: str
    prompts: int = 0
    units: int = 0
    """Users, or prompts without one: what counts as independent."""
    ratio: float | None = None
    """The champion's bits over the former's, on the same prompts; None without any."""
    at_least: float | None = None
    """Surely no less; None if nothing can be said."""
    at_most: float | None = None

    @property
    def is_better(self) -> bool:
        """Whether the champion surely costs less."""
        return self.at_most is not None and self.at_most < 1


def compare(scores: Iterable[ShadowScore], spec: ShadowSpec) -> ShadowComparison:
    """Compare two versions on the prompts that both were scored on; may be asked again after each new prompt.

    The figure is the ratio of total bits, its error the linearised one of `Moments` over users, since one user's
    prompts are alike; a prompt without a user stands for itself. Rows that are no figures are left out.
    """
    units: dict[str, tuple[float, float]] = {}
    prompts = 0
    for score in scores:
        if not (isfinite(score.champion_bits) and isfinite(score.previous_bits) and score.previous_bits > 0):
            continue
        prompts += 1
        key = f"user {score.user_id}" if score.user_id is not None else f"prompt {score.request_id}"
        champion, previous = units.get(key, (0.0, 0.0))
        units[key] = (champion + score.champion_bits, previous + score.previous_bits)
    pairs = [pair for _, pair in sorted(units.items())]
    moments = Moments.of([champion / previous for champion, previous in pairs], [previous for _, previous in pairs])
    ratio = moments.mean
    if ratio is None or moments.rows < LEAST_UNITS:
        reason = f"{prompts} prompts of {moments.rows} users were scored by both; {LEAST_UNITS} users are needed"
        return ShadowComparison(result=Shadow.TOO_FEW, reason=reason, prompts=prompts, units=moments.rows, ratio=ratio)
    width = half_width(moments.error, (1 - spec.confidence) / 2, units=moments.rows)
    low, high = ratio - width, ratio + width
    result = Shadow.WORSE if low > 1 else Shadow.NOT_WORSE if high < 1 + spec.margin else Shadow.OPEN
    return ShadowComparison(
        result=result,
        reason=f"on {prompts} prompts it costs {ratio - 1:+.1%} of what the former champion pays "
        f"(surely {low - 1:+.1%} to {high - 1:+.1%})",
        prompts=prompts,
        units=moments.rows,
        ratio=ratio,
        at_least=low,
        at_most=high,
    )


def half_width(error: Errors, miss: float, *, units: int | NDArray[np.int64], sought: float = SOUGHT) -> Errors:
    """Give how far a mean may lie off on one side, so that it ever lies further off at any look with chance `miss`.

    The one-sided asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform
    central limit theory and asymptotic confidence sequences" (arXiv:2103.06476, the one-sided boundary of its
    appendix), with 1/error² as the clock and `sought` as the scale of the normal mixture. It is asymptotic; for few
    units, of which the error is estimated, it is widened as a normal quantile is to Student's (first term of Fisher's
    expansion).
    """
    clock = sought**2 / error**2
    errors = np.sqrt(2 * (1 + 1 / clock) * np.log(1 + np.sqrt(clock + 1) / (2 * miss)))
    width: Errors = error * errors * (1 + (errors**2 + 1) / (4 * (units - 1)))
    return width
