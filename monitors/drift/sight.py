"""How much a window could have seen: the smallest changes that its rows alone would have shown. Pure."""

from collections.abc import Mapping
from math import inf, log, sqrt
from typing import Any

from datasets_defs.spec.signals import DriftSpec
from monitors.counts.rollup import WindowSketch
from monitors.evidence.e_detector import BAD_RUN_LENGTH, Detector
from monitors.profiles.profile import Profile

_A_SHARE = 0.4
"""A shift of one standard deviation moves the share below the median by about so much (the normal density at 0)."""


def sight_of(
    sketch: WindowSketch, profile: Profile, spec: DriftSpec, detector: Detector, *, learning: str | None
) -> Mapping[str, Any]:
    """Say how far a window of so many rows sees: `learning`, `thin` (fewer rows than `min_rows`) or `good`.

    `drift_sd` is the shift of a typical column, in standard deviations, that would be BAD in this window alone.
    `loss_ratio` is the multiple of the usual loss that would be. A share or a mean is told from its limit when the rows
    times half the squared distance, in standard deviations, reach the log of the run length. Lasting changes that are
    smaller are found later, as the evidence of windows gathers.
    """
    needed = 2 * log(BAD_RUN_LENGTH * max(len(detector.columns), 1))
    rows = sketch.rows / float(detector.effects(sketch.rows_per_user).mean())
    share = float(sorted(detector.eps)[len(detector.eps) // 2]) + sqrt(needed * 0.25 / max(rows, 1))
    error = sketch.loss.relative_error
    ratio = max(spec.harm_ratio, 1 + profile.loss_tolerance) + sqrt(needed) * error if error < inf else None
    state = "learning" if learning is not None else "thin" if sketch.rows < spec.min_rows else "good"
    return {"state": state, "drift_sd": round(share / _A_SHARE, 3), "loss_ratio": ratio and round(ratio, 3)}
