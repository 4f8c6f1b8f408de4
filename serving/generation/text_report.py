"""What a run of `generate_texts` came to: counts, and samples of each outcome, as Markdown. Pure."""

from collections.abc import Mapping, Sequence

from datasets_defs.store.generated_texts import StoredText, TextRun
from serving.generation.review import plainly

SAMPLES = 3
"""Texts of each state that a report shows."""
_EXCERPT = 400


def report_of(
    run: TextRun,
    states: Mapping[str, int],
    faults: Mapping[str, int],
    samples: Mapping[str, Sequence[StoredText]],
) -> str:
    """Write the report."""
    figures = dict(run.figures)
    unusable = figures.pop("unusable", {})
    lines = [
        f"# Texts of {run.model}",
        "",
        f"Run `{run.id}`, planned {run.planned_at:%Y-%m-%d %H:%M}Z: {run.why}. Asked: {run.asked_model}"
        + (f", version {run.version}." if run.version is not None else "."),
        "",
        *([f"**It stopped early.** {plainly(run.stopped)}", ""] if run.stopped else []),
        *_table("Figure", {**figures, "tokens": run.tokens, "cost": f"{run.cost:.4g}"}),
        *_table("State", states),
        *(_table("What was wrong with answers", faults) if faults else []),
        *(_table("Topics that gave no prompt", unusable) if unusable else []),
    ]
    for state, texts in samples.items():
        lines += [f"## {state}: {states.get(state, 0)}", ""] if texts else []
        for text in texts:
            lines += [*_sample(text), ""]
    return "\n".join(lines) + "\n"


def _table(title: str, rows: Mapping[str, object]) -> list[str]:
    head = [f"| {title} | |", "|---|---|"]
    return [*head, *(f"| {plainly(str(name))} | {plainly(str(value))} |" for name, value in rows.items()), ""]


def _sample(text: StoredText) -> list[str]:
    excerpt = " ".join((text.completion or "").split())[:_EXCERPT]
    why = "; ".join(text.reasons)
    return [
        f"- **{plainly(' '.join(text.prompt.split())[:200])}**",
        f"  {plainly(excerpt) or '(no text)'}",
        f"  *{plainly(why)}*",
    ]


def summary(model: str, states: Mapping[str, int], stopped: str | None) -> str:
    """Say in one sentence what a run came to."""
    counts = ", ".join(f"{count} {state}" for state, count in states.items()) or "no prompt was asked"
    return f"{model}: {counts}" + (f"; stopped early: {stopped}" if stopped else "")
