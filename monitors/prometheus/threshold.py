"""When a measured value has crossed a threshold. Pure."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from monitors.prometheus.client import Freshness, Sample

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A comparison that is waited for."""

    operator: str
    value: float
    max_age: timedelta
    """Older samples cross nothing."""

    def __post_init__(self) -> None:
        if self.operator not in OPERATORS:
            raise ValueError(f"operator {self.operator!r}: expected one of {' '.join(OPERATORS)}")
        if self.max_age <= timedelta(0):
            raise ValueError(f"max_age {self.max_age}: must be longer than nothing")

    def crossed_by(self, samples: Sequence[Sample], freshness: Freshness) -> Sample | None:
        """Give the first sample beyond the threshold; none if there is none, or the samples are too old to say.

        NaN is beyond nothing: not even `!=` holds of a value that is not known.
        """
        if freshness.age is None or freshness.age > self.max_age:
            return None
        holds = OPERATORS[self.operator]
        known = (sample for sample in samples if sample.value == sample.value)  # NaN alone differs
        return next((sample for sample in known if holds(sample.value, self.value)), None)
