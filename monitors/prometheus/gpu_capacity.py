"""How many GPUs there are and how many of them are free, for whoever wants to start a training."""

from datetime import datetime, timedelta

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.spec.preset_gpus import busy_percent, by_gpu, memory_share
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
_UTILISED, _ACTIVE = f"DCGM_FI_DEV_GPU_UTIL{_REAL}", f"DCGM_FI_PROF_GR_ENGINE_ACTIVE{_REAL}"
_SPAN = f"{IDLE.seconds}s"
# a GPU that came a moment ago has no point of a subquery yet
_NEW = by_gpu(f"quantile_over_time(0.5, {_UTILISED}[{_SPAN}]) or 100 * quantile_over_time(0.5, {_ACTIVE}[{_SPAN}])")
_BUSY = f"(({busy_percent(f'{_SPAN}:15s', _REAL)} or {_NEW}) <= 100)"
_BUSY_NOW = f"{by_gpu(f'{_UTILISED} or 100 * {_ACTIVE}')} >= {MAX_BUSY_PERCENT}"
_TOLD = " or ".join(f"DCGM_FI_DEV_FB_{name}{_REAL}" for name in ("FREE", "TOTAL", "USED_PERCENT"))
# where nobody tells how much memory there is, what is in use is held against the smallest that trains anything: 10 GiB
_UNTOLD = by_gpu(f"clamp_max((DCGM_FI_DEV_FB_USED{_REAL} < 1e9) / 10240, 1)") + f" unless on (UUID) ({_TOLD})"
_MEMORY = f"({by_gpu(memory_share(_REAL))} <= 1 or {_UNTOLD})"
_KNOWN = f"({_BUSY} and on (UUID) {_MEMORY})"
FREE_GPUS = (
    f"count(({_BUSY} < {MAX_BUSY_PERCENT}) and on (UUID) ({_MEMORY} < {MAX_MEMORY_SHARE}) unless on (UUID) "
    f"({_BUSY_NOW})) or 0 * count({_KNOWN})"
)
"""PromQL: 0 when all GPUs that are known are in use, nothing when none is known."""
_BROKEN = " or ".join(f"DCGM_FI_DEV_XID_ERRORS{_REAL} == {code}" for code in (48, 64, 74, 79, 95, 119, 120, 140))
"""Last errors after which a GPU computes nothing until it is reset, for which its exporter has to stop, too."""
TOTAL_GPUS = f"count({_KNOWN} unless on (UUID) {by_gpu(_BROKEN)}) or 0 * count({_KNOWN})"
"""PromQL: the GPUs that are known and not broken, busy or not."""


def free_gpus(prometheus: PrometheusClient, *, at: datetime) -> float | None:
    """Count the GPUs that had nothing to do and hold no model; None if that cannot be known.

    It cannot without an exporter, with one that is stale or simulated, and while Prometheus is away or refuses to
    answer. Needed is how busy a GPU is and how much of its memory is in use, under any of the names for it. A GPU of
    which either is not told at all counts as in use. Under MIG a GPU is free when all its slices are.
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
