"""The plots of a model card: how an evaluation changed each slice, and the loss curves of the training."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from datasets_defs.store.evaluations import Evaluation


def plots(evaluations: Sequence[Evaluation], curves: Mapping[str, Sequence[tuple[int, float]]]) -> dict[str, str]:
    """Draw the newest evaluation's changes and the loss curves, each a PNG in base64; none where there is nothing."""
    drawn = {}
    if evaluations and (changes := intervals(evaluations[-1].scores)):
        drawn["change of bits per byte by slice"] = _changes_plot(changes)
    if long := {name: points for name, points in curves.items() if len(points) > 1}:
        drawn["loss curves"] = _curves_plot(long)
    return drawn


def intervals(scores: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Take the slices, each with its interval of the change, out of an evaluation's scores."""
    return {name: part for name, part in scores.items() if isinstance(part, Mapping) and "change" in part}  # type: ignore[misc]


def _changes_plot(changes: Mapping[str, Mapping[str, Any]]) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + 0.4 * len(changes)), layout="constrained")
    axes = figure.subplots()
    for place, interval in enumerate(list(changes.values())[::-1]):
        low, high = 100 * (interval["change"] - interval["low"]), 100 * (interval["high"] - interval["change"])
        axes.errorbar(100 * interval["change"], place, xerr=[[low], [high]], fmt="o", capsize=4, color="#1f6feb")
    axes.axvline(0, color="#888", linewidth=1)
    axes.set_yticks(range(len(changes)), list(changes)[::-1], parse_math=False)
    axes.set_xlabel("change of bits per byte, per cent (less is better)")
    return _png(figure)


def _curves_plot(curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        axes.plot([step for step, _ in points], [value for _, value in points], label=name)
    axes.set_xlabel("step")
    axes.legend()
    return _png(figure)


def _png(figure: Any) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100, metadata={"Software": None})
    return base64.b64encode(content.getvalue()).decode()
