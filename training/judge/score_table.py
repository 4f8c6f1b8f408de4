"""An evaluation as a table for people, and as figures for MLflow. Pure."""

from training.judge.paired import Interval
from training.judge.trial import Trial

HEAD = "| slice | documents | champion | challenger | change | interval |\n|---|---:|---:|---:|---:|---|"
METRICS = "| metric | champion | challenger | interval of the challenger | p |\n|---|---:|---:|---|---:|"

KINDS = "| what it is | champion | challenger |\n|---|---:|---:|"
OTHER_KIND = (
    "The two are of different kinds. Bits per byte of the same texts compare them all the same; perplexity, which "
    "counts by the token, does not."
)


def as_markdown(judged: Trial, *, champion: int, challenger: int) -> str:
    """Give decision and scores as Markdown: bits per byte by slice with bounds, then every other metric."""
    decision = judged.decision
    lines = [f"# Version {challenger} against version {champion}: {decision.decision}", "", cell(decision.reason), ""]
    if decision.plan is not None:
        lines += [f"Said before the look: {decision.plan.reason}.", ""]
    if decision.recent is not None:
        lines += ["Bits per byte, paired by document:", "", HEAD, *(_line(*row) for row in intervals(judged)), ""]
    if judged.measured is not None and judged.measured.kinds is not None:
        lines += [KINDS, *(f"| {name} | {before} | {after} |" for name, before, after in judged.measured.kinds.lines)]
        if judged.measured.kinds.differ:
            lines += ["", OTHER_KIND]
        lines += [""]
    if judged.measured is not None:
        lines += [METRICS]
        for name, scores in judged.measured.metrics.items():
            between = "" if scores.low is None else f"{scores.low:.4g} to {scores.high:.4g}"
            p_value = "" if scores.p_value is None else f"{scores.p_value:.3f}"
            lines.append(f"| {cell(name)} | {scores.champion:.4g} | {scores.challenger:.4g} | {between} | {p_value} |")
        lines += ["", f"{judged.measured.documents_per_second:.0f} documents per second were scored."]
    return "\n".join(lines) + "\n"


def as_metrics(judged: Trial) -> dict[str, float]:
    """Give the figures under names that MLflow takes."""
    metrics: dict[str, float] = {}
    for name, interval in intervals(judged):
        key = f"evaluation/{_name(name)}"
        metrics |= {
            f"{key}/champion_bits_per_byte": interval.champion,
            f"{key}/challenger_bits_per_byte": interval.challenger,
            f"{key}/change": interval.change,
            f"{key}/change_low": interval.low,
            f"{key}/change_high": interval.high,
        }
    if judged.measured is not None:
        for name, scores in judged.measured.metrics.items():
            metrics |= {
                f"evaluation/{_name(name)}/champion": scores.champion,
                f"evaluation/{_name(name)}/challenger": scores.challenger,
            }
        metrics["evaluation/documents_per_second"] = judged.measured.documents_per_second
    return metrics


def intervals(judged: Trial) -> list[tuple[str, Interval]]:
    """List the slices' intervals, recent and old first."""
    decision = judged.decision
    by_slice = {"recent": decision.recent, "old": decision.old, **decision.protected, "archived": decision.archived}
    return [(name, interval) for name, interval in by_slice.items() if interval is not None]


def cell(text: str) -> str:
    """Make text safe for a cell of a Markdown table that is shown as HTML."""
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(safe.replace("|", "\\|").split())


def _line(name: str, score: Interval) -> str:
    label = "former champion against challenger, recent" if name == "archived" else name
    return (
        f"| {cell(label)} | {score.documents} | {score.champion:.3f} | {score.challenger:.3f} | {score.change:+.1%} "
        f"| {score.low:+.1%} to {score.high:+.1%} |"
    )


def _name(name: str) -> str:
    """Make a slice's or metric's name one part of MLflow's path-like names: users' data may hold `a/../b`."""
    safe = "".join(letter if letter.isalnum() or letter in "_-. " else "_" for letter in name)[:100]
    return safe if safe.strip(". ") else safe.replace(".", "_") + "_"
