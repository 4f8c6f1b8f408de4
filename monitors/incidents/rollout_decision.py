"""Decides after each look how a rollout goes on: the next step, back, or on with the same. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from datasets_defs.spec.rollout import RolloutSpec
from monitors.incidents.arms import ArmsComparison
from monitors.incidents.shadow_comparison import Shadow

PATIENCE = 4
"""Times the windows of a step, after which a person is asked about users of whom nothing could be measured."""


class RolloutStep(StrEnum):
    """How a rollout goes on."""

    STAY = "stay"
    """With the same users, until more is known."""
    ON = "on"
    """The next step: more users, or all."""
    BACK = "back"
    """The challenger's users go back to the champion."""
    ASK = "ask"
    """They go back, since nothing could be measured, and a person decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutVerdict:
    """The decision, with its reason."""

    step: RolloutStep
    reason: str


def decide_step(comparison: ArmsComparison, spec: RolloutSpec, *, windows: int) -> RolloutVerdict:
    """Decide on a step that has lasted `windows` whole windows.

    Surely worse goes back at once. Else the step lasts as long as the YAML says. Then what is surely not worse goes on;
    where that cannot be told `unsure` decides, and the reason says so. Where nothing was measured at all, nothing is
    promoted: it is waited for `PATIENCE` times as long, then a person decides.
    """
    took = f"after {windows} of {spec.windows} windows"
    if comparison.result is Shadow.WORSE:
        return RolloutVerdict(step=RolloutStep.BACK, reason=f"surely worse {took}: {comparison.reason}")
    if windows < spec.windows:
        return RolloutVerdict(step=RolloutStep.STAY, reason=f"not surely worse {took}: {comparison.reason}")
    match comparison.result:
        case Shadow.NOT_WORSE:
            return RolloutVerdict(
                step=RolloutStep.ON, reason=f"surely no worse than the margins {took}: {comparison.reason}"
            )
        case Shadow.OPEN:
            step = RolloutStep.ON if spec.unsure == "go_on" else RolloutStep.BACK
            reason = f"could not tell whether it is worse {took}, and `unsure: {spec.unsure}` decides"
            return RolloutVerdict(step=step, reason=f"{reason}: {comparison.reason}")
        case _ if windows < PATIENCE * spec.windows:
            return RolloutVerdict(
                step=RolloutStep.STAY, reason=f"too few users to say anything {took}: {comparison.reason}"
            )
        case _:
            return RolloutVerdict(step=RolloutStep.ASK, reason=f"nothing was measured {took}: {comparison.reason}")
