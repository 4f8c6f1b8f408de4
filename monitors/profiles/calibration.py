"""Chooses how much a column may move without being called changed: by replaying accepted windows. Pure.

Traffic moves by the hour and by the day, and only its own past tells how much. The windows are cut into two halves;
each is the reference of the other's replay, and the smallest tolerance is taken under which neither replay gathers
evidence worth speaking of. A year holds larger moves than a fortnight. So a step is added, and the
tolerance is at least some standard deviations of what moved from window to window beyond the noise of so many rows (the
between-window component of variance: Cochran, "Sampling Techniques", third edition, 1977, section 10.6).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, log, sqrt
from typing import NamedTuple

import numpy as np

from monitors.counts.sketch import Floats, Sketch, merge
from monitors.evidence.e_detector import BAD_RUN_LENGTH, EPS_GRID, Bools, Detector, Reference, Tally
from monitors.profiles.past import QUIET_M, SPREADS, between, covers_days, first, halves

MOST_EPS = 0.4
"""Largest tolerance, of a reference of a few dozen rows: its own error goes beyond the grid."""
HOUR_OF_DAY_EPS = 0.05
"""Where a column needs more than this, windows are compared with the same hour of the day."""


class Replayed(NamedTuple):
    """An accepted window: what calibration needs of it."""

    hour: int
    """Hour of the day, 0..23."""
    columns: Mapping[str, Sketch]
    rows_per_user: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How much each column may move, and what to expect of that."""

    eps: dict[str, float]
    """Per column, of `EPS_GRID`."""
    uses_hour_of_day: bool
    """Whether windows are to be compared with the same hour of the day."""
    windows: int
    """Windows that were replayed."""
    false_alarms_per_window: float
    """Expected: at most one in `BAD_RUN_LENGTH`, or what the replay had if that is more."""
    unsteady: tuple[str, ...]
    """Columns that move by more than the largest tolerance and will raise alarms; better excluded."""


def calibrate(windows: Sequence[Replayed], icc: Mapping[str, float]) -> Calibration:
    """Choose each column's tolerance from windows in the order of time.

    It is the smallest under which the column's M stays at or below 100 in both replays. One step is added if that is
    not the smallest of the grid, or if there was nothing to replay. It is never below `SPREADS` standard deviations of
    a share between windows, nor below 2 / sqrt(rows), four standard errors of a reference's share of a half. The spread
    between windows is taken about the same hour of the day if windows are to be compared with that.

    Raises:
        ContractError: a column changes its type or scale.
    """
    pooled = _calibrate(windows, icc, by_hour=False)
    worst = max(pooled.eps.values(), default=0.0)
    if worst <= HOUR_OF_DAY_EPS or not covers_days([window.hour for window in windows]):
        return pooled
    by_hour = _calibrate(windows, icc, by_hour=True)
    return by_hour if sum(by_hour.eps.values()) < sum(pooled.eps.values()) else pooled


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Replay:
    """Windows, counted by the detector of other windows."""

    detector: Detector
    rates: Mapping[int, Mapping[str, Sketch]]
    """The reference by hour of the day; empty where all hours are judged alike."""
    tallies: Sequence[tuple[int, Tally, float]]
    """Of each window its hour, its counts and its rows per user."""

    @classmethod
    def of(
        cls, reference: Sequence[Replayed], replayed: Sequence[Replayed], icc: Mapping[str, float], *, by_hour: bool
    ) -> "_Replay":
        columns = {
            name: Reference(sketch=sketch, eps=EPS_GRID[0], icc=icc.get(name, 0.0))
            for name, sketch in _merged(reference).items()
        }
        detector = Detector.of(columns)
        hours = sorted({window.hour for window in reference}) if by_hour else []
        return cls(
            detector=detector,
            rates={hour: _merged([window for window in reference if window.hour == hour]) for hour in hours},
            tallies=[(window.hour, detector.count(window.columns), window.rows_per_user) for window in replayed],
        )

    def log_m(self, eps: Mapping[str, float]) -> Floats:
        """Give each column's log M after each window, windows x columns."""
        pooled = self.detector.with_eps(eps)
        by_hour = {hour: pooled.with_rates(rates) for hour, rates in self.rates.items()}
        state, log_m = pooled.start(), np.empty((len(self.tallies), len(pooled.columns)))
        for at, (hour, tally, rows_per_user) in enumerate(self.tallies):
            state = by_hour.get(hour, pooled).advance(state, tally, rows_per_user=rows_per_user)
            log_m[at] = pooled.log_m_of_columns(state)
        return log_m


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Column:
    """What a column's tolerance is chosen from."""

    quiet: Bools
    """Whether no replay was loud, for each tolerance of `EPS_GRID`."""
    spread: float
    """The largest standard deviation between windows of an indicator's share."""
    error: float
    """Four standard errors of a share of a half in the reference, at most `MOST_EPS`."""

    def tolerance(self, *, replayed: bool) -> float:
        """Choose; without a replay, a step more than the least that spread and error allow."""
        last = len(EPS_GRID) - 1
        floor = min(first(np.array(EPS_GRID) >= max(self.error, SPREADS * self.spread)), last)
        least = first(self.quiet)
        at = max(least + (least > 0), floor) if replayed else floor + 1
        return max(EPS_GRID[min(at, last)], self.error)


