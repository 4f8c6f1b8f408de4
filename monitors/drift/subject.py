"""What a window's verdicts are about, and what judging it came to: values that the parts of the policy share. Pure."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.windows import Window
from monitors.evidence.e_detector import BAD_RUN_LENGTH, WARN_RUN_LENGTH

DATA_METHOD = "gates on rows, types, nulls and levels"
DRIFT_METHOD = "e-detector, log10 of its evidence"
LOSS_METHOD = "restarted confidence sequence on bits per byte over the reference's, by kinds of prompts"
BAD_LOG10 = math.log10(BAD_RUN_LENGTH)
WARN_LOG10 = math.log10(WARN_RUN_LENGTH)
LEAST_ROWS = 20
"""With fewer rows nothing is judged; they wait for the next window's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a verdict is about."""

    model: str
    window: Window
    champion_version: int | None
    flooded: str | None = None
    """That the log was filled by something else than users, in words."""

    def verdict(self, signal: str, condition: Condition, reason: str, method: str, **more: Any) -> Verdict:
        """Make a verdict about it."""
        return Verdict(
            model=self.model,
            signal=signal,
            window=self.window,
            condition=condition,
            reason=reason,
            method=method,
            champion_version=self.champion_version,
            **more,
        )

    def unknown(self, reason: str, **evidence: Any) -> "Step":
        """Say of data, drift and loss that they cannot be judged."""
        data = self.verdict("data", Condition.NO_DATA, reason, DATA_METHOD, evidence=evidence)
        return Step(
            data=data,
            drift=replace(data, signal="drift", method=DRIFT_METHOD),
            loss=replace(data, signal="loss", method=LOSS_METHOD),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one window showed, and what the detector knows after it."""

    data: Verdict
    drift: Verdict
    loss: Verdict
    log_m: NDArray[np.float64] | None = None
    """The detector's state; None when drift was not judged, and the state before it goes on."""
    is_done: bool = False
    """Whether these rows are dealt with; too few are judged again, together with the next window's."""

    @property
    def verdicts(self) -> tuple[Verdict, Verdict, Verdict]:
        """The verdicts on data, drift and loss."""
        return (self.data, self.drift, self.loss)


def condition_of(log10_m: float) -> Condition:
    """Say how evidence stands: log10 of windows in which chance would show as much once."""
    if log10_m >= BAD_LOG10:
        return Condition.BAD
    return Condition.WARN if log10_m >= WARN_LOG10 else Condition.OK
