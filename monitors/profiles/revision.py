"""Makes the next revision of a profile from windows that were found good. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import numpy as np

from monitors.counts.rollup import WindowSketch, add_up
from monitors.counts.sketch import Sketch
from monitors.evidence.e_detector import EPS_GRID
from monitors.evidence.kind_costs import split
from monitors.profiles.calibration import Replayed, calibrate
from monitors.profiles.gathered import Gathered
from monitors.profiles.loss_tolerance import loss_tolerance
from monitors.profiles.profile import Profile
from monitors.season.calendar import Calendar
from monitors.season.lessons import Lessons, Material, learn_season

T = TypeVar("T")


def next_revision(
    present: Profile, material: Gathered, effective_from: datetime, source: str, calendar: Calendar
) -> Profile:
    """Make the next revision: with a season where the spec's calendar has one, otherwise by replaying both halves."""
    total = add_up([*material.days, *material.windows])
    if calendar.is_seasonal:
        return _seasonal(present, material, total, effective_from, source, calendar)
    replayed = [Replayed(window.window.start.hour, window.columns, window.rows_per_user) for window in material.windows]
    calibration = calibrate(replayed, material.icc)
    return replace(
        present,
        revision=present.revision + 1,
        effective_from=effective_from,
        source=source,
        rows=total.rows,
        encoding=material.encoding,
        reference=total.columns,
        by_hour=_by_hour(material.windows, total) if calibration.uses_hour_of_day else {},
        eps=calibration.eps,
        icc=material.icc,
        usual=material.usual,
        loss_tolerance=loss_tolerance(
            [window.loss for window in material.windows],
            hours=[window.window.start.hour for window in material.windows],
            rows_per_user=total.rows_per_user,
            icc=material.icc.get("prompt_bits_per_byte", 0.0),
        ),
        windows=len(material.windows),
        unsteady=calibration.unsteady,
        false_alarms_per_window=calibration.false_alarms_per_window,
    )


def _by_hour(windows: Sequence[WindowSketch], total: WindowSketch) -> dict[int, dict[str, Sketch]]:
    """Add up the windows of each hour of the day; a column that an hour never saw is that of all hours."""
    hours = sorted({window.window.start.hour for window in windows})
    of_hour = {hour: add_up([window for window in windows if window.window.start.hour == hour]) for hour in hours}
    return {hour: {**total.columns, **some.columns} for hour, some in of_hour.items()}


def _seasonal(
    present: Profile,
    material: Gathered,
    total: WindowSketch,
    effective_from: datetime,
    source: str,
    calendar: Calendar,
) -> Profile:
    """Make the next revision with what each hour of the week shows, and tolerances by leaving out whole days."""
    windows = material.windows
    relearned = material.encoding.kinds != present.encoding.kinds
    made = replace(
        present,
        revision=present.revision + 1,
        effective_from=effective_from,
        source=source,
        rows=total.rows,
        encoding=material.encoding,
        reference=total.columns,
        by_hour={},
        eps=dict.fromkeys(total.columns, EPS_GRID[0]),
        icc=material.icc,
        usual=material.usual,
        kinds=total.kinds if relearned or not present.kinds else present.kinds,
        kind_rows=total.kind_rows if relearned or not present.kinds else present.kind_rows,
        kinds_windows=material.kinds_windows,
        calendar=calendar,
        windows=len(windows),
        unsteady=(),
        season=None,
    )
    lessons = _lessons(made, windows, calendar)
    made = replace(
        made, season=lessons.season, eps=lessons.eps, unsteady=lessons.unsteady,
        loss_tolerance=lessons.loss_tolerance, growth_tolerance=lessons.growth_tolerance,
    )  # fmt: skip
    same = present.encoding.digest == material.encoding.digest and made.size == present.size
    return replace(made, continues=same and present.season is not None)


def _lessons(made: Profile, windows: Sequence[WindowSketch], calendar: Calendar) -> Lessons:
    """Learn the season of windows, counted and costed as a profile says."""
    detector, costs = made.pooled(made.reference), made.kind_costs
    icc = made.icc.get("prompt_bits_per_byte", 0.0)
    starts = [window.window.start for window in windows]
    return learn_season(
        Material(
            detector=detector,
            tallies=[detector.count(window.columns) for window in windows],
            rows_per_user=[window.rows_per_user for window in windows],
            losses=[
                split(window.kinds, window.kind_rows, costs, effect=1 + max(window.rows_per_user - 1, 0) * icc)
                if costs is not None and window.kinds
                else None
                for window in windows
            ],
            slots=np.array(calendar.slots(starts)),
            days=np.array([calendar.day(at) for at in starts]),
        ),
        calendar.classes,
    )


def without(present: Profile, excluded: Sequence[str], effective_from: datetime) -> Profile:
    """Make the next revision: the same, without columns that the spec has come to exclude."""

    def left(columns: Mapping[str, T]) -> dict[str, T]:
        return {name: value for name, value in columns.items() if name not in excluded}

    kept = tuple(column for column in present.encoding.columns if column.name not in excluded)
    return replace(
        present,
        revision=present.revision + 1,
        effective_from=effective_from,
        source=f"{present.source}, without {', '.join(excluded)}",
        encoding=replace(present.encoding, columns=kept),
        reference=left(present.reference),
        by_hour={hour: left(columns) for hour, columns in present.by_hour.items()},
        eps=left(present.eps),
        icc=left(present.icc),
        unsteady=tuple(name for name in present.unsteady if name not in excluded),
    )
