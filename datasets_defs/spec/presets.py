"""Signals of exporters that many people run, so that a model's YAML names them in one word. Pure data.

`datasets_defs.spec.model` makes SignalSpecs of these. Names of metrics move between releases, so each is looked up in a
table of aliases and the query asks for all of them, joined by `or`: per series the first that exists counts.
"""

from collections.abc import Mapping
from typing import Any

_VLLM = {
    "first_token": ("time_to_first_token_seconds_bucket",),
    "inter_token": ("inter_token_latency_seconds_bucket", "time_per_output_token_seconds_bucket"),
    "request": ("e2e_request_latency_seconds_bucket",),
    "waiting": ("num_requests_waiting",),
    "kv_cache": ("kv_cache_usage_perc", "gpu_cache_usage_perc"),
    "ended": ("request_success_total",),
    "corrupted": ("corrupted_requests_total", "corrupted_requests"),
}
ALIASES: Mapping[str, tuple[str, ...]] = {
    # vLLM writes `vllm:name`; exporters that allow no colon pass it on as `vllm_name`
    **{key: tuple(f"vllm{sep}{name}" for name in names for sep in ":_") for key, names in _VLLM.items()},
    # TGI's counters have no suffix; collectors that follow OpenMetrics add one
    "tgi_duration": ("tgi_request_duration_bucket",),
    "tgi_queue": ("tgi_queue_size",),
    "tgi_success": ("tgi_request_success", "tgi_request_success_total"),
    "tgi_failure": ("tgi_request_failure", "tgi_request_failure_total"),
}
"""Names of one quantity, newest first: of an upgrade in the middle of a window the new name counts."""

_SERVED = 'model_name="{model}"'
"""vLLM's label: the name given with `--served-model-name`."""
_LABELLED = 'model=~"{model}|"'
"""TGI serves one model and has no label for it: what its scrape job labels `model`, or has no such label at all."""


def _first(template: str, quantity: str, matchers: str) -> str:
    """Write a template (`$` is the selector) once for each alias, joined by `or`."""
    return " or ".join(template.replace("$", f"{name}{{{matchers}}}") for name in ALIASES[quantity])


def _p95(quantity: str, matchers: str) -> str:
    return f"histogram_quantile(0.95, sum by (le) ({_first('rate($[{window}])', quantity, matchers)}))"


def _means(quantity: str, matchers: str) -> str:
    """Write each series' mean over the window: of several the worst is judged, and one that is NaN is not passed by."""
    return _first("avg_over_time($[{window}])", quantity, matchers)


def _share(part: str, whole: str) -> str:
    """Write a share of requests; a counter of failures that does not exist before the first failure is zero."""
    return f"(sum({part}) or 0 * sum({whole})) / sum({whole})"


_ENDED = _first("rate($[{window}])", "ended", _SERVED)
_TGI_ENDED = " or ".join(_first("rate($[{window}])", key, _LABELLED) for key in ("tgi_success", "tgi_failure"))
# of interactive use: after 1 s a reader's flow is broken, after 10 s attention is gone (Nielsen, "Usability
# Engineering", 1993, section 5.5)
_FIRST_TOKEN = {"warn": 2.0, "bad": 10.0}
# people read about 5 tokens a second (250 words a minute): text that comes slower than 0.2 s a token is waited for
_INTER_TOKEN = {"warn": 0.1, "bad": 0.2}
# proxies give up on an answer after 60 s (nginx: proxy_read_timeout); half of it leaves time to act
_REQUEST = {"warn": 30.0, "bad": 60.0}
# the mean of a whole window: a burst passes, requests that wait all the time mean that capacity is short
_QUEUE = {"warn": 1.0, "bad": 10.0}

