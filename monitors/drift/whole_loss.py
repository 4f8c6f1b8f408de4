"""The verdict on the mean loss of all prompts, where kinds of prompts are not known or nothing was measured. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.spec.signals import DriftSpec
from monitors.counts.moments import Moments
from monitors.counts.rollup import WindowSketch
from monitors.drift.subject import LOSS_METHOD, Subject, condition_of
from monitors.evidence.harm import Harm, harm
from monitors.profiles.profile import Profile


def judge_whole(
    subject: Subject,
    sketch: WindowSketch,
    profile: Profile,
    spec: DriftSpec,
    seen: Sequence[Moments],
    evidence: Mapping[str, Any],
    *,
    least_ratio: float | None,
) -> Verdict:
    """Judge the mean of all prompts against its limit, or another one where the hour is still learned.

    `seen` is what earlier windows cost, oldest first.
    """
    limit = least_ratio or max(spec.harm_ratio, 1 + profile.loss_tolerance)
    figure = harm(
        profile.loss,
        [*seen, sketch.loss],
        limit=limit,
        rows_per_user=sketch.rows_per_user,
        icc=profile.icc.get("prompt_bits_per_byte", 0.0),
    )
    if figure is None:
        side = "the window" if sketch.loss.mean is None else "the reference"
        reason = f"{side} has no prompt_bits_per_byte"
        return subject.verdict("loss", Condition.NO_DATA, reason, LOSS_METHOD, evidence=evidence)
    return subject.verdict(
        "loss",
        harm_condition(figure, limit),
        f"prompts cost {sketch.loss.mean:.2f} bits per byte, {figure.ratio:.2f} times the reference's "
        f"{profile.loss.mean:.2f} (surely {figure.at_least:.2f} times; harmful from {limit:.2f} on)",
        LOSS_METHOD,
        score=figure.ratio,
        limit=limit,
        evidence={
            **evidence, "loss_ratio": figure.ratio, "loss_ratio_at_least": figure.at_least, "log10_m": figure.log10_m
        },
    )  # fmt: skip


def harm_condition(figure: Harm, limit: float) -> Condition:
    """Say how a figure stands; BAD needs the newest window beyond the limit, too: what is over harms no more."""
    condition = condition_of(figure.log10_m)
    return Condition.WARN if condition is Condition.BAD and figure.ratio < limit else condition