def _calibrate(windows: Sequence[Replayed], icc: Mapping[str, float], *, by_hour: bool) -> Calibration:
    replays = [_Replay.of(*half, icc, by_hour=by_hour) for half in halves(windows) if _merged(half[0])]
    rows = _reference_rows(windows, icc, by_hour=by_hour)
    quiet = _quiet(replays, list(rows))
    spreads = _spreads(windows, icc, by_hour=by_hour) if replays else dict.fromkeys(rows, 0.0)
    columns = {
        name: _Column(
            quiet=quiet[name], spread=spreads[name], error=min(2 / sqrt(max(rows[name], 1)), MOST_EPS)
        )
        for name in sorted(rows)
    }  # fmt: skip
    eps = {name: column.tolerance(replayed=bool(replays)) for name, column in columns.items()}
    unsteady = tuple(name for name, column in columns.items() if not column.quiet[-1])
    alarms = sum(_alarms(replay.log_m(eps)) for replay in replays) if unsteady else 0
    return Calibration(
        eps=eps,
        uses_hour_of_day=by_hour,
        windows=len(windows),
        false_alarms_per_window=max(alarms / max(len(windows), 1), 1 / BAD_RUN_LENGTH),
        unsteady=unsteady,
    )


def _quiet(replays: Sequence[_Replay], names: Sequence[str]) -> dict[str, Bools]:
    """Say of each column, for each tolerance of `EPS_GRID`, whether its M stayed low in every replay that has it."""
    highest = {name: np.full(len(EPS_GRID), -inf) for name in names}
    for replay in replays:
        for step, tried in enumerate(EPS_GRID):
            log_m = replay.log_m(dict.fromkeys(replay.detector.columns, tried)).max(axis=0)
            for name, most in zip(replay.detector.columns, log_m.tolist(), strict=True):
                highest[name][step] = max(highest[name][step], most)
    return {name: log_m <= log(QUIET_M) for name, log_m in highest.items()}


def _spreads(windows: Sequence[Replayed], icc: Mapping[str, float], *, by_hour: bool) -> dict[str, float]:
    """Give, per column, the largest standard deviation between windows of an indicator's share."""
    replay = _Replay.of(windows, windows, icc, by_hour=False)
    detector = replay.detector
    hours = np.array([hour if by_hour else 0 for hour, _, _ in replay.tallies])
    hits = np.array([tally.hits for _, tally, _ in replay.tallies])
    rows = np.array([tally.rows for _, tally, _ in replay.tallies])
    effects = np.array([detector.effects(rows_per_user) for _, _, rows_per_user in replay.tallies])
    noise = detector.share * (1 - detector.share) * effects / np.maximum(rows, 1)
    by_indicator = between(hits / np.maximum(rows, 1), noise, rows > 0, hours)
    return dict(zip(detector.columns, detector.largest(by_indicator).tolist(), strict=True))


def _alarms(log_m: Floats) -> int:
    """Count the times that the whole, of windows x columns, begins to be BAD."""
    bad = np.logaddexp.reduce(log_m, axis=1) - log(log_m.shape[1]) >= log(BAD_RUN_LENGTH)
    return int((np.diff(bad.astype(int), prepend=0) > 0).sum())


def _reference_rows(windows: Sequence[Replayed], icc: Mapping[str, float], *, by_hour: bool) -> dict[str, float]:
    """Give, per column, the rows that a share of the reference rests on, clusters discounted."""
    rows: dict[str, dict[int, float]] = {}
    for window in windows:
        for name, sketch in window.columns.items():
            effect = 1 + max(window.rows_per_user - 1, 0) * icc.get(name, 0.0)
            of_hour = rows.setdefault(name, {})
            hour = window.hour if by_hour else 0
            of_hour[hour] = of_hour.get(hour, 0.0) + sketch.present / effect
    return {name: float(np.median(list(of_hour.values()))) for name, of_hour in rows.items()}


def _merged(windows: Sequence[Replayed]) -> dict[str, Sketch]:
    names = sorted({name for window in windows for name in window.columns})
    return {name: merge(window.columns[name] for window in windows if name in window.columns) for name in names}
