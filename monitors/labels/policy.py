"""From the scores that people gave to a verdict on a version's answers. Pure.

What is compared is the badness of the answers, in sums per window, by the confidence sequence of `harm`.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.windows import Window
from datasets_defs.spec.signals import LabelSpec
from datasets_defs.store.label_log import LabelReference, LabelScores
from monitors.counts.moments import Moments
from monitors.drift.subject import Subject
from monitors.drift.whole_loss import harm_condition
from monitors.evidence.harm import Harm, harm

METHOD = "restarted confidence sequence on the badness of labelled answers over the reference's"
_LEAST_SPREAD = 1e-3


def badness(scores: LabelScores, better: str) -> Moments:
    """Give the moments of 1 - score where higher is better, or of the score itself; every label weighs the same."""
    n, total, squares = float(scores.labels), scores.total, scores.squares
    if better == "higher":
        total, squares = n - total, n - 2 * total + squares
    total, squares = max(total, 0.0), max(squares, 0.0)
    return Moments(rows=scores.labels, w=n, wx=total, w2=n, w2x=total, w2x2=squares)


def base(scores: LabelScores, better: str) -> Moments:
    """Give the moments of a reference's badness; without any, as if one wholly bad label were in it.

    Against no badness at all the next bad label would be infinitely worse.
    """
    moments = badness(scores, better)
    return moments if moments.wx > 0 else moments + Moments.of([1.0])


def steadied(window: Moments, reference: Moments) -> Moments:
    """Take a window's labels to spread at least as the reference's do.

    A window with nothing but good labels would otherwise be sure beyond measure, and outweigh all before it. More
    spread than there is only lowers the evidence.
    """
    mean, there = window.wx / window.w, reference.wx / reference.w
    spread = max(reference.w2x2 / reference.w2 - there * there, (_LEAST_SPREAD * there) ** 2)
    return replace(window, w2x2=max(window.w2x2, window.w2 * (mean * mean + spread)))


def judge_label(
    subject: Subject,
    spec: LabelSpec,
    stretch: Window,
    scores: LabelScores,
    reference: LabelReference,
    earlier: Sequence[LabelScores],
    *,
    may_wait: bool,
) -> Verdict:
    """Judge the labels of one stretch of the log, whose last window is the one that is due.

    `earlier` are the scores of the stretches before it, oldest first. With `may_wait` a stretch with too few labels is
    judged again together with the next window.
    """
    signal, due = f"label:{spec.name}", span(stretch)
    evidence = _counted(stretch, scores, reference)
    if scores.labels < spec.min_labels:
        more = "; judged again with the next window's" if may_wait else ""
        reason = f"{scores.labels} of the {spec.min_labels} labels needed, of {due}{left_out(scores)}{more}"
        return subject.verdict(signal, Condition.NO_DATA, reason, METHOD, evidence={**evidence, "waits": may_wait})
    there = base(reference.scores, spec.better)
    windows = [steadied(badness(stretch_scores, spec.better), there) for stretch_scores in (*earlier, scores)]
    figure = harm(there, windows, limit=spec.harm_ratio, rows_per_user=scores.labels_per_user, icc=reference.icc)
    if figure is None:
        reason = f"the reference's {reference.scores.labels} labels are too few to compare with"
        return subject.verdict(signal, Condition.NO_DATA, reason, METHOD, evidence=evidence)
    evidence |= {
        "ratio_at_least": figure.at_least,
        "log10_m": figure.log10_m,
        "scores": [scores.labels, scores.total, scores.squares],
        "scores_of": [stretch.start.isoformat(), stretch.end.isoformat()],
    }
    means = f"score {scores.mean:.3f}, the reference {reference.scores.mean:.3f}"
    reason = f"{scores.labels} labels of {due} {means}: {_compared(figure, spec)}{left_out(scores)}"
    return subject.verdict(
        signal, harm_condition(figure, spec.harm_ratio), reason, METHOD,
        score=figure.ratio, limit=spec.harm_ratio, evidence=evidence,
    )  # fmt: skip


def _counted(stretch: Window, scores: LabelScores, reference: LabelReference) -> dict[str, Any]:
    """Give the evidence that there is however few the labels are."""
    return {
        "stretch": span(stretch),
        "labels": scores.labels,
        "wrong": scores.wrong,
        "mean_score": scores.mean,
        "reference_score": reference.scores.mean,
    }


def _compared(figure: Harm, spec: LabelSpec) -> str:
    """Say in words how much worse the answers are than the reference's."""
    measured = "1 - score" if spec.better == "higher" else "the score"
    return (
        f"{measured} is {figure.ratio:.2f} times the reference's (surely {figure.at_least:.2f} times; harmful from "
        f"{spec.harm_ratio:.2f} on)"
    )


def judged_scores(verdicts: Sequence[Verdict], version: int, *, until: datetime) -> list[tuple[Window, LabelScores]]:
    """Take the scores of earlier stretches out of the verdicts on them (newest first); give them oldest first.

    Stretches that overlap a later one's are left out, so that no label counts twice.
    """
    stretches: list[tuple[Window, LabelScores]] = []
    for verdict in verdicts:
        if verdict.champion_version != version or "scores" not in verdict.evidence:
            continue
        start, end = (datetime.fromisoformat(at) for at in verdict.evidence["scores_of"])
        if end > (stretches[-1][0].start if stretches else until):
            continue
        labels, total, squares = verdict.evidence["scores"]
        stretches.append((Window(start, end), LabelScores(labels=labels, total=total, squares=squares)))
    return stretches[::-1]


def left_out(scores: LabelScores) -> str:
    """Say in words which scores count for nothing."""
    return f"; {scores.wrong} more are no numbers from 0 to 1 and left out" if scores.wrong else ""


def span(stretch: Window) -> str:
    """Say in words when a stretch was."""
    return f"{stretch.start:%Y-%m-%d %H:%M:%S}..{stretch.end:%Y-%m-%d %H:%M:%S}Z"
