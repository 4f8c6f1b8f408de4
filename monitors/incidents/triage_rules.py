"""Why a model is degraded and what to do about it: a decision from the evidence. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from datasets_defs.core.conditions import About, Condition
from datasets_defs.core.incidents import Action, Cause, HarmKind

_WITHIN_LIMIT = (Condition.OK, Condition.WARN)


@dataclass(frozen=True, slots=True, kw_only=True)
class TriageEvidence:
    """What stands against a model."""

    signals: frozenset[str]
    """Confirmed bad and not quiet since: `drift`, `loss`, `data`, `quality:NAME`, `label:NAME`, `gpu:NAME`."""
    about: Mapping[str, About | None]
    """What each of them speaks of; None: the YAML does not say."""
    mean_losses: frozenset[str] = frozenset()
    """Those of them that are what all prompts cost on the mean."""
    windows_since_promotion: float | None
    """From the champion's promotion to the first bad window; None when it was not promoted (first, or gone back to).

    Down to -1 the first bad window is the one in which the promotion fell; below, the model was bad before.
    """
    probation_windows: int
    """A model that turns bad this soon after a promotion is taken back."""
    has_previous: bool
    """Whether there is a previous champion."""
    drift: Condition
    """How the input stands in the judged window; NO_DATA when nothing current is known."""
    loss: Condition
    """How the loss stands in the judged window; NO_DATA when nothing current is known."""
    learning: bool = False
    """Whether that window's hour is still learned, so that nothing is known of its loss but the extreme."""
    harm_kind: HarmKind | None = None
    """Which prompts cost more; None: none do, or kinds of prompts are not known."""
    attempts_left: int
    """Retraining attempts that the spec still allows in this incident."""
    is_measured: bool = True
    """Whether its loss, labels or a quality signal about the model told in the last windows how well it does."""
    previous_champion_better: bool | None = None
    """Whether the champion before this one surely costs less, or surely not, on the same prompts; None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriageDecision:
    """The answer, with its reason."""

    cause: Cause
    action: Action
    reason: str


def triage(evidence: TriageEvidence) -> TriageDecision:
    """Decide cause and action.

    In order: broken data, a new version that does not answer, real loss (with a bad promotion first), signals of
    which nobody said what they speak of, machines, a harmless shift.

    Raises:
        ValueError: no signal stands; there is nothing to decide.
    """
    if not evidence.signals:
        raise ValueError("triage needs a signal that stands")
    if "data" in evidence.signals:
        return _decided(Cause.DATA_BREAK, Action.QUARANTINE, "the data is broken: nothing is trained on it")
    silent = _that_speak_of(evidence, About.ANSWERS)
    if silent and _is_fresh(evidence):
        why = f"{', '.join(silent)} confirmed {evidence.windows_since_promotion:.1f} windows after a promotion"
        return _decided(Cause.REGRESSION_AFTER_PROMOTION, Action.ROLL_BACK, f"{why}: the new version does not answer")
    harm = sorted({*_that_speak_of(evidence, About.MODEL)} - {"drift"} - set(_explained(evidence)))
    if harm:
        return _harmful(evidence, harm)
    if unsaid := _that_speak_of(evidence, None):
        return _unsaid(unsaid)
    if machines := _that_speak_of(evidence, About.MACHINES, About.CAPACITY, About.ANSWERS):
        return _machines(evidence, machines)
    return _decided(Cause.INPUT_SHIFT, Action.WATCH, f"the input has shifted and {_cost(evidence)}: watched")


def _that_speak_of(evidence: TriageEvidence, *about: About | None) -> list[str]:
    return sorted(signal for signal in evidence.signals if evidence.about[signal] in about)


def _unsaid(unsaid: list[str]) -> TriageDecision:
    names = ", ".join(unsaid)
    needs = " or ".join(f"`about: {about}`" for about in About)
    why = f"{names}: the YAML does not say what it speaks of, so a person decides; give it {needs}"
    return _decided(Cause.QUALITY_LOSS, Action.ALERT, why)


def _is_fresh(evidence: TriageEvidence) -> bool:
    """Say whether what stands began with a promotion that can be taken back."""
    since = evidence.windows_since_promotion
    return since is not None and -1 <= since <= evidence.probation_windows and evidence.has_previous


def _cost(evidence: TriageEvidence) -> str:
    if evidence.loss in _WITHIN_LIMIT:
        return "its loss stays within its limit"
    if evidence.loss is Condition.BAD:
        return "its loss is beyond its limit, which is not confirmed yet"
    if evidence.learning:
        return "its loss at this hour of the week is still learned"
    return "whether it costs anything is not measured"


def _harmful(evidence: TriageEvidence, harm: list[str]) -> TriageDecision:
    names = ", ".join(harm)
    if regression := _regression(evidence):
        return _decided(Cause.REGRESSION_AFTER_PROMOTION, Action.ROLL_BACK, f"{names} confirmed {regression}")
    if evidence.harm_kind is HarmKind.SAME and "loss" in harm:
        why = f"{names}: the same prompts cost more, so serving or weights are broken: a person looks, no retrain"
        return _decided(Cause.QUALITY_LOSS, Action.ALERT, why)
    shifted = "drift" in evidence.signals
    unchanged = evidence.drift in _WITHIN_LIMIT and evidence.loss in _WITHIN_LIMIT
    if not shifted and unchanged and all(signal.startswith("label:") for signal in harm):
        why = f"{names} fell while neither the input nor its loss changed: the labels may be wrong, a person looks"
        return _decided(Cause.QUALITY_LOSS, Action.ALERT, why)
    cause = Cause.INPUT_SHIFT if shifted else Cause.QUALITY_LOSS
    why = f"the input has shifted and it costs: {names}" if shifted else f"the model got worse: {names}"
    if evidence.attempts_left <= 0:
        return _decided(cause, Action.ALERT, f"{why}; no retraining attempt is left: a person decides")
    return _decided(cause, Action.RETRAIN, why)


def _explained(evidence: TriageEvidence) -> list[str]:
    """Give the signals of the prompts' mean loss that say no more than that harder prompts are asked.

    The mean moves with what is asked. Where the loss is judged by kinds of prompts, and by the hour of the week, that
    judgement counts and not the mean's.
    """
    if "loss" in evidence.signals or not (evidence.loss in _WITHIN_LIMIT or evidence.learning):
        return []
    return sorted(evidence.signals & evidence.mean_losses)


def _regression(evidence: TriageEvidence) -> str | None:
    """Say why the harm came with a promotion, or None.

    Prompts that both champions were scored on settle it, either way; without them the time since the promotion does.
    """
    since, better = evidence.windows_since_promotion, evidence.previous_champion_better
    if not evidence.has_previous or better is False or (since is not None and since < -1):
        return None
    if since is None:
        return "and the champion before surely costs less on the same prompts" if better else None
    if better:
        return f"{since:.1f} windows after a promotion, and the champion before surely costs less on the same prompts"
    if since > evidence.probation_windows:
        return None
    return f"{since:.1f} windows after a promotion (within {evidence.probation_windows})"


def _machines(evidence: TriageEvidence, machines: list[str]) -> TriageDecision:
    full = _that_speak_of(evidence, About.CAPACITY)
    if full:
        return _decided(Cause.INFRASTRUCTURE, Action.SCALE, f"the GPUs are full: {', '.join(full)}")
    also = "; the input has shifted, too" if "drift" in evidence.signals else ""
    return _decided(
        Cause.INFRASTRUCTURE,
        Action.ALERT,
        f"the machines, not the model: {', '.join(machines)}{also}: a person decides",
    )


def _decided(cause: Cause, action: Action, reason: str) -> TriageDecision:
    return TriageDecision(cause=cause, action=action, reason=reason)
