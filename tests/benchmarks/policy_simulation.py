"""The whole drift policy over simulated years: how often it would retrain for nothing, and how soon it sees a shift.

Traffic is drawn as counts of the reference's deciles and levels, hour by hour, never as rows; what is judged, and how,
is the sensor's own code: sketches, detector, harm, calibration on a simulated fortnight, confirmation, burn-in,
cool-down, and a new reference after three days of drift without harm.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import log, log10, pi, sqrt
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.windows import Window
from datasets_defs.spec.signals import ConfirmSpec
from monitors.counts.moments import Moments
from monitors.counts.sketch import CategorySketch, NumericSketch, Scale, Sketch, merge
from monitors.evidence.e_detector import BAD_RUN_LENGTH, WARN_RUN_LENGTH, Detector, Reference
from monitors.evidence.harm import WINDOWS, harm, highest_log_m
from monitors.profiles.calibration import Calibration, Replayed, calibrate
from monitors.profiles.loss_tolerance import loss_tolerance
from monitors.verdicts.confirm import is_confirmed, is_quiet

Floats = NDArray[np.float64]

YEAR = 8760
FORTNIGHT = 336
BURN_IN = 24
COOL_DOWN = 24
REBASELINE = 72
CONFIRM = ConfirmSpec(bad=2, of=3)
NUMERIC = 14
LEVELS = (2, 5, 10, 20, 35, 50)
"""Levels of the categorical columns; their shares fall as 1 / rank (Zipf)."""
COLUMNS = NUMERIC + len(LEVELS)
LOSS = 0
"""Which column is the loss: mean 1, its rows spread by a quarter of that."""
LOSS_SPREAD = 0.25
ICC = 0.05
USER_ROWS = 10
_BAD, _WARN = log10(BAD_RUN_LENGTH), log10(WARN_RUN_LENGTH)
_START = datetime(2026, 1, 1, tzinfo=UTC)
_UNIT = Scale(0.0, 1.0)
_BINS = 10
_EDGES = ndtri(np.arange(1, _BINS) / _BINS)
_CODES = NumericSketch.of(np.append(_EDGES, 9.0), _UNIT).codes


@dataclass(frozen=True, slots=True)
class Traffic:
    """A kind of traffic in which nothing happens that needs a retraining."""

    name: str
    daily: float = 0.0
    """Height of a daily cycle, in sd; every column has its own phase."""
    wander: float = 0.0
    """Standard deviation of a mean that wanders, in sd; every column for itself."""
    memory_hours: float = 24.0
    """Hours until that mean has forgotten all but 1/e of where it was."""
    clustered: bool = False
    """Whether rows come from users of ten rows each that are alike by `ICC`."""

    def means(self, hours: int, rng: np.random.Generator) -> Floats:
        """Give the mean of each hour (rows) and column, in sd."""
        at = np.arange(hours)[:, None]
        daily = self.daily * np.sin(2 * pi * (at / 24 + rng.random(COLUMNS)))
        if not self.wander:
            return daily
        keep = np.exp(-1 / self.memory_hours)
        steps = rng.normal(0, self.wander * sqrt(1 - keep**2), (hours, COLUMNS))
        steps[0] = rng.normal(0, self.wander, COLUMNS)
        for hour in range(1, hours):
            steps[hour] += keep * steps[hour - 1]
        return daily + steps


NULLS = (
    Traffic("iid"),
    Traffic("daily", daily=0.1),
    Traffic("wander", wander=0.05),
    Traffic("clustered", clustered=True),
)


@dataclass(frozen=True, slots=True)
class Hour:
    """What an hour's rows came to."""

    columns: dict[str, Sketch]
    loss: Moments


def draw(traffic: Traffic, means: Floats, rows: int, rng: np.random.Generator) -> Iterator[Hour]:
    """Draw the hours of these means."""
    effect = 1 + (USER_ROWS - 1) * ICC if traffic.clustered else 1.0
    for start in range(0, len(means), 1000):
        part = means[start : start + 1000]
        numeric = np.diff(ndtr(_EDGES - part[:, :NUMERIC, None]), prepend=0.0, append=1.0)
        drawn = [_counts(numeric, rows, effect, rng)]
        for at, count in enumerate(LEVELS):
            scores = (np.arange(count) - (count - 1) / 2) / np.arange(count).std()
            tilted = np.exp(part[:, NUMERIC + at, None] * scores) / np.arange(1, count + 1)
            drawn.append(_counts(tilted / tilted.sum(axis=1, keepdims=True), rows, effect, rng))
        losses = 1 + LOSS_SPREAD * (part[:, LOSS] + rng.normal(0, sqrt(effect / rows), len(part)))
        squares = LOSS_SPREAD**2 * rng.chisquare(rows - 1, len(part))
        for hour in range(len(part)):
            columns: dict[str, Sketch] = {
                f"n{at:02}": NumericSketch(_UNIT, _CODES, drawn[0][hour, at]) for at in range(NUMERIC)
            }
            for count, counts in zip(LEVELS, drawn[1:], strict=True):
                columns[f"c{count:02}"] = CategorySketch(_names(count), counts[hour])
            total = rows * losses[hour]
            yield Hour(columns, Moments(rows, rows, total, rows, total, squares[hour] + total * losses[hour]))


