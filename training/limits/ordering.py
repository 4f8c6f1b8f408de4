"""Whether a training that a schedule asks for may begin. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from datasets_defs.core.conditions import Condition
from datasets_defs.core.gpu_budget import GovernorDecision
from datasets_defs.core.incidents import Incident, State
from datasets_defs.spec.training import RetrainSpec
from training.limits.governor import GovernorEvidence, may_retrain


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEvidence:
    """What a training on schedule is decided from."""

    governor: GovernorEvidence
    """The same that a retrain is decided from."""
    open_incident: Incident | None
    paused: str | None = None
    """Why the model is paused; None: it is not."""
    data: Condition | None = None
    """The newest verdict on the data that still counts; None: there is none."""
    data_reason: str = ""
    hours_left: float | None = None
    """GPU-hours that the fleet has left; None: they are not limited."""
    hours_needed: float = 0.0


_STANDS: Mapping[State, str] = {
    State.PROBATION: "probation runs: the new champion is judged first",
    State.QUARANTINED: "the data is broken",
    State.APPROVING: "a challenger waits for a person",
}


def may_order(evidence: OrderEvidence, spec: RetrainSpec) -> GovernorDecision:
    """Decide whether a training on schedule may begin.

    In order: no pause, no open incident, whole data, the governor's own limits, GPU-hours. A verdict on
    the data that is not known refuses nothing: the rows themselves are checked before any is trained on.
    """
    if evidence.paused is not None:
        return _no(evidence.paused)
    if (incident := evidence.open_incident) is not None:
        why = _STANDS.get(incident.state, "one thing at a time")
        return _no(f"incident {incident.id} is {incident.state}: {why}")
    if evidence.data is Condition.BAD:
        return _no(f"the data is broken: {evidence.data_reason}")
    governed = may_retrain(evidence.governor, spec)
    if not governed.go:
        return replace(governed, not_before=None)
    if evidence.hours_left is not None and evidence.hours_left < evidence.hours_needed:
        left = max(evidence.hours_left, 0)
        return _no(f"the fleet has {left:.2f} GPU-hours left, {evidence.hours_needed:.2f} are needed")
    return governed


def _no(reason: str) -> GovernorDecision:
    return GovernorDecision(go=False, reason=reason)
