"""The whole policy over simulated years: false retrains, and hours until a small shift is confirmed."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from tests.benchmarks.figures import Figure
from tests.benchmarks.policy_simulation import delay, false_retrains


def false_alarms(years: float, parts: int) -> Iterator[Figure]:
    """So many years, over all four kinds of traffic in which nothing happens, on all processors."""
    seeds, of_seed = range(0, 1000 * parts, 1000), partial(false_retrains, years / parts)
    if parts == 1:
        found = [of_seed(0)]
    else:
        with ProcessPoolExecutor(min(parts, os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
            found = list(pool.map(of_seed, seeds))
    total = sum(each.years for part in found for each in part.values())
    retrains = sum(each.retrains for part in found for each in part.values())
    yield Figure(name="drift.policy.years", value=total, unit="model-years")
    yield Figure(name="drift.policy.false_retrains", value=retrains / total, unit="a year", gate=0.1, better="less")
    for name in found[0]:
        of_kind = [part[name] for part in found]
        length = sum(each.years for each in of_kind)
        rate = sum(each.retrains for each in of_kind) / length
        yield Figure(name=f"drift.policy.false_retrains_{name}", value=rate, unit="a year", gate=0.1, better="less")
        rate = sum(each.drift_incidents for each in of_kind) / length
        yield Figure(name=f"drift.policy.false_drifts_{name}", value=rate, unit="a year")


def delays(models: int) -> Iterator[Figure]:
    """Hours until 0.2 sd in one of 20 columns is confirmed, the median over models."""
    for rows, gate in ((1000, 4), (5000, 2)):
        hours = delay(rows, 7, models=models)
        yield Figure(name=f"drift.policy.delay_{rows}_rows", value=hours, unit="hours", gate=gate, better="less")
