"""Signals on the metrics of NVIDIA's dcgm-exporter. Pure data.

All series of a GPU are brought together, by its UUID, before anything is compared. The exporter gives a GPU other
labels for as long as a pod uses it: the series of a short job begin and end while nothing happens to the GPU.
"""

from collections.abc import Sequence
from typing import Any

_ONCE = {"bad": 1, "of": 1}
"""Confirmation of what is seen in one window only: it happened, and does not happen less by not happening again."""
_FIELDS = ("DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_PROF_GR_ENGINE_ACTIVE")
"""Every exporter gives one of these at least: vGPUs have no temperature, MIG has no utilisation, subsets are free."""


def by_gpu(promql: str) -> str:
    """Write the worst of a GPU's series."""
    return f"max by (UUID) ({promql})"


def reporting(by: str = "UUID", *, template: str = "$", fields: Sequence[str] = _FIELDS) -> str:
    """Write which GPUs report anything at all; `template` is what each field's selector (`$`) stands in."""
    return f"max by ({by}) ({' or '.join(template.replace('$', name) for name in fields)})"


PRESENT = reporting()


def _or_none(promql: str) -> str:
    """Write a value by GPU that is 0 where a GPU lacks the metric."""
    return by_gpu(f"{promql} or 0 * {PRESENT}")


# DCGM has values of its own for "not known", 2^47 and more than 2^63, which older exporters pass on
# (NVIDIA/gpu-monitoring-tools#92, guilbaults/slurm-job-exporter#30): divided by 0 they are no number, so NO_DATA
_TEMPERATURE = by_gpu("DCGM_FI_DEV_GPU_TEMP / (DCGM_FI_DEV_GPU_TEMP < bool 1000)")

_USED, _FREE, _TOTAL = (f"max by (UUID, GPU_I_ID) (DCGM_FI_DEV_FB_{name}$REAL)" for name in ("USED", "FREE", "TOTAL"))
# slices of a GPU (GPU_I_ID) have memory of their own; the fullest counts
_MEMORY_SHARE = (
    f"{_USED} / (({_USED} + {_FREE}) * (({_USED} + {_FREE}) < bool 1e9)) "
    f"or {_USED} / ({_TOTAL} * ({_TOTAL} < bool 1e9)) "
    "or max by (UUID, GPU_I_ID) (DCGM_FI_DEV_FB_USED_PERCENT$REAL <= 1)"
)

# 0..100; the profiling counter exists under MIG, too, but may be stuck at 0 (NVIDIA/dcgm-exporter#662); single samples
# of the other may be thousands (NVIDIA/DCGM#199), which do not move a median
_PROFILED = "(100 * quantile_over_time(0.5, max by (UUID) (DCGM_FI_PROF_GR_ENGINE_ACTIVE$REAL)[$SPAN]))"
_UTILISED = "quantile_over_time(0.5, max by (UUID) (DCGM_FI_DEV_GPU_UTIL$REAL)[$SPAN])"
_BUSY = f"{_PROFILED} > 0 <= 100 or {_UTILISED} / ({_UTILISED} <= bool 100) or {_PROFILED} / ({_PROFILED} <= bool 100)"


def memory_share(matcher: str = "") -> str:
    """Write which share of its memory is in use, by GPU and slice: of used and free, of the total, or as it is told."""
    return _MEMORY_SHARE.replace("$REAL", matcher)


def busy_percent(span: str, matcher: str = "") -> str:
    """Write the median share of time, by GPU, in which it computes; `span` is a subquery's range and step."""
    return _BUSY.replace("$REAL", matcher).replace("$SPAN", span)


def _xid(back: str = "") -> str:
    """Write each GPU's last XID; newer exporters label it with its code, and some make the series at the first error.

    A GPU that reports and has no such series had no error.
    """
    return by_gpu(f"DCGM_FI_DEV_XID_ERRORS{back} or 0 * {reporting(template=f'${back}')}")


