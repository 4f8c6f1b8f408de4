"""How many GPUs there are and how many of them are free, for whoever wants to start a training."""

from datetime import datetime, timedelta

from datasets_defs.core.errors import ContractError, TransientError
from monitors.prometheus.client import PrometheusClient

IDLE = timedelta(minutes=10)
"""A GPU has to have had nothing to do for so long."""
MAX_BUSY_PERCENT = 10
"""Median share of time in which a kernel ran."""
MAX_MEMORY_SHARE = 0.1
"""A driver and an idle context take some memory; a loaded model takes more."""
MAX_AGE = timedelta(minutes=5)
"""Older samples say nothing of now."""

# a simulated GPU can train nothing; values that no GPU can have are DCGM's for "not known"
_REAL = '{modelName!="SIMULATED"}'
_BUSY = (
    f"quantile_over_time(0.5, DCGM_FI_DEV_GPU_UTIL{_REAL}[{IDLE.seconds}s]) <= 100 "
    f"or 100 * quantile_over_time(0.5, DCGM_FI_PROF_GR_ENGINE_ACTIVE{_REAL}[{IDLE.seconds}s]) <= 100"
)
_MEMORY = f"DCGM_FI_DEV_FB_USED{_REAL} / (DCGM_FI_DEV_FB_USED{_REAL} + DCGM_FI_DEV_FB_FREE{_REAL}) <= 1"
_KNOWN = f"max by (instance, gpu, UUID) ({_BUSY}) and max by (instance, gpu, UUID) ({_MEMORY})"
FREE_GPUS = (
    f"count((max by (instance, gpu, UUID) ({_BUSY}) < {MAX_BUSY_PERCENT}) "
    f"and (max by (instance, gpu, UUID) ({_MEMORY}) < {MAX_MEMORY_SHARE})) or 0 * count({_KNOWN})"
)
"""PromQL: 0 when all GPUs that are known are in use, nothing when none is known."""
_BROKEN = " or ".join(f"DCGM_FI_DEV_XID_ERRORS{_REAL} == {code}" for code in (48, 64, 74, 79, 95, 119, 120, 140))
"""Last errors after which a GPU computes nothing until it is reset, for which its exporter has to stop, too."""
TOTAL_GPUS = f"count({_KNOWN} unless max by (instance, gpu, UUID) ({_BROKEN})) or 0 * count({_KNOWN})"
"""PromQL: the GPUs that are known and not broken, busy or not."""


def free_gpus(prometheus: PrometheusClient, *, at: datetime) -> float | None:
    """Count the GPUs that had nothing to do and hold no model; None if that cannot be known.

    It cannot without an exporter, with one that is stale or simulated, and while Prometheus is away or refuses to
    answer. A GPU of which either figure is missing counts as in use. Under MIG a GPU is free when all its slices are.
    """
    return _counted(prometheus, FREE_GPUS, at)


def total_gpus(prometheus: PrometheusClient, *, at: datetime) -> float | None:
    """Count the GPUs that work, in use or not; None if that cannot be known, as for the free ones."""
    return _counted(prometheus, TOTAL_GPUS, at)


def _counted(prometheus: PrometheusClient, query: str, at: datetime) -> float | None:
    try:
        samples = prometheus.query(query, at=at)
        freshness = prometheus.freshness(query, at=at)
    except (TransientError, ContractError):  # refused credentials are told by every signal that is asked for
        return None
    if not samples or not freshness.live or freshness.age is None or freshness.age > MAX_AGE:
        return None
    return samples[0].value
