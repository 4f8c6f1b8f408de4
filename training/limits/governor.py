"""Whether a retrain may start now. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from datasets_defs.core.gpu_budget import GovernorDecision
from datasets_defs.spec.training import RetrainSpec

MOST_BACK_OFF_WINDOWS = 336
"""A rejected challenger is never waited for longer than this: a fortnight of hours."""

FUTILITY_DAYS = 30
"""Older evaluations say nothing of whether another attempt is worth it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """How a challenger was judged."""

    accepted: bool
    best_gain: float | None
    """Upper bound of its gain on recent documents, a share of bits per byte; None: it could not be measured."""
    needed: float
    """The gain that would have been enough."""

    @property
    def is_futile(self) -> bool:
        """Whether it surely fell short."""
        return not self.accepted and self.best_gain is not None and self.best_gain < self.needed


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
    apart: int = 0
    """Further documents that nobody known sent, and that are not trained on; counted where the others are too few."""
    recent_starts: tuple[datetime, ...] = ()
    """When attempts began within the budget's stretch of time, in any incident, oldest first."""
    free_gpus: float | None = None
    """GPUs that were just seen to be free; None: not known."""
    evaluations: tuple[Evaluated, ...] = ()
    """The model's newest challengers in any incident, newest first, `futile_after` of them at most."""


def may_retrain(evidence: GovernorEvidence, spec: RetrainSpec) -> GovernorDecision:
    """Decide whether a retrain may start: attempts left, some hope, cool-down over, budget left, GPUs, documents.

    The cool-down holds for an incident's first attempt; later ones wait for what rejected the one before.
    """
    if evidence.attempts >= spec.max_attempts:
        reason = f"{evidence.attempts} of {spec.max_attempts} attempts are used up"
        return GovernorDecision(go=False, reason=reason)
    if is_futile(evidence.evaluations, spec.futile_after):
        needed = evidence.evaluations[0].needed
        reason = (
            f"the last {spec.futile_after} challengers surely gained less than the {needed:.1%} that is needed: "
            "another attempt would not help; resolving the incident by hand lets the loop try again"
        )
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
        reason, later = _too_few(evidence, spec), evidence.now + evidence.window_length
        return GovernorDecision(go=False, reason=reason, not_before=later)
    reason = f"{evidence.fresh_documents} fresh documents, attempt {evidence.attempts + 1} of {spec.max_attempts}"
    return GovernorDecision(go=True, reason=reason)


def back_off_windows(attempt: int, spec: RetrainSpec) -> int:
    """Give the windows to wait after an incident's attempt (1, 2 …) was rejected: time for other data to come."""
    return min(spec.back_off_windows << max(attempt - 1, 0), MOST_BACK_OFF_WINDOWS)


def is_futile(evaluations: Sequence[Evaluated], count: int) -> bool:
    """Say whether the newest `count` challengers all surely fell short; fewer say nothing."""
    newest = evaluations[:count]
    return len(newest) == count and all(evaluation.is_futile for evaluation in newest)


def _too_few(evidence: GovernorEvidence, spec: RetrainSpec) -> str:
    reason = f"{evidence.fresh_documents} fresh documents with references; {spec.min_documents} are needed"
    if not evidence.apart:
        return reason
    return f"{reason}. {evidence.apart} more came without a key and are not trained on (`trust.anonymous`)"
