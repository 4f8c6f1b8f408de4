"""How soon a shift of a known size would be called BAD: what a profile's tolerances cost. Pure."""

from collections.abc import Mapping, Sequence
from math import ceil, inf, isfinite, log10

import numpy as np

from monitors.counts.sketch import NumericSketch, middles
from monitors.evidence.e_detector import BAD_RUN_LENGTH, Detector, Reference

_HORIZON = 168
"""Windows that are looked ahead: a week of hours."""


def detectable(
    columns: Mapping[str, Reference], rows_per_window: int, *, shifts: Sequence[float] = (0.2, 0.5, 1.0)
) -> dict[float, int | None]:
    """Say after how many windows a shift of so many sd, in one column of numbers and nothing else, is BAD.

    The median over these columns, each moved in turn in windows that hold the reference's quantiles; None if that is
    over a week of hours, or no column holds numbers. Confirmation comes on top.
    """
    detector = Detector.of(columns)
    numeric = {
        name: reference.sketch
        for name, reference in columns.items()
        if isinstance(reference.sketch, NumericSketch) and reference.sketch.numbers
    }
    return {
        shift: _median([_delay(detector, name, sketch, shift, rows_per_window) for name, sketch in numeric.items()])
        for shift in shifts
    }


def _delay(detector: Detector, name: str, sketch: NumericSketch, shift: float, rows: int) -> float:
    """Give the windows until one column, moved by so many sd, is BAD; infinite beyond the horizon."""
    at = np.searchsorted(np.cumsum(sketch.counts), (np.arange(rows) + 0.5) / rows * sketch.numbers)
    moved = sketch.scale.mean + sketch.scale.sd * (middles(sketch.codes[at]) + shift)
    tally = detector.count({name: NumericSketch.of(moved, sketch.scale)})
    state = detector.start()
    for count in range(1, _HORIZON + 1):
        state = detector.advance(state, tally, rows_per_user=1)
        if detector.evidence(state).log10_m >= log10(BAD_RUN_LENGTH):
            return count
    return inf


def _median(delays: Sequence[float]) -> int | None:
    middle = float(np.median(delays)) if delays else inf
    return ceil(middle) if isfinite(middle) else None