# what the gauge was before: when the window began; before the exporter was away; of a GPU that is new, nothing
_XID_BEFORE = (
    f"({_xid(' offset {window}')} "
    f"or {by_gpu('last_over_time(DCGM_FI_DEV_XID_ERRORS[6h] offset {window})')} or 0 * {PRESENT})"
)
_ROWS = "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS"
_CLOCK = "DCGM_FI_DEV_SM_CLOCK"
_ENERGY = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
_PLACE = "UUID, instance, Hostname"
# six hours of every sample of a large fleet take a server seconds: ten minutes closely, before that every five minutes
_SEEN = (
    f"({reporting(_PLACE, template='last_over_time($[10m])', fields=_FIELDS[:2])} "
    f"or last_over_time({reporting(_PLACE, fields=_FIELDS[:2])}[6h:5m]))"
)
_GONE = f"({_SEEN} unless on (UUID) {PRESENT})"
_NAMED = '{Hostname!=""}'
_FELL_OFF = (
    f"{_GONE} and on (instance, Hostname) {reporting('instance, Hostname')} "
    f"or {_GONE} and on (Hostname) {reporting('Hostname', template=f'${_NAMED}')} "
    f"or {_GONE} and on (instance) (up unless on (instance) {reporting('instance')})"
)
"""GPUs that are gone while their node, or their exporter, is still there; a node that left took its target along."""

_SIGNALS: tuple[dict[str, Any], ...] = (
    # data-centre GPUs slow down between 85 and 90 degrees and switch off soon after
    {"name": "temperature_celsius", "promql": _TEMPERATURE, "warn": 83.0, "bad": 90.0},
    # A100 and H100 name 95 degrees as the most that their memory may have; 0 stands for "not measured"
    {
        "name": "hbm_celsius",
        "promql": _or_none("(DCGM_FI_DEV_MEMORY_TEMP unless DCGM_FI_DEV_MEMORY_TEMP >= 1000)"),
        "warn": 90.0,
        "bad": 95.0,
    },
    {
        "name": "memory_used_share",
        "about": "capacity",
        "promql": memory_share(),
        "warn": 0.95,  # vLLM takes 90 % for itself from the start
        "bad": 0.99,
    },
    {
        "name": "utilisation_percent",
        "about": "capacity",
        "promql": f"avg({busy_percent('{window}:{step}')})",
        "warn": 95.0,
        "bad": 99.0,  # no reserve is left, for half of the window or more
    },
    {
        # the gauge keeps its last error for ever, so it counts in the window in which it changed, and is the XID then;
        # the same error twice running is seen once
        "name": "xid_errors",
        "promql": f"{_xid()} * ({_xid()} != bool {_XID_BEFORE})",
        "bad": 1.0,
        "confirm": _ONCE,
    },
    {
        # idle GPUs clock down by themselves, so only what is over half busy can be held down; 1 means not held down
        "name": "busy_clock_share",
        "promql": (
            f"1 - (({busy_percent('{window}:{step}')}) > bool 50) * (1 - "
            f"sum by (UUID) (sum_over_time({_CLOCK}[{{window}}])) / "
            f"sum by (UUID) (count_over_time({_CLOCK}[{{window}}])) / {by_gpu(f'max_over_time({_CLOCK}[1d])')})"
        ),
        "worse": "lower",
        "warn": 0.7,  # below what a power limit costs under full load
        "bad": 0.5,  # a hardware slowdown halves the clock or more (NVML, clocks event reason "HW slowdown")
    },
    {
        # repaired rows stay counted for the GPU's life: new ones count, and ask for a reset of the GPU; the job that
        # used the broken row often ends by it, and the series under its labels with it
        "name": "remapped_rows",
        "promql": (
            f"clamp_min({by_gpu(_ROWS)} - ({by_gpu(_ROWS + ' offset {window}')} "
            f"or min by (UUID) (min_over_time({_ROWS}[{{window}}]))), 0)"
        ),
        "bad": 1.0,
        "confirm": _ONCE,
    },
    {
        # one GPU, or one of several exporters, is gone while others report; after six hours it counts as taken out
        "name": "missing_gpus",
        "promql": f"count(count by (UUID) ({_FELL_OFF})) + 0 * count({PRESENT}) or 0 * count({PRESENT})",
        "bad": 1.0,
    },
    {
        # an exporter that has lost its host engine repeats its last values for ever (NVIDIA/gpu-monitoring-tools#188);
        # no GPU draws no energy, so a counter of it that stands still is a picture of the past
        "name": "stale_exporter",
        "promql": _or_none(
            f"({by_gpu(f'max_over_time({_ENERGY}[{{window}}])')} "
            f"== bool min by (UUID) (min_over_time({_ENERGY}[{{window}}]))) "
            f"and on (UUID) {by_gpu(_ENERGY + ' offset {window}')}"
        ),
        "bad": 1.0,
    },
)
DCGM = tuple({**signal, "devices": PRESENT} for signal in _SIGNALS)