def _counts(shares: Floats, rows: int, effect: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw counts whose variance is `effect` times that of independent rows (a Dirichlet-multinomial)."""
    if effect > 1:
        gammas = rng.standard_gamma(shares * (rows - effect) / (effect - 1))
        shares = gammas / gammas.sum(axis=-1, keepdims=True)
    return rng.multinomial(rows, shares)


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"l{at:02}" for at in range(count))


@dataclass(slots=True)
class Tally:
    """What happened in simulated time."""

    hours: int = 0
    drift_incidents: int = 0
    """Confirmed drifts."""
    retrains: int = 0
    """Confirmed harm, with drift or without."""
    drift_at: list[int] = field(default_factory=list)
    """Hours at which a drift was confirmed."""


class Model:
    """One model under watch, from its calibration on."""

    def __init__(self, fortnight: Sequence[Hour], *, rows_per_user: float, icc: float) -> None:
        self.icc = dict.fromkeys(fortnight[0].columns, icc)
        self.rows_per_user = rows_per_user
        windows = [Replayed(at % 24, hour.columns, rows_per_user) for at, hour in enumerate(fortnight)]
        self.calibration: Calibration = calibrate(windows, self.icc)
        losses = [hour.loss for hour in fortnight]
        self.loss = sum(losses, Moments())
        self.limit = 1 + loss_tolerance(
            losses, hours=[at % 24 for at in range(len(losses))], rows_per_user=rows_per_user, icc=icc
        )
        self.detectors: list[Detector] = []
        self.refer_to(fortnight)

    def refer_to(self, hours: Sequence[Hour]) -> None:
        """Take these hours as the reference, and know nothing."""
        pooled = Detector.of(
            {
                name: Reference(sketch=sketch, eps=self.calibration.eps[name], icc=self.icc[name])
                for name, sketch in _merged(hours).items()
            }
        )
        whole_days = len(hours) >= FORTNIGHT and self.calibration.uses_hour_of_day
        self.detectors = [pooled.with_rates(_merged(hours[at::24])) for at in range(24)] if whole_days else [pooled]
        self.state = pooled.start()
        self.burn_in = BURN_IN
        self.verdicts: dict[str, list[Verdict]] = {"drift": [], "loss": []}
        self.losses: list[Moments] = []

    def judge(self, at: int, hour: Hour) -> None:
        """Judge one window of drift and of loss."""
        detector = self.detectors[at % len(self.detectors)]
        self.state = detector.step(self.state, hour.columns, rows_per_user=self.rows_per_user)
        self._note("drift", at, detector.evidence(self.state).log10_m, burn_in=self.burn_in > 0)
        self.burn_in -= 1
        self.losses = [*self.losses, hour.loss][-WINDOWS:]
        self._note("loss", at, self._harm(), burn_in=False)

    def is_confirmed(self, signal: str) -> bool:
        """Say whether the newest windows confirm it."""
        return is_confirmed(self.verdicts[signal], CONFIRM)

    def is_quiet(self, signal: str) -> bool:
        """Say whether it is over."""
        return is_quiet(self.verdicts[signal], 2 * CONFIRM.of)

    def _harm(self) -> float:
        """Give harm's evidence, or something below every limit while it has at no window come near the first."""
        how = {"rows_per_user": self.rows_per_user, "icc": self.icc[f"n{LOSS:02}"]}
        if highest_log_m(self.loss, self.losses, (self.limit,), **how)[0] < log(WARN_RUN_LENGTH):
            return 0.0
        found = harm(self.loss, self.losses, limit=self.limit, **how)
        return found.log10_m if found is not None else 0.0

    def _note(self, signal: str, at: int, log10_m: float, *, burn_in: bool) -> None:
        bad = Condition.WARN if burn_in else Condition.BAD
        condition = bad if log10_m >= _BAD else Condition.WARN if log10_m >= _WARN else Condition.OK
        end = _START + timedelta(hours=at)
        verdict = Verdict(
            model="simulated",
            signal=signal,
            window=Window(end - timedelta(hours=1), end),
            condition=condition,
            reason="",
            method="",
            champion_version=1,
        )
        self.verdicts[signal] = [verdict, *self.verdicts[signal]][: 2 * CONFIRM.of]


def watch(model: Model, hours: Iterator[Hour]) -> Tally:
    """Let the policy act on the hours."""
    tally, opened, cool_until = Tally(), None, 0
    recent: deque[Hour] = deque(maxlen=FORTNIGHT)
    for at, hour in enumerate(hours):
        tally.hours += 1
        recent.append(hour)
        model.judge(at, hour)
        if model.is_confirmed("loss") and at >= cool_until:
            tally.retrains += 1
            opened, cool_until = None, at + COOL_DOWN
            model.refer_to(list(recent))
        elif opened is None and model.is_confirmed("drift"):
            tally.drift_incidents += 1
            tally.drift_at.append(at)
            opened = at
        elif opened is not None and model.is_quiet("drift"):
            opened = None
        elif opened is not None and at - opened >= REBASELINE:
            model.refer_to(list(recent)[-REBASELINE:])
            opened = None
    return tally


def _merged(hours: Sequence[Hour]) -> dict[str, Sketch]:
    return {name: merge(hour.columns[name] for hour in hours) for name in hours[0].columns}


def _model(traffic: Traffic, means: Floats, rows: int, rng: np.random.Generator) -> Model:
    clustered = (
        {"rows_per_user": float(USER_ROWS), "icc": ICC} if traffic.clustered else {"rows_per_user": 1.0, "icc": 0.0}
    )
    return Model(list(draw(traffic, means, rows, rng)), **clustered)


@dataclass(frozen=True, slots=True)
class FalseActions:
    """What the policy did though nothing had happened."""

    years: float
    drift_incidents: int
    retrains: int

    @property
    def drift_incidents_a_year(self) -> float:
        return self.drift_incidents / self.years

    @property
    def retrains_a_year(self) -> float:
        return self.retrains / self.years


def false_actions(traffic: Traffic, years: float, seed: int, *, rows: int = 1000) -> FalseActions:
    """Watch models of half a year each, every one calibrated on a fortnight of its own, for so many years."""
    left, total, incidents, retrains = round(years * YEAR), 0, 0, 0
    rng = np.random.default_rng(seed)
    while left > 0:
        hours = min(left, YEAR // 2)
        means = traffic.means(FORTNIGHT + hours, rng)
        model = _model(traffic, means[:FORTNIGHT], rows, rng)
        tally = watch(model, draw(traffic, means[FORTNIGHT:], rows, rng))
        left, total = left - hours, total + hours
        incidents, retrains = incidents + tally.drift_incidents, retrains + tally.retrains
    return FalseActions(total / YEAR, incidents, retrains)


def false_retrains(years: float, seed: int) -> dict[str, FalseActions]:
    """Give the false actions by kind of traffic: so many years in equal parts, a tenth at 5,000 rows an hour."""
    found = {}
    for at, traffic in enumerate(NULLS):
        part = years / len(NULLS)
        many = false_actions(traffic, part * 0.9, seed + 10 * at)
        large = false_actions(traffic, part * 0.1, seed + 10 * at + 1, rows=5000)
        found[traffic.name] = FalseActions(
            many.years + large.years, many.drift_incidents + large.drift_incidents, many.retrains + large.retrains
        )
    return found


def delay(rows: int, seed: int, *, models: int = 21, shift: float = 0.2) -> float:
    """Give the hours until a shift in one of 20 columns is confirmed, the median over models of steady traffic."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(models):
        before = BURN_IN + int(rng.integers(24))
        means = np.zeros((FORTNIGHT + before + REBASELINE, COLUMNS))
        model = _model(NULLS[0], means[:FORTNIGHT], rows, rng)
        means[FORTNIGHT + before :, rng.integers(1, NUMERIC)] = shift
        drift_at = watch(model, draw(NULLS[0], means[FORTNIGHT:], rows, rng)).drift_at
        after = [at for at in drift_at if at >= before]
        found.append(after[0] - before + 1 if after else REBASELINE)
    return median(found)