_VLLM_SIGNALS: tuple[dict[str, Any], ...] = (
    {"name": "first_token_p95_seconds", "about": "machines", "promql": _p95("first_token", _SERVED), **_FIRST_TOKEN},
    {
        "name": "inter_token_latency_p95_seconds",
        "about": "machines",
        "promql": _p95("inter_token", _SERVED),
        **_INTER_TOKEN,
    },
    {"name": "request_latency_p95_seconds", "about": "machines", "promql": _p95("request", _SERVED), **_REQUEST},
    {"name": "queue_waiting_requests", "about": "capacity", "promql": f"sum({_means('waiting', _SERVED)})", **_QUEUE},
    # full at 1: then running requests are preempted and computed again
    {
        "name": "kv_cache_used_share",
        "about": "capacity",
        "promql": _means("kv_cache", _SERVED),
        "warn": 0.9,
        "bad": 0.97,
    },
    {
        "name": "abort_error_share",
        "about": "answers",
        "promql": _share(_first("rate($[{window}])", "ended", f'{_SERVED},finished_reason=~"abort|error"'), _ENDED),
        "warn": 0.05,  # some callers always go away before the end
        "bad": 0.2,
    },
    {
        # answers whose logits held NaN: broken weights or memory; only counted if the server is told to look
        "name": "corrupted_error_share",
        "about": "answers",
        "promql": _share(_first("rate($[{window}])", "corrupted", _SERVED), _ENDED),
        "warn": 0.001,
        "bad": 0.01,
    },
)
_TGI_SIGNALS: tuple[dict[str, Any], ...] = (
    {
        "name": "request_duration_p95_seconds",
        "about": "machines",
        "promql": _p95("tgi_duration", _LABELLED),
        **_REQUEST,
    },
    {"name": "queue_size_requests", "about": "capacity", "promql": f"sum({_means('tgi_queue', _LABELLED)})", **_QUEUE},
    {
        "name": "request_error_share",  # without `validation`: what the caller asked for was impossible
        "about": "answers",
        "promql": _share(_first("rate($[{window}])", "tgi_failure", f'{_LABELLED},err!="validation"'), _TGI_ENDED),
        "warn": 0.01,
        "bad": 0.05,  # one caller in twenty
    },
)
_DRIFTLOOP = "driftloop_serving_"
_DRIFTLOOP_SIGNALS: tuple[dict[str, Any], ...] = (
    {
        "name": "prompt_loss",  # bits per byte; the sensor of the log sees a smaller loss, and the counters are coarser
        "about": "model",
        "promql": (
            f'sum(rate({_DRIFTLOOP}prompt_bits_total{{model="{{model}}"}}[{{window}}])) '
            f'/ sum(rate({_DRIFTLOOP}prompt_bytes_total{{model="{{model}}"}}[{{window}}]))'
        ),
        "relative_to_reference": True,
        "warn": 1.15,
        "bad": 1.30,
    },
    {
        "name": "latency_p95_seconds",
        "about": "machines",
        "promql": (
            "histogram_quantile(0.95, sum by (le) "
            f'(rate({_DRIFTLOOP}request_seconds_bucket{{model="{{model}}"}}[{{window}}])))'
        ),
        "warn": 5.0,  # the reference server answers small models, in a second or two
        "bad": 15.0,
    },
    {
        "name": "error_share",
        "about": "answers",
        "promql": (
            f'sum(rate({_DRIFTLOOP}requests_total{{model="{{model}}",outcome="error"}}[{{window}}])) '
            f'/ sum(rate({_DRIFTLOOP}requests_total{{model="{{model}}",outcome!="not_ready"}}[{{window}}]))'
        ),  # a server that is starting, or down, cannot be judged; people hear of that by itself
        "warn": 0.01,
        "bad": 0.05,  # one caller in twenty
    },
)

_ONCE = {"bad": 1, "of": 1}
"""Confirmation of what is seen in one window only: it happened, and does not happen less by not happening again."""
# DCGM has values of its own for "not known", 2^47 and more than 2^63, which older exporters pass on
# (NVIDIA/gpu-monitoring-tools#92, guilbaults/slurm-job-exporter#30): divided by 0 they are no number, so NO_DATA
_TEMPERATURE = "DCGM_FI_DEV_GPU_TEMP / (DCGM_FI_DEV_GPU_TEMP < bool 1000)"
_MEMORY = "(DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE)"
# 0..100; the profiling counter exists under MIG, too, but may be stuck at 0 (NVIDIA/dcgm-exporter#662); single samples
# of the other may be thousands (NVIDIA/DCGM#199), which do not move a median
_PROFILED = "100 * quantile_over_time(0.5, DCGM_FI_PROF_GR_ENGINE_ACTIVE[{window}])"
_USED = "quantile_over_time(0.5, DCGM_FI_DEV_GPU_UTIL[{window}])"
_BUSY = f"{_PROFILED} > 0 <= 100 or {_USED} / ({_USED} <= bool 100) or {_PROFILED} / ({_PROFILED} <= bool 100)"


def _or_none(metric: str) -> str:
    """Write a metric that some GPUs or exporters lack: it is 0 where only the GPU's temperature is reported."""
    return f"max by (instance, gpu, UUID) ({metric} or 0 * DCGM_FI_DEV_GPU_TEMP)"


def _xid(back: str) -> str:
    """Write each GPU's last XID; newer exporters label it with its code, and some make the series at the first error.

    A GPU whose temperature is reported and that has no such series had no error.
    """
    return f"max by (instance, gpu, UUID) (DCGM_FI_DEV_XID_ERRORS{back} or 0 * DCGM_FI_DEV_GPU_TEMP{back})"


