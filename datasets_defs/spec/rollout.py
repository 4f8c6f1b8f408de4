"""The sections `rollout` and `ab` of the YAML: how an accepted challenger takes users over. Pure."""

from typing import Literal

from pydantic import Field, model_validator

from datasets_defs.spec.fields import Section, Share


class MarginsSpec(Section):
    """How much worse a challenger may surely be; within it the two count as alike."""

    score: Share = 0.02
    """Of the mean feedback score, 0 to 1."""
    errors: Share = 0.01
    """Of the share of requests that fail."""
    checks: Share = 0.02
    """Of the share of answers that are empty, refuse, or hold a blocked phrase (`evaluation`)."""
    latency: float = Field(default=0.25, gt=0)
    """Of the time until an answer's end, as a share of the champion's typical time."""


class ComparisonSpec(Section):
    """How the users of two versions are compared."""

    margins: MarginsSpec = MarginsSpec()
    """How much worse a challenger may surely be."""
    confidence: float = Field(default=0.99, gt=0.5, lt=1)
    """Of all bounds of all steps together, however often they are looked at."""


class RolloutSpec(ComparisonSpec):
    """How a challenger that the gate accepted takes the users over, step by step."""

    steps: tuple[Share, ...] = Field(default=(0.05, 0.25, 1.0), min_length=2)
    """Shares of users that it answers, one after the other; the last is 1, which makes it champion."""
    windows: int = Field(default=2, ge=1)
    """Windows that a step takes. One that is surely worse goes back at once, whatever is left of them."""
    unsure: Literal["go_on", "go_back"] = "go_on"
    """What happens after them where nothing is sure either way."""

    @model_validator(mode="after")
    def _steps_rise_to_all(self) -> "RolloutSpec":
        rising = all(a < b for a, b in zip(self.steps, self.steps[1:], strict=False))
        if not rising or self.steps[0] <= 0 or self.steps[-1] != 1:
            shares = ", ".join(f"{share:g}" for share in self.steps)
            raise ValueError(f"steps must rise from above 0 to 1, as in [0.05, 0.25, 1.0]; found [{shares}]")
        return self


class AbSpec(ComparisonSpec):
    """An experiment: champion and challenger side by side, for a time."""

    share: Share = 0.5
    """Share of users that the challenger answers."""
    windows: int = Field(default=24, ge=1)
    """Windows that it takes. A challenger that is surely worse goes back at once, whatever is left of them."""
    unsure: Literal["go_on", "go_back"] = "go_back"
    """What happens after them where nothing is sure either way: the challenger is promoted, or the champion stays."""

    @model_validator(mode="after")
    def _leaves_both_some(self) -> "AbSpec":
        if not 0 < self.share < 1:
            raise ValueError(f"share must lie above 0 and below 1, so that both have users; found {self.share:g}")
        return self

    @property
    def as_rollout(self) -> RolloutSpec:
        """Give the experiment as a rollout of one step before the last."""
        return RolloutSpec(
            steps=(self.share, 1.0), windows=self.windows, unsure=self.unsure, margins=self.margins,
            confidence=self.confidence,
        )  # fmt: skip
