"""Whether capacity is added, how much and for how long. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from datasets_defs.core.conditions import Condition
from datasets_defs.spec.scaling import Capacity
from datasets_defs.store.gpu_scaling import Stay


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleEvidence:
    """What the decision looks at."""

    now: datetime
    present: int | None
    """Replicas that there are; None: not known."""
    stay: Stay | None
    """What was added before and has not come down."""
    last_change: datetime | None
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    """Newest condition of each signal that called for capacity."""
    window: timedelta = timedelta(hours=1)
    by_hand: bool = False
    """A person asks: what signals say, and the cool-down, do not matter."""
    gpus: int | None = None
    """GPUs that a person wants in all; None: a step more."""
    lasting: timedelta | None = None
    """How long a person wants it; None: as the YAML says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleDecision:
    """Whether to go, why, and when to ask again if not."""

    go: bool
    reason: str
    before: int = 0
    replicas: int = 0
    until: datetime | None = None
    gpu_hours: float = 0.0
    """What it takes from the budget beyond what was paid for already."""
    is_at_most: bool = False
    """No more can be added: what stands is only kept up longer, or nothing is done."""
    not_before: datetime | None = None
    """Earliest time to ask again; None with `go` false: a person decides."""


def may_scale(evidence: ScaleEvidence, capacity: Capacity) -> ScaleDecision:
    """Decide whether capacity is added: signals known and bad, replicas known, cool-down over, below the maximum."""
    refusal = None if evidence.by_hand else _not_called_for(evidence, capacity)
    if refusal is not None:
        return refusal
    if evidence.present is None:
        reason = "it is not known how many replicas there are, so none are added"
        return ScaleDecision(go=False, reason=reason, not_before=evidence.now + evidence.window)
    stay = evidence.stay
    before = stay.before if stay is not None else evidence.present
    there = max(evidence.present, stay.replicas) if stay is not None else evidence.present
    wanted = _wanted(evidence, capacity, there)
    replicas = min(max(wanted, capacity.min_replicas), capacity.max_replicas)
    if evidence.gpus is not None and wanted > capacity.max_replicas:
        most = capacity.max_replicas * capacity.gpus_per_replica
        return ScaleDecision(go=False, reason=f"{evidence.gpus} GPUs are wanted, and scale.max_replicas allows {most}")
    if replicas <= before:
        reason = f"{evidence.present} replicas stand, and scale.max_replicas is {capacity.max_replicas}: none are added"
        if evidence.gpus is not None:
            reason = f"{before} replicas stand without any addition, and {wanted} are wanted: nothing is added"
        return ScaleDecision(go=False, reason=reason, is_at_most=True)
    lasting = evidence.lasting or timedelta(hours=capacity.hours)
    until = evidence.now + lasting
    if stay is not None and not evidence.by_hand:
        until = max(until, stay.until)
    is_at_most = stay is not None and replicas <= stay.replicas and evidence.gpus is None
    hours = (replicas - before) * capacity.gpus_per_replica * _hours(until - evidence.now) - _paid(stay, evidence.now)
    what = f"{there} → {replicas} replicas" if replicas != there else f"{replicas} replicas stay"
    reason = f"{what} until {until:%Y-%m-%d %H:%M}Z, then {before} again; {max(hours, 0):.2f} GPU-hours"
    if is_at_most:
        reason += "; that is scale.max_replicas: a person decides whether more are needed"
    return ScaleDecision(
        go=True, reason=reason, before=before, replicas=replicas, until=until, gpu_hours=max(hours, 0.0),
        is_at_most=is_at_most,
    )  # fmt: skip


def not_known_bad(conditions: Mapping[str, Condition]) -> str | None:
    """Say why nothing measured calls for capacity; None: something does."""
    if any(condition in (Condition.BAD, Condition.WARN) for condition in conditions.values()):
        return None
    seen = ", ".join(f"{name} is {condition}" for name, condition in sorted(conditions.items())) or "nothing is known"
    return f"nothing measured calls for capacity now ({seen}): nothing is scaled on what is not known"


def _not_called_for(evidence: ScaleEvidence, capacity: Capacity) -> ScaleDecision | None:
    """Find out that nothing measured calls for capacity now, or that the last addition has yet to show its effect."""
    if (reason := not_known_bad(evidence.conditions)) is not None:
        return ScaleDecision(go=False, reason=reason, not_before=evidence.now + evidence.window)
    if evidence.last_change is not None:
        again = evidence.last_change + timedelta(minutes=capacity.cool_down_minutes)
        if evidence.now < again:
            reason = f"cool-down: capacity changed {evidence.last_change:%H:%M:%S}Z; more not before {again:%H:%M:%S}Z"
            return ScaleDecision(go=False, reason=reason, not_before=again)
    return None


def _wanted(evidence: ScaleEvidence, capacity: Capacity, there: int) -> int:
    if evidence.gpus is not None:
        return math.ceil(evidence.gpus / capacity.gpus_per_replica)
    return there + (0 if evidence.by_hand and evidence.stay is not None else capacity.step)


def _paid(stay: Stay | None, now: datetime) -> float:
    """Give the GPU-hours of what is left of a stay, which were taken when it began."""
    return 0.0 if stay is None else stay.gpus * _hours(max(stay.until - now, timedelta()))


def _hours(time: timedelta) -> float:
    return time.total_seconds() / 3600
