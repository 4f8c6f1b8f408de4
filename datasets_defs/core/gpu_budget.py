"""The fleet's budget of GPU-hours as a token bucket: what is left, and whether it suffices. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

WEEK_WINDOWS = 168
"""The fleet's GPU-hours come back within so many windows: a week of hours."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What one training, job or addition of capacity took from the fleet's budget."""

    at: datetime
    gpu_hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernorDecision:
    """Whether to go, why, and when to ask again if not."""

    go: bool
    reason: str
    not_before: datetime | None = None
    """Earliest time to ask again; None with `go` false: waiting does not help, a person decides."""


def bucket_level(charges: Sequence[Charge], now: datetime, capacity: float, refill_seconds: float) -> float:
    """Give what is left in a token bucket; `charges` oldest first, later ones than `now` count, too.

    It is full before the first charge and fills evenly, from empty to full in `refill_seconds`.
    """
    left, at = capacity, None
    for charge in charges:
        if at is not None:
            left = _filled(left, charge.at - at, capacity, refill_seconds)
        left, at = left - charge.gpu_hours, charge.at
    return left if at is None or now <= at else _filled(left, now - at, capacity, refill_seconds)


def _filled(left: float, time: timedelta, capacity: float, refill_seconds: float) -> float:
    return min(capacity, left + time.total_seconds() / refill_seconds * capacity)


def may_spend(
    gpu_hours: float, charges: Sequence[Charge], *, now: datetime, capacity: float | None, refill: timedelta
) -> GovernorDecision:
    """Decide whether the fleet's budget has the GPU-hours that something may need; `capacity` None: no limit."""
    if capacity is None:
        return GovernorDecision(go=True, reason="GPU-hours are not limited")
    if gpu_hours > capacity:
        reason = f"it may take {gpu_hours:.2f} GPU-hours; the fleet has {capacity:.2f} a week at most"
        return GovernorDecision(go=False, reason=reason)
    left = bucket_level(charges, now, capacity, refill.total_seconds())
    if left >= gpu_hours:
        return GovernorDecision(go=True, reason=f"{left:.2f} GPU-hours are left, {gpu_hours:.2f} are taken")
    until = (
        now + (gpu_hours - left) / capacity * refill + timedelta(seconds=1)
    )  # a fraction's rounding must not ring twice
    reason = (
        f"the fleet has {max(left, 0):.2f} of {capacity:.2f} GPU-hours left, {gpu_hours:.2f} are needed; "
        f"there will be at {until:%Y-%m-%d %H:%M:%S}Z"
    )
    return GovernorDecision(go=False, reason=reason, not_before=until)
