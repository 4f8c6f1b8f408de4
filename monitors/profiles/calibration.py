"""Chooses how much a column, or the loss, may move without being called changed: by replaying accepted windows. Pure.

Traffic moves by the hour and by the day, and only its own past tells how much. The windows are cut into two halves;
each is the reference of the other's replay, and the smallest tolerance is taken under which neither replay gathers
evidence worth speaking of. A year holds larger moves than a fortnight, hence a step on top, and a tolerance of at least
some standard deviations of what moved from window to window beyond the noise of so many rows (the between-window
component of variance: Cochran, "Sampling Techniques", 3rd ed. 1977, section 10.6).
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf, isfinite, log, log10, sqrt
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitors.counts.moments import Moments
from monitors.counts.sketch import Floats, NumericSketch, Sketch, merge, middles
from monitors.evidence.e_detector import BAD_RUN_LENGTH, EPS_GRID, Detector, Reference, Tally
from monitors.evidence.harm import TOLERANCES, highest_log_m

QUIET_M = 100.0
"""Evidence up to which a replay counts as quiet."""
MOST_EPS = 0.4
"""Largest tolerance, of a reference of a few dozen rows: its own error goes beyond the grid."""
LEAST_WINDOWS = 4
"""With fewer there is nothing to replay."""
HOUR_OF_DAY_DAYS = 7
HOUR_OF_DAY_EPS = 0.05
"""Where a column needs more than this, windows are compared with the same hour of the day."""
SPREADS = 4.0
"""Standard deviations between windows, of a share or of the loss, that are tolerated: what a year holds beside a
fortnight."""
NOISE_ERRORS = 3.0
"""Standard errors that the noise's variance is allowed, so that noise alone widens no tolerance."""
UNKNOWN_ICC = 0.05
"""Taken where users come back too seldom to tell."""
LEAST_REPEATS = 30
_HORIZON = 168
_T = TypeVar("_T")


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

    It is the smallest under which the column's M stays at or below 100 in both replays; a step more if that is not the
    smallest of the grid, or if there was nothing to replay; and never below `SPREADS` standard deviations of a share
    between windows, nor below 2 / sqrt(rows), four standard errors of a reference's share of a half. The spread between
    windows is taken about the same hour of the day if windows are to be compared with that.

    Raises:
        ContractError: a column changes its type or scale.
    """
    pooled = _calibrate(windows, icc, by_hour=False)
    worst = max(pooled.eps.values(), default=0.0)
    if worst <= HOUR_OF_DAY_EPS or not _covers_days([each.hour for each in windows]):
        return pooled
    by_hour = _calibrate(windows, icc, by_hour=True)
    return by_hour if sum(by_hour.eps.values()) < sum(pooled.eps.values()) else pooled


def loss_tolerance(
    losses: Sequence[Moments],
    *,
    hours: Sequence[int] | None = None,
    rows_per_user: float = 1.0,
    icc: float = 0.0,
) -> float:
    """Choose how much above its reference the loss may lie, as a share, from windows in the order of time.

    The smallest under which harm's M stays at or below 100 in both replays, and which covers the worst hour of the day
    plus `SPREADS` standard deviations between windows about their hour; the largest if none does. `hours` are the
    windows' hours of the day; without them, or with less than a week of each, all hours are held for alike.
    """
    limits = [1 + tolerance for tolerance in TOLERANCES]
    highest = np.full(len(limits), -inf)
    for reference, replayed in _folds(losses):
        whole = sum(reference, Moments())
        found = highest_log_m(whole, replayed, limits, rows_per_user=rows_per_user, icc=icc)
        highest = np.maximum(highest, found)
    effect = 1 + max(rows_per_user - 1, 0) * icc
    least = _usual_excess(losses, hours if hours is not None and _covers_days(hours) else [0] * len(losses), effect)
    return TOLERANCES[min(_first((highest <= log(QUIET_M)) & (np.array(TOLERANCES) >= least)), len(TOLERANCES) - 1)]


def detectable(
    columns: Mapping[str, Reference], rows_per_window: int, *, shifts: Sequence[float] = (0.2, 0.5, 1.0)
) -> dict[float, int | None]:
    """Say after how many windows a shift of so many sd, in one column of numbers and nothing else, is BAD.

    The median over these columns, each moved in turn in windows that hold the reference's quantiles; None if that is
    over a week of hours, or no column holds numbers. Confirmation comes on top.
    """
    detector = Detector.of(columns)
    numeric = {
        name: each.sketch
        for name, each in columns.items()
        if isinstance(each.sketch, NumericSketch) and each.sketch.numbers
    }
    return {
        shift: _median([_delay(detector, name, sketch, shift, rows_per_window) for name, sketch in numeric.items()])
        for shift in shifts
    }


def intraclass_correlation(values: ArrayLike, users: Sequence[Hashable | None]) -> float:
    """Estimate how much alike the rows of one user are: 0 as any others, 1 all the same.

    The one-way analysis of variance estimator with unequal groups (Donner, "A review of inference procedures for the
    intraclass correlation coefficient in the one-way random effects model", 1986): on the ranks of numbers, since it is
    ranks that the detector looks at, and summed over the levels of texts. Rows without a value or a user are left out.
    0.05 where fewer than 30 rows are a user's second or later one, or where all values are equal: too little to tell.
    """
    scores, levels, owners = _scored(values, users)
    count, groups = len(owners), int(owners.max(initial=-1)) + 1
    if groups < 2 or count - groups < LEAST_REPEATS:
        return UNKNOWN_ICC
    sizes = np.bincount(owners)
    width = int(levels.max()) + 1
    cells, at = np.unique(owners * width + levels, return_inverse=True)
    sums = np.bincount(at, weights=scores)
    between = float(sums @ (sums / sizes[cells // width]))
    grand = float((np.bincount(levels, weights=scores) ** 2).sum()) / count
    total = float(scores @ scores)
    across = (between - grand) / (groups - 1)
    inside = max(total - between, 0.0) / (count - groups)
    size = (count - float(sizes @ sizes) / count) / (groups - 1)
    if total - grand <= 1e-9 * total:
        return UNKNOWN_ICC
    return float(np.clip((across - inside) / (across + (size - 1) * inside), 0.0, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Replay:
    detector: Detector
    rates: Mapping[int, Mapping[str, Sketch]]
    """By hour of the day; empty where all hours are judged alike."""
    tallies: Sequence[tuple[int, Tally, float]]

    @classmethod
    def of(
        cls, reference: Sequence[Replayed], replayed: Sequence[Replayed], icc: Mapping[str, float], *, by_hour: bool
    ) -> "_Replay":
        columns = {
            name: Reference(sketch=sketch, eps=EPS_GRID[0], icc=icc.get(name, 0.0))
            for name, sketch in _merged(reference).items()
        }
        detector = Detector.of(columns)
        hours = sorted({each.hour for each in reference}) if by_hour else []
        return cls(
            detector=detector,
            rates={hour: _merged([each for each in reference if each.hour == hour]) for hour in hours},
            tallies=[(each.hour, detector.count(each.columns), each.rows_per_user) for each in replayed],
        )

    def log_m(self, eps: Mapping[str, float]) -> Floats:
        """Give log M after each window (rows) of each column."""
        pooled = self.detector.with_eps(eps)
        by_hour = {hour: pooled.with_rates(rates) for hour, rates in self.rates.items()}
        state, found = pooled.start(), np.empty((len(self.tallies), len(pooled.columns)))
        for at, (hour, tally, rows_per_user) in enumerate(self.tallies):
            state = by_hour.get(hour, pooled).advance(state, tally, rows_per_user=rows_per_user)
            found[at] = pooled.log_m_of_columns(state)
        return found


def _calibrate(windows: Sequence[Replayed], icc: Mapping[str, float], *, by_hour: bool) -> Calibration:
    rows = _reference_rows(windows, icc, by_hour=by_hour)
    names = sorted(rows)
    highest = np.full((len(EPS_GRID), len(names)), -inf)
    replays = [_Replay.of(*fold, icc, by_hour=by_hour) for fold in _folds(windows) if _merged(fold[0])]
    for replay in replays:
        at = [names.index(name) for name in replay.detector.columns]
        for row, tried in enumerate(EPS_GRID):
            found = replay.log_m(dict.fromkeys(names, tried))
            highest[row, at] = np.maximum(highest[row, at], found.max(axis=0))
    quiet = highest <= log(QUIET_M)
    spreads = _spreads(windows, icc, by_hour=by_hour) if replays else dict.fromkeys(names, 0.0)
    errors = {name: min(2 / sqrt(max(rows[name], 1)), MOST_EPS) for name in names}
    floors = {name: max(errors[name], SPREADS * spreads[name]) for name in names}
    eps = {
        name: max(_tolerance(quiet[:, at], floors[name], replayed=bool(replays)), errors[name])
        for at, name in enumerate(names)
    }
    unsteady = tuple(name for at, name in enumerate(names) if not quiet[-1, at])
    alarms = sum(_alarms(replay.log_m(eps)) for replay in replays) if unsteady else 0
    return Calibration(
        eps=eps,
        uses_hour_of_day=by_hour,
        windows=len(windows),
        false_alarms_per_window=max(alarms / max(len(windows), 1), 1 / BAD_RUN_LENGTH),
        unsteady=unsteady,
    )


def _tolerance(quiet: NDArray[np.bool_], least_eps: float, *, replayed: bool) -> float:
    last = len(EPS_GRID) - 1
    floor = min(_first(np.array(EPS_GRID) >= least_eps), last)
    if not replayed:
        return EPS_GRID[min(floor + 1, last)]
    least = _first(quiet)
    return EPS_GRID[min(max(least + (least > 0), floor), last)]


def _covers_days(hours: Sequence[int]) -> bool:
    counts = Counter(hours)
    return len(counts) >= 24 and min(counts.values()) >= HOUR_OF_DAY_DAYS


def _spreads(windows: Sequence[Replayed], icc: Mapping[str, float], *, by_hour: bool) -> dict[str, float]:
    """Give, per column, the largest standard deviation between windows of an indicator's share."""
    replay = _Replay.of(windows, windows, icc, by_hour=False)
    detector = replay.detector
    hours = np.array([hour if by_hour else 0 for hour, _, _ in replay.tallies])
    hits = np.array([tally.hits for _, tally, _ in replay.tallies])
    rows = np.array([tally.rows for _, tally, _ in replay.tallies])
    effects = np.array([detector.effects(rows_per_user) for _, _, rows_per_user in replay.tallies])
    noise = detector.share * (1 - detector.share) * effects / np.maximum(rows, 1)
    by_indicator = _between(hits / np.maximum(rows, 1), noise, rows > 0, hours)
    return dict(zip(detector.columns, detector.largest(by_indicator).tolist(), strict=True))


def _usual_excess(losses: Sequence[Moments], hours: Sequence[int], effect: float) -> float:
    """Give the worst hour's excess over the mean, plus the allowance for what moves about it."""
    whole = sum(losses, Moments())
    some = [at for at, each in enumerate(losses) if isfinite(each.error)]
    if len(some) < LEAST_WINDOWS or not whole.mean or whole.mean <= 0:
        return 0.0
    at = np.array(hours)[some]
    ratios = np.array([losses[each].mean for each in some], dtype=np.float64) / whole.mean
    noise = np.array([losses[each].error for each in some]) ** 2 * effect / whole.mean**2
    spread = float(_between(ratios[:, None], noise[:, None], np.ones((len(at), 1), dtype=bool), at)[0])
    excesses = [float(ratios[at == hour].mean()) - 1 for hour in set(at.tolist())]
    return max(*excesses, 0.0) + SPREADS * spread


def _between(values: Floats, noise: Floats, known: NDArray[np.bool_], groups: NDArray[np.int64]) -> Floats:
    """Give the standard deviation, per column of `values`, about the groups' means and beyond the rows' noise."""
    squares, free = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for group in np.unique(groups):
        some, there = values[groups == group], known[groups == group]
        count = there.sum(axis=0)
        mean = np.where(there, some, 0).sum(axis=0) / np.maximum(count, 1)
        squares += (np.where(there, some - mean, 0) ** 2).sum(axis=0)
        free += np.maximum(count - 1, 0)
    free = np.maximum(free, 1)
    usual = np.where(known, noise, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.asarray(np.sqrt(np.maximum(squares / free - (1 + NOISE_ERRORS * np.sqrt(2 / free)) * usual, 0.0)))


def _alarms(log_m: Floats) -> int:
    """Count the times that the whole begins to be BAD."""
    bad = np.logaddexp.reduce(log_m, axis=1) - log(log_m.shape[1]) >= log(BAD_RUN_LENGTH)
    return int((np.diff(bad.astype(int), prepend=0) > 0).sum())


def _reference_rows(windows: Sequence[Replayed], icc: Mapping[str, float], *, by_hour: bool) -> dict[str, float]:
    """Give, per column, the rows that a share of the reference rests on, clusters discounted."""
    rows: dict[str, dict[int, float]] = {}
    for each in windows:
        for name, sketch in each.columns.items():
            effect = 1 + max(each.rows_per_user - 1, 0) * icc.get(name, 0.0)
            of_hour = rows.setdefault(name, {})
            hour = each.hour if by_hour else 0
            of_hour[hour] = of_hour.get(hour, 0.0) + sketch.present / effect
    return {name: float(np.median(list(of_hour.values()))) for name, of_hour in rows.items()}


def _merged(windows: Sequence[Replayed]) -> dict[str, Sketch]:
    names = sorted({name for each in windows for name in each.columns})
    return {name: merge(each.columns[name] for each in windows if name in each.columns) for name in names}


def _folds(windows: Sequence[_T]) -> list[tuple[Sequence[_T], Sequence[_T]]]:
    """Give reference and replay twice, by halves; nothing where there are too few windows."""
    if len(windows) < LEAST_WINDOWS:
        return []
    early, late = windows[: len(windows) // 2], windows[len(windows) // 2 :]
    return [(early, late), (late, early)]


def _first(holds: NDArray[np.bool_]) -> int:
    """Give the position of the first that holds; past the end if none does."""
    return int(np.argmax(holds)) if holds.any() else len(holds)


def _delay(detector: Detector, name: str, sketch: NumericSketch, shift: float, rows: int) -> float:
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


def _scored(values: ArrayLike, users: Sequence[Hashable | None]) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Give each usable row's score, level and user, the last two as numbers from 0."""
    array = np.asarray(values)
    texts = array.dtype.kind not in "fiub"
    owned = np.array([user is not None for user in users], dtype=bool)
    told = [value is not None for value in array.tolist()] if texts else np.isfinite(array)
    usable = owned & np.array(told, dtype=bool)
    known = array[usable]
    _, at, counts = np.unique(known.astype(str) if texts else known, return_inverse=True, return_counts=True)
    numbered: dict[Hashable, int] = {}
    owners = [numbered.setdefault(user, len(numbered)) for user, use in zip(users, usable, strict=True) if use]
    if texts:
        return np.ones(len(known)), at.astype(np.int64), np.array(owners, dtype=np.int64)
    ranks = np.cumsum(counts) - (counts + len(known)) / 2
    return ranks[at], np.zeros(len(known), np.int64), np.array(owners, dtype=np.int64)