_DCGM_SIGNALS: tuple[dict[str, Any], ...] = (
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
        "promql": f"DCGM_FI_DEV_FB_USED / ({_MEMORY} * ({_MEMORY} < bool 1e9))",
        "warn": 0.95,  # vLLM takes 90 % for itself from the start
        "bad": 0.99,
    },
    {
        "name": "utilisation_percent",
        "about": "capacity",
        "promql": f"avg({_BUSY})",
        "warn": 95.0,
        "bad": 99.0,  # no reserve is left, for half of the window or more
    },
    {
        # the gauge keeps its last error for ever, so it counts in the window in which it changed, and is the XID then;
        # the same error twice running is seen once
        "name": "xid_errors",
        "promql": f"{_xid('')} * ({_xid('')} != bool {_xid(' offset {window}')})",
        "bad": 1.0,
        "confirm": _ONCE,
    },
    {
        # idle GPUs clock down by themselves, so only what is over half busy can be held down; 1 means not held down
        "name": "busy_clock_share",
        "promql": (
            f"1 - (({_BUSY}) > bool 50) "
            "* (1 - avg_over_time(DCGM_FI_DEV_SM_CLOCK[{window}]) / max_over_time(DCGM_FI_DEV_SM_CLOCK[1d]))"
        ),
        "worse": "lower",
        "warn": 0.7,  # below what a power limit costs under full load
        "bad": 0.5,  # a hardware slowdown halves the clock or more (NVML, clocks event reason "HW slowdown")
    },
    {
        # repaired rows stay counted for the GPU's life: new ones count, and ask for a reset of the GPU
        "name": "remapped_rows",
        "promql": "increase(DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS[{window}])",
        "bad": 0.5,  # increase() extrapolates; half a row lies between none and one
        "confirm": _ONCE,
    },
    {
        # one GPU, or one of several exporters, is gone while others report; after six hours it counts as taken out
        "name": "missing_gpus",
        "promql": (
            "count(count by (UUID) (last_over_time(DCGM_FI_DEV_GPU_TEMP[6h]))) "
            "- count(count by (UUID) (DCGM_FI_DEV_GPU_TEMP))"
        ),
        "bad": 1.0,
    },
    {
        # an exporter that has lost its host engine repeats its last values for ever (NVIDIA/gpu-monitoring-tools#188);
        # no GPU draws no energy, so a counter of it that stands still is a picture of the past
        "name": "stale_exporter",
        "promql": _or_none("(increase(DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION[{window}]) == bool 0)"),
        "bad": 1.0,
    },
)

PRESETS: Mapping[str, Mapping[str, tuple[dict[str, Any], ...]]] = {
    "quality": {"vllm": _VLLM_SIGNALS, "tgi": _TGI_SIGNALS, "driftloop": _DRIFTLOOP_SIGNALS},
    "gpu": {"dcgm": _DCGM_SIGNALS},
}
"""Fields of SignalSpecs by the field of the model's YAML and the preset's name."""

WHY: Mapping[str, str] = {
    "first_token_p95_seconds": "After 1 s a reader's flow is broken, after 10 s attention is gone (Nielsen, *Usability "
    "Engineering*, 1993, section 5.5).",
    "inter_token_latency_p95_seconds": "People read about 5 tokens a second (250 words a minute). They wait for text "
    "that comes slower than 0.2 s a token.",
    "request_latency_p95_seconds": "Proxies give up on an answer after 60 s (nginx's `proxy_read_timeout`). Half of "
    "that leaves time to act.",
    "request_duration_p95_seconds": "Proxies give up on an answer after 60 s (nginx's `proxy_read_timeout`). Half of "
    "that leaves time to act.",
    "queue_waiting_requests": "The mean of a whole window. A burst passes; requests that wait all the time mean that "
    "capacity is short.",
    "queue_size_requests": "The mean of a whole window. A burst passes; requests that wait all the time mean that "
    "capacity is short.",
    "kv_cache_used_share": "The cache is full at 1. The server then preempts running requests and computes them again.",
    "abort_error_share": "Some callers always go away before the end, so a small share is ordinary.",
    "corrupted_error_share": "The logits of these answers held NaN: weights or memory are broken. vLLM counts them "
    "only if it is told to look.",
    "request_error_share": "0.05 is one caller in twenty. Requests that fail validation are left out: the caller asked "
    "for something impossible.",
    "prompt_loss": "Multiples of the reference's bits per byte. The limits are wide, because counters are coarser than "
    "the sensor that reads the log.",
    "latency_p95_seconds": "The reference server answers with small models, in a second or two.",
    "error_share": "0.05 is one caller in twenty. Requests before a champion is loaded are left out: a server that "
    "starts cannot be judged.",
    "temperature_celsius": "Data-centre GPUs slow down between 85 and 90 degrees and switch off soon after.",
    "hbm_celsius": "A100 and H100 name 95 degrees as the most that their memory may have. 0 stands for *not measured*.",
    "memory_used_share": "vLLM takes 90 % for itself from the start, so only what lies above that is news.",
    "utilisation_percent": "From 99 % on no reserve is left, for half of the window or more.",
    "xid_errors": "Any new error counts. The gauge keeps its last error for ever, so it counts in the window in which "
    "it changed.",
    "busy_clock_share": "0.7 lies below what a power limit costs under full load. A hardware slowdown halves the clock "
    "or more (NVML's *HW slowdown*). Only GPUs that are over half busy are judged.",
    "remapped_rows": "One new row asks for a reset of the GPU. `increase()` extrapolates, and 0.5 lies between none "
    "and one.",
    "missing_gpus": "One GPU, or one exporter of several, is gone while others report. After six hours it counts as "
    "taken out.",
    "stale_exporter": "An exporter without its host engine repeats its last values for ever. Every GPU draws energy, "
    "so a counter of energy that stands still is old.",
}
"""Why each signal has the limits that it has; the reference shows it beside them."""
