"""The evidence of a replay over time: as a PNG, and as a few lines for a terminal."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.errors import ContractError
from monitors.evidence.e_detector import BAD_RUN_LENGTH, WARN_RUN_LENGTH
from monitors.replay.outcome import Backtest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAD, WARN = math.log10(BAD_RUN_LENGTH), math.log10(WARN_RUN_LENGTH)
_FLOOR = -1.0
"""Lower evidence is drawn here: it means nothing but "less than none"."""
_BLOCKS = " ▁▂▃▄▅▆▇█"
_STYLES = {Condition.OK: "green", Condition.WARN: "yellow", Condition.BAD: "red"}


def png(path: Path, result: Backtest, *, title: str) -> None:
    """Draw evidence and loss over time, with incidents, retrains and the shifts that are known.

    Raises:
        ContractError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _draw_evidence(upper, result)
    _draw_loss(lower, result)
    for axes in (upper, lower):
        _draw_marks(axes, result)
        axes.grid(visible=True, alpha=0.3)
    upper.legend(loc="upper left", fontsize=8)
    lower.set_xlabel("UTC", fontsize=9)
    upper.set_title(title, fontsize=11, parse_math=False)
    figure.autofmt_xdate()
    try:
        figure.savefig(path, format="png", dpi=110)
    except OSError as err:
        raise ContractError(f"--plot {path}: cannot be written: {err}") from err


def terminal(result: Backtest, *, width: int, height: int = 8) -> Text:
    """Draw the evidence as blocks: each column is the strongest of its windows, dots where nothing was judged."""
    width = max(min(width - 10, len(result.windows)), 1)
    bins = [result.windows[at * len(result.windows) // width : (at + 1) * len(result.windows) // width]
            for at in range(width)]  # fmt: skip
    tops = [max((window.verdicts["drift"] for window in those), key=_height) for those in bins]
    highest = max(BAD + 0.5, *(_height(top) for top in tops))
    drawn = Text()
    for row in range(height, 0, -1):
        low, high = (_FLOOR + (highest - _FLOOR) * step / height for step in (row - 1, row))
        limit = next((name for name, at in (("BAD ", BAD), ("WARN", WARN)) if low <= at < high), "    ")
        drawn.append(f"{limit} {high:4.1f} ", style="dim")
        for top in tops:
            filled = min(max((_height(top) - low) / (high - low), 0), 1)
            drawn.append(_BLOCKS[round(filled * 8)], style=_STYLES.get(top.condition, "dim"))
        drawn.append("\n")
    drawn.append(" " * 10)
    for top in tops:
        drawn.append("·" if _evidence(top) is None else "─", style="dim")
    start, end = (f"{at:%Y-%m-%d %H:%M}" for at in (result.windows[0].window.start, result.windows[-1].window.end))
    drawn.append(f"\n{'':10}{start}{end:>{max(width - len(start), len(end) + 2)}}\n", style="dim")
    return drawn


def _draw_evidence(axes: "Axes", result: Backtest) -> None:
    times = [judged.window.end for judged in result.windows]
    axes.step(
        times,  # type: ignore[arg-type]  # matplotlib takes datetimes; its annotations name numbers alone
        _values([judged.verdicts["drift"] for judged in result.windows]),
        where="pre",
        color="tab:blue",
        label="evidence",
        marker=".",
        markersize=3,
    )
    axes.axhline(BAD, color="tab:red", linestyle="--", linewidth=1, label=f"BAD: once in {BAD_RUN_LENGTH:,.0f} windows")
    axes.axhline(WARN, color="tab:orange", linestyle="--", linewidth=1, label=f"WARN: {WARN_RUN_LENGTH:,.0f} windows")
    axes.set_ylim(bottom=_FLOOR)
    axes.set_ylabel("log10 of the windows in which\nchance shows as much once", fontsize=9)


def _draw_loss(axes: "Axes", result: Backtest) -> None:
    losses = [judged.verdicts["loss"] for judged in result.windows]
    times = [judged.window.end for judged in result.windows]
    ratios = [loss.score if loss.score is not None else math.nan for loss in losses]
    axes.step(times, ratios, where="pre", color="tab:purple", marker=".", markersize=3)  # type: ignore[arg-type]
    limits = [loss.limit for loss in losses if loss.limit is not None]
    if limits:
        axes.axhline(limits[-1], color="tab:red", linestyle="--", linewidth=1)
    axes.set_ylabel("loss over the\nreference's", fontsize=9)


def _draw_marks(axes: "Axes", result: Backtest) -> None:
    last = result.windows[-1].window.end
    for number, shift in enumerate(result.score.shifts if result.score is not None else ()):
        label = "known shift" if number == 0 else None
        axes.axvspan(shift.start, shift.end, color="tab:gray", alpha=0.15, label=label)  # type: ignore[arg-type]
    for number, incident in enumerate(result.incidents):
        label = "incident" if number == 0 else None
        end = incident.closed_at or last
        axes.axvspan(incident.opened_at, end, color="tab:red", alpha=0.12, label=label)  # type: ignore[arg-type]
    retrains = [incident.retrain_at for incident in result.incidents if incident.retrain_at is not None]
    for number, at in enumerate(retrains):
        axes.axvline(at, color="black", linewidth=1.2, label="retrain" if number == 0 else None)  # type: ignore[arg-type]


def _values(verdicts: Sequence[Verdict]) -> list[float]:
    return [math.nan if (value := _evidence(verdict)) is None else max(value, _FLOOR) for verdict in verdicts]


def _evidence(verdict: Verdict) -> float | None:
    return verdict.score if verdict.condition.is_known else None


def _height(verdict: Verdict) -> float:
    value = _evidence(verdict)
    return _FLOOR if value is None else max(value, _FLOOR)
