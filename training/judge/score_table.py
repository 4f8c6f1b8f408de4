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
    said = [f"# Version {challenger} against version {champion}: {decision.decision}", "", cell(decision.reason), ""]
    if decision.plan is not None:
        said += [f"Said before the look: {decision.plan.reason}.", ""]
    if decision.recent is not None:
        said += ["Bits per byte, paired by document:", "", HEAD, *(_line(*each) for each in intervals(judged)), ""]
    if judged.measured is not None and judged.measured.kinds is not None:
        said += [KINDS, *(f"| {name} | {before} | {after} |" for name, before, after in judged.measured.kinds.lines)]
        if judged.measured.kinds.differ:
            said += ["", OTHER_KIND]
        said += [""]
    if judged.measured is not None:
        said += [METRICS]
        for name, each in judged.measured.metrics.items():
            between = "" if each.low is None else f"{each.low:.4g} to {each.high:.4g}"
            p_value = "" if each.p_value is None else f"{each.p_value:.3f}"
            said.append(f"| {cell(name)} | {each.champion:.4g} | {each.challenger:.4g} | {between} | {p_value} |")
        said += ["", f"{judged.measured.documents_per_second:.0f} documents per second were scored."]
    return "\n".join(said) + "\n"


def as_metrics(judged: Trial) -> dict[str, float]:
    """Give the figures under names that MLflow takes."""
    found: dict[str, float] = {}
    for name, each in intervals(judged):
        key = f"evaluation/{_name(name)}"
        found |= {
            f"{key}/champion_bits_per_byte": each.champion,
            f"{key}/challenger_bits_per_byte": each.challenger,
            f"{key}/change": each.change,
            f"{key}/change_low": each.low,
            f"{key}/change_high": each.high,
        }
    if judged.measured is not None:
        for name, scores in judged.measured.metrics.items():
            found |= {
                f"evaluation/{_name(name)}/champion": scores.champion,
                f"evaluation/{_name(name)}/challenger": scores.challenger,
            }
        found["evaluation/documents_per_second"] = judged.measured.documents_per_second
    return found


def intervals(judged: Trial) -> list[tuple[str, Interval]]:
    """List the slices' intervals, recent and old first."""
    decision = judged.decision
    found = {"recent": decision.recent, "old": decision.old, **decision.protected, "archived": decision.archived}
    return [(name, each) for name, each in found.items() if each is not None]


def cell(text: str) -> str:
    """Make text safe for a cell of a Markdown table that is shown as HTML."""
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(safe.replace("|", "\\|").split())


def _line(name: str, each: Interval) -> str:
    label = "former champion against challenger, recent" if name == "archived" else name
    return (
        f"| {cell(label)} | {each.documents} | {each.champion:.3f} | {each.challenger:.3f} | {each.change:+.1%} "
        f"| {each.low:+.1%} to {each.high:+.1%} |"
    )


def _name(name: str) -> str:
    """Make a slice's or metric's name one part of MLflow's path-like names: users' data may hold `a/../b`."""
    safe = "".join(letter if letter.isalnum() or letter in "_-. " else "_" for letter in name)[:100]
    return safe if safe.strip(". ") else safe.replace(".", "_") + "_"
