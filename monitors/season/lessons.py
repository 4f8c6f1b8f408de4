"""Learns a season and its tolerances from accepted windows: of what is watched for drift, and of the loss. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt

import numpy as np

from monitors.counts.sketch import Floats
from monitors.evidence.e_detector import EPS_GRID, Detector, Tally
from monitors.evidence.harm import TOLERANCES, Point, highest
from monitors.evidence.kind_costs import Split
from monitors.season.growth import growth_tolerance
from monitors.season.season import Ints, Season, Windows
from monitors.season.tolerance import QUIET_LOG, Learned, figures_of, replayed

LOSS_FIGURES = 3
"""What known kinds cost, what new ones add, and their share: behind the detector's indicators."""
_UNKNOWN = Point(1.0, float("inf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Accepted windows in the order of time, counted by one detector."""

    detector: Detector
    tallies: Sequence[Tally]
    rows_per_user: Sequence[float]
    losses: Sequence[Split | None]
    """None where a window has no loss, or kinds are not known."""
    slots: Ints
    days: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """What was learned."""

    season: Season
    eps: Mapping[str, float]
    """Per column: how far a share may lie outside what its hour shows."""
    unsteady: tuple[str, ...]
    """Columns that move by more than the largest tolerance, and are better excluded."""
    loss_tolerance: float
    """How much more known kinds of prompts may cost than is usual, as a share."""
    growth_tolerance: float
    """How far their share may lie above what is usual at an hour."""


def learn_season(material: Material, classes: tuple[int, ...]) -> Lessons:
    """Learn from windows; `classes` gives each kind of day its class."""
    detector = material.detector
    values, weights, noise = figures_of(detector, material.tallies, material.rows_per_user)
    points = [_points(loss) for loss in material.losses]
    loss_values, loss_weights, loss_noise = _figures(points)
    columns = np.repeat(np.arange(len(detector.columns) + LOSS_FIGURES), [*detector.widths, *[1] * LOSS_FIGURES])
    windows = Windows(
        values=np.hstack([values, loss_values]), weights=np.hstack([weights, loss_weights]),
        noise=np.hstack([noise, loss_noise]), slots=material.slots, days=material.days,
    )  # fmt: skip
    learned = Learned.of(windows, classes, columns)
    eps, unsteady = _tolerances(detector, learned)
    return Lessons(
        season=learned.season,
        eps=eps,
        unsteady=unsteady,
        loss_tolerance=_loss_tolerance(learned, points),
        growth_tolerance=growth_tolerance(material.losses, material.slots, material.days, classes),
    )


def _points(by_kind: Split | None) -> tuple[Point, ...]:
    if by_kind is None:
        return (_UNKNOWN,) * LOSS_FIGURES
    share = (by_kind.grown.hits + 0.5) / (by_kind.grown.rows + 1)
    error = sqrt(share * (1 - share) / max(by_kind.grown.rows, 1))
    return by_kind.same, by_kind.new, Point(by_kind.grown.value, error)


def _figures(points: Sequence[tuple[Point, ...]]) -> tuple[Floats, Floats, Floats]:
    values = np.array([[point.value for point in of_window] for of_window in points])
    noise = np.array([[point.error**2 for point in of_window] for of_window in points])
    known = np.isfinite(noise)
    noise = np.where(known, np.maximum(noise, 1e-12), 1.0)
    return np.where(known, values, 1.0), np.where(known, 1 / noise, 0.0), noise


def _tolerances(detector: Detector, learned: Learned) -> tuple[dict[str, float], tuple[str, ...]]:
    """Choose each column's tolerance: from the spread between days up, until no replay of it is loud."""
    grid, last = np.array(EPS_GRID), len(EPS_GRID) - 1
    starts = np.cumsum(detector.widths) - detector.widths
    at = np.minimum(np.searchsorted(grid, np.minimum(learned.spread[starts], grid[-1])), last)
    loud = np.ones(len(at), dtype=bool)
    while loud.any():
        tried = detector.with_eps(dict(zip(detector.columns, grid[at].tolist(), strict=True)))
        loud = replayed(tried, learned) > QUIET_LOG
        if not (loud & (at < last)).any():
            break
        at = np.where(loud, np.minimum(at + 1, last), at)
    names = np.array(detector.columns)
    return dict(zip(detector.columns, grid[at].tolist(), strict=True)), tuple(names[loud].tolist())


def _loss_tolerance(learned: Learned, points: Sequence[tuple[Point, ...]]) -> float:
    """Choose how much more than usual known kinds may cost."""
    place = -LOSS_FIGURES
    seen = []
    for of_day, _, high in learned.days():
        for window, most in zip(np.flatnonzero(of_day).tolist(), high[:, place].tolist(), strict=True):
            point = points[window][0]
            seen.append(Point(1 + point.value - max(most, 1.0) if isfinite(point.error) else 1.0, point.error))
    quiet = highest(seen, [1 + tolerance for tolerance in TOLERANCES]) <= QUIET_LOG
    allowed = quiet & (np.array(TOLERANCES) >= min(float(learned.spread[place]), TOLERANCES[-1]))
    return TOLERANCES[int(np.argmax(allowed)) if allowed.any() else len(TOLERANCES) - 1]
