"""The whole policy from a model's birth on traffic that breathes: false retrains, false incidents, delays."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import TypeVar

import numpy as np
from scipy.stats import chi2

from tests.benchmarks.decision_policy import Model
from tests.benchmarks.decision_traffic import NULLS, Traffic, add_daily, add_weekly, draw, few, plain
from tests.benchmarks.figures import Figure

In, Out = TypeVar("In"), TypeVar("Out")
YEAR = 8760
COLUMNS = 6
FORTNIGHT = 336
LONGEST = 48


@dataclass(frozen=True, slots=True)
class Watched:
    """What the policy did in a time in which nothing happened."""

    family: str
    hours: int
    judged: int
    incidents: int
    retrains: int


def watch_null(hours: int, columns: int, job: tuple[str, int]) -> Watched:
    """Watch one model of a family, from birth."""
    family, seed = job
    rng = np.random.default_rng([seed, list(NULLS).index(family)])
    traffic = NULLS[family](hours, rng, columns)
    run = Model(traffic, draw(traffic, rng)).play()
    return Watched(family, run.hours, run.judged, len(run.incidents), len(run.retrains))


def false_actions(models: int, hours: int) -> Iterator[Figure]:
    """So many models a family, each watched for so many hours from birth, on all processors."""
    jobs = [(family, seed) for seed in range(models) for family in NULLS]
    found = in_parallel(partial(watch_null, hours, COLUMNS), jobs)
    years = sum(each.hours for each in found) / YEAR
    retrains, incidents = sum(each.retrains for each in found), sum(each.incidents for each in found)
    name = "decision.policy"
    yield Figure(name=f"{name}.years", value=years, unit="model-years")
    yield Figure(name=f"{name}.false_retrains", value=retrains / years, unit="a year", gate=0.1, better="less")
    upper = chi2.ppf(0.975, 2 * (retrains + 1)) / 2 / years
    yield Figure(name=f"{name}.false_retrains_upper", value=upper, unit="a year, 95 %", gate=0.2, better="less")
    yield Figure(name=f"{name}.false_incidents", value=incidents / years, unit="a year", gate=1, better="less")
    for family in NULLS:
        some = [each for each in found if each.family == family]
        length = sum(each.hours for each in some) / YEAR
        rate = sum(each.retrains for each in some) / length
        yield Figure(name=f"{name}.false_retrains_{family}", value=rate, unit="a year", gate=0.5, better="less")
        rate = sum(each.incidents for each in some) / length
        yield Figure(name=f"{name}.false_incidents_{family}", value=rate, unit="a year", gate=3, better="less")
        share = sum(each.judged for each in some) / sum(each.hours for each in some)
        yield Figure(name=f"{name}.judged_{family}", value=share, unit="of the hours")


def topic(kind: str, seed: int) -> float:
    """Give the hours from a harmful new topic, 30 % of the rows, to the retrain; infinite if it never comes."""
    rng = np.random.default_rng([seed, 77])
    at = (72 if kind == "three_days" else FORTNIGHT) + int(rng.integers(24))
    hours = at + LONGEST
    traffic = few(hours, rng, COLUMNS) if kind == "few" else _breathing(hours, 100, COLUMNS, rng)
    traffic.added = np.where(np.arange(hours) >= at, 0.3, 0.0)
    run = Model(traffic, draw(traffic, rng)).play()
    return _first(run.retrains, at)


def shift(seed: int) -> float:
    """Give the hours until 0.2 sd in one of 20 columns is confirmed at 1,000 rows an hour, after four weeks."""
    rng = np.random.default_rng([seed, 78])
    at = 2 * FORTNIGHT + int(rng.integers(168))
    traffic = _breathing(at + LONGEST, 1000, 20, rng)
    traffic.means[at:, rng.integers(20)] += 0.2 * rng.choice([-1, 1])
    run = Model(traffic, draw(traffic, rng)).play()
    return _first(run.drifts, at)


def _breathing(hours: int, rows: int, columns: int, rng: np.random.Generator) -> Traffic:
    """Give traffic with a daily and a weekly season."""
    traffic = plain(hours, columns, rng, rows=rows)
    add_daily(traffic, 0.3, rng)
    add_weekly(traffic, 0.2, rng)
    return traffic


def _first(hours: list[int], since: int) -> float:
    return next((hour - since + 1.0 for hour in hours if hour >= since), float("inf"))


def delays(models: int) -> Iterator[Figure]:
    """Hours from a shift to what it calls for, the median over models."""
    for kind, gate in (("fortnight", 6), ("three_days", 12), ("few", 10)):
        found = in_parallel(partial(topic, kind), range(models))
        yield Figure(name=f"decision.delay.topic_{kind}", value=median(found), unit="hours", gate=gate, better="less")
        share = sum(each < float("inf") for each in found) / models
        yield Figure(name=f"decision.delay.found_{kind}", value=share, unit="of the models")
    found = in_parallel(shift, range(models))
    yield Figure(name="decision.delay.shift", value=median(found), unit="hours", gate=6, better="less")


def in_parallel(job: Callable[[In], Out], values: Iterable[In]) -> list[Out]:
    """Do a job for each value, on all processors."""
    jobs = list(values)
    if len(jobs) < 3:
        return [job(value) for value in jobs]
    with ProcessPoolExecutor(min(len(jobs), os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
        return list(pool.map(job, jobs))
