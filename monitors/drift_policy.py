"""From measurements of a window to verdicts on its data, drift and loss. Pure."""

import math
from dataclasses import dataclass, replace
from typing import Any

from datasets_defs.conditions import Condition, Verdict
from datasets_defs.models import DriftSpec
from datasets_defs.windows import Window
from monitors.evidently_report import METHOD as DRIFT_METHOD
from monitors.evidently_report import DriftReport
from monitors.reference import MAX_NULL_SHARE, Texts

LOSS_METHOD = "byte-weighted mean of prompt bits per byte over the reference's"
SURE = 1.96
"""Standard errors to the one-sided 97.5 % bound of a normal mean."""
DATA_METHOD = "shares of rows without prompt or loss"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a verdict is about."""

    model: str
    window: Window
    champion_version: int | None

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

    def unknown(self, reason: str, **evidence: Any) -> tuple[Verdict, Verdict, Verdict]:
        """Say of data, drift and loss that they cannot be judged."""
        data = self.verdict("data", Condition.NO_DATA, reason, DATA_METHOD, evidence=evidence)
        return (
            data,
            replace(data, signal="drift", method=DRIFT_METHOD),
            replace(data, signal="loss", method=LOSS_METHOD),
        )


def data_break(texts: Texts, reference: Texts | None) -> str | None:
    """Say in words what is broken about a window's rows; None if nothing is.

    A log that never held the loss (an external server's) does not break by not holding it.
    """
    if texts.empty_share > MAX_NULL_SHARE:
        return f"{texts.empty_share:.0%} of the prompts are empty, more than {MAX_NULL_SHARE:.0%}"
    if reference is not None and reference.has_loss and texts.null_share > MAX_NULL_SHARE:
        return f"{texts.null_share:.0%} of the rows have no prompt_bits_per_byte, more than {MAX_NULL_SHARE:.0%}"
    return None


def judge_data(subject: Subject, texts: Texts, broken: str | None) -> Verdict:
    """Judge whether the window's rows can be judged at all."""
    worst = max(texts.empty_share, texts.null_share if broken and "bits_per_byte" in broken else 0.0)
    evidence: dict[str, Any] = {"rows": len(texts.prompts), "empty_share": texts.empty_share,
                                "null_share": texts.null_share}  # fmt: skip
    if broken is not None:
        evidence["data_break"] = broken
    return subject.verdict(
        "data",
        Condition.OK if broken is None else Condition.BAD,
        broken or f"{len(texts.prompts)} whole rows",
        DATA_METHOD,
        score=worst,
        limit=MAX_NULL_SHARE,
        evidence=evidence,
    )


def judge_drift(subject: Subject, report: DriftReport, spec: DriftSpec, *, evidence: dict[str, Any]) -> Verdict:
    """Judge the measured share of drifted columns."""
    drifted = [column.name for column in report.columns if column.drifted]
    if report.drift_share >= spec.max_drift_share:
        condition, limit, sign = Condition.BAD, spec.max_drift_share, "≥"
    elif report.drift_share >= spec.warn_drift_share:
        condition, limit, sign = Condition.WARN, spec.warn_drift_share, "≥"
    else:
        condition, limit, sign = Condition.OK, spec.max_drift_share, "<"
    compared = sum(column.p_value is not None for column in report.columns)
    names = f" ({', '.join(drifted)})" if drifted else ""
    return subject.verdict(
        "drift",
        condition,
        f"{len(drifted)} of {compared} columns drifted{names}: share {report.drift_share:.2f} {sign} {limit:.2f}",
        DRIFT_METHOD,
        score=report.drift_share,
        limit=spec.max_drift_share,
        evidence={
            "drift_share": report.drift_share,
            "columns": {
                column.name: {
                    "p_value": column.p_value,
                    "drifted": column.drifted,
                    "reference_mean": column.reference_mean,
                    "current_mean": column.current_mean,
                }
                for column in report.columns
            },
            **evidence,
        },
    )


def judge_loss(subject: Subject, texts: Texts, reference: Texts, spec: DriftSpec) -> Verdict:
    """Judge what the prompts cost the champion, against the reference.

    BAD when even the lower 97.5 % bound of the ratio reaches the limit, so that a window of few rows raises no alarm
    by chance; a ratio half the way to the limit is a warning.
    """
    here, there = texts.mean_bits_per_byte, reference.mean_bits_per_byte
    evidence = {
        "rows": len(texts.prompts),
        "reference_rows": len(reference.prompts),
        "window_bits_per_byte": here,
        "reference_bits_per_byte": there,
    }
    if here is None or there is None or there <= 0:
        side = "the window" if here is None else "the reference"
        return subject.verdict(
            "loss", Condition.NO_DATA, f"{side} has no prompt_bits_per_byte", LOSS_METHOD, evidence=evidence
        )
    ratio = here / there
    surely = ratio * (1 - SURE * math.hypot(texts.relative_error, reference.relative_error))
    warn = 1 + (spec.harm_ratio - 1) / 2
    if surely >= spec.harm_ratio:
        condition = Condition.BAD
    elif ratio >= warn:
        condition = Condition.WARN
    else:
        condition = Condition.OK
    return subject.verdict(
        "loss",
        condition,
        f"prompts cost {here:.2f} bits per byte, {ratio:.2f} times the reference's {there:.2f} "
        f"(surely {surely:.2f} times; harmful from {spec.harm_ratio:.2f} on)",
        LOSS_METHOD,
        score=ratio,
        limit=spec.harm_ratio,
        evidence={**evidence, "loss_ratio": ratio, "loss_ratio_at_least": surely},
    )
