"""Whether a retrain may start now. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from datasets_defs.models import RetrainSpec

MOST_BACK_OFF_WINDOWS = 336
"""A rejected challenger is never waited for longer than this: a fortnight of hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernorEvidence:
    """What the governor looks at."""

    now: datetime
    window_length: timedelta
    last_closed_at: datetime | None
    """When the model's last incident in which it was retrained ended; None: there was none."""
    fresh_documents: int
    """Prompts with references since the model degraded."""
    attempts: int
    """Retraining attempts begun in this incident."""
    recent_starts: tuple[datetime, ...] = ()
    """When attempts began within the budget's stretch of time, in any incident, oldest first."""
    free_gpus: float | None = None
    """GPUs that were just seen to be free; None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernorDecision:
    """Whether to go, why, and when to ask again if not."""

    go: bool
    reason: str
    not_before: datetime | None = None
    """Earliest time to ask again; None with `go` false: waiting does not help, a person decides."""


def may_retrain(evidence: GovernorEvidence, spec: RetrainSpec) -> GovernorDecision:
    """Decide whether a retrain may start: attempts left, cool-down over, budget left, GPUs free, enough documents.

    The cool-down holds for an incident's first attempt; later ones wait for what rejected the one before.
    """
    if evidence.attempts >= spec.max_attempts:
        reason = f"{evidence.attempts} of {spec.max_attempts} attempts are used up"
        return GovernorDecision(go=False, reason=reason)
    if evidence.last_closed_at is not None and evidence.attempts == 0:
        until = evidence.last_closed_at + spec.cool_down_windows * evidence.window_length
        if evidence.now < until:
            reason = (
                f"cool-down: the last retrained incident ended {evidence.last_closed_at:%H:%M:%S}Z; "
                f"{spec.cool_down_windows} windows later is {until:%H:%M:%S}Z"
            )
            return GovernorDecision(go=False, reason=reason, not_before=until)
    if len(evidence.recent_starts) >= spec.budget.attempts:
        until = evidence.recent_starts[-spec.budget.attempts] + spec.budget.windows * evidence.window_length
        reason = (
            f"budget: {len(evidence.recent_starts)} attempts began within {spec.budget.windows} windows, "
            f"{spec.budget.attempts} are allowed; the next may at {until:%Y-%m-%d %H:%M:%S}Z"
        )
        return GovernorDecision(go=False, reason=reason, not_before=until)
    if spec.min_free_gpus and (evidence.free_gpus is None or evidence.free_gpus < spec.min_free_gpus):
        seen = "not known how many" if evidence.free_gpus is None else f"{evidence.free_gpus:.0f}"
        reason = f"GPUs that are free: {seen}; {spec.min_free_gpus} are needed"
        return GovernorDecision(go=False, reason=reason, not_before=evidence.now + evidence.window_length)
    if evidence.fresh_documents < spec.min_documents:
        reason = f"{evidence.fresh_documents} fresh documents with references; {spec.min_documents} are needed"
        return GovernorDecision(go=False, reason=reason, not_before=evidence.now + evidence.window_length)
    reason = f"{evidence.fresh_documents} fresh documents, attempt {evidence.attempts + 1} of {spec.max_attempts}"
    return GovernorDecision(go=True, reason=reason)


def back_off_windows(attempt: int, spec: RetrainSpec) -> int:
    """Give the windows to wait after an incident's attempt (1, 2 …) was rejected: time for other data to come."""
    return min(spec.back_off_windows << max(attempt - 1, 0), MOST_BACK_OFF_WINDOWS)
