"""Chooses how much above its reference the loss may lie: by replaying accepted windows, as `calibration` does. Pure."""

from collections.abc import Sequence
from math import inf, isfinite, log

import numpy as np

from monitors.counts.moments import Moments
from monitors.evidence.harm import TOLERANCES, highest_log_m
from monitors.profiles.past import LEAST_REPLAYED, QUIET_M, SPREADS, between, covers_days, first, halves


def loss_tolerance(
    losses: Sequence[Moments],
    *,
    hours: Sequence[int] | None = None,
    rows_per_user: float = 1.0,
    icc: float = 0.0,
) -> float:
    """Choose how much above its reference the loss may lie, as a share, from windows in the order of time.

    It is the smallest under which harm's M stays at or below 100 in both replays. It also covers the worst hour of the
    day plus `SPREADS` standard deviations between windows about their hour. If none does, it is the largest. `hours`
    are the windows' hours of the day. Without them, or with less than a week of each, all hours are held for alike.
    """
    limits = [1 + tolerance for tolerance in TOLERANCES]
    highest = np.full(len(limits), -inf)
    for reference, replayed in halves(losses):
        log_m = highest_log_m(sum(reference, Moments()), replayed, limits, rows_per_user=rows_per_user, icc=icc)
        highest = np.maximum(highest, log_m)
    effect = 1 + max(rows_per_user - 1, 0) * icc
    hours = hours if hours is not None and covers_days(hours) else [0] * len(losses)
    least = _usual_excess(losses, hours, effect)
    allowed = (highest <= log(QUIET_M)) & (np.array(TOLERANCES) >= least)
    return TOLERANCES[min(first(allowed), len(TOLERANCES) - 1)]


def _usual_excess(losses: Sequence[Moments], hours: Sequence[int], effect: float) -> float:
    """Give the worst hour's excess over the mean, plus the allowance for what moves about it."""
    whole = sum(losses, Moments())
    known = [(hour, loss) for hour, loss in zip(hours, losses, strict=True) if isfinite(loss.error)]
    if len(known) < LEAST_REPLAYED or not whole.mean or whole.mean <= 0:
        return 0.0
    hour_of = np.array([hour for hour, _ in known])
    ratios = np.array([loss.mean for _, loss in known], dtype=np.float64) / whole.mean
    noise = np.array([loss.error for _, loss in known]) ** 2 * effect / whole.mean**2
    spread = float(between(ratios[:, None], noise[:, None], np.ones((len(known), 1), dtype=bool), hour_of)[0])
    excesses = [float(ratios[hour_of == hour].mean()) - 1 for hour in set(hour_of.tolist())]
    return max(*excesses, 0.0) + SPREADS * spread
