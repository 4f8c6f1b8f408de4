"""Signals on the metrics of servers that many people run. Pure data.

Names of metrics move between releases, so each is looked up in a table of aliases and the query asks for all of them,
joined by `or`: per series the first that exists counts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

_PREFIXES = ("vllm:", "vllm_", "ray_vllm:", "ray_vllm_")
"""vLLM writes `vllm:name`, exporters that allow no colon pass it on as `vllm_name`; Ray Serve puts `ray_` before it."""
_VLLM = {
    "first_token": ("time_to_first_token_seconds_bucket",),
    "inter_token": ("inter_token_latency_seconds_bucket", "time_per_output_token_seconds_bucket"),
    "request": ("e2e_request_latency_seconds_bucket",),
    "waiting": ("num_requests_waiting",),
    "kv_cache": ("kv_cache_usage_perc", "gpu_cache_usage_perc"),
    "ended": ("request_success_total",),
    "corrupted": ("corrupted_requests_total", "corrupted_requests"),
    "tokens": ("prompt_tokens_total", "generation_tokens_total"),
}
_SGLANG = {
    "first_token": ("time_to_first_token_seconds_bucket",),
    "inter_token": ("inter_token_latency_seconds_bucket", "time_per_output_token_seconds_bucket"),
    "request": ("e2e_request_latency_seconds_bucket",),
    "waiting": ("num_queue_reqs",),
    "kv_cache": ("token_usage",),
    "ended": ("num_requests_total",),
    "aborted": ("num_aborted_requests_total",),
    "tokens": ("prompt_tokens_total", "generation_tokens_total"),
}


def _named(prefixes: Sequence[str], table: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {key: tuple(f"{prefix}{name}" for name in names for prefix in prefixes) for key, names in table.items()}


VLLM_NAMES = _named(_PREFIXES, _VLLM)
SGLANG_NAMES = _named(("sglang:", "sglang_"), _SGLANG)
NIM_NAMES = {
    **_named(
        ("",), {key: _VLLM[key] for key in ("first_token", "inter_token", "request", "waiting", "kv_cache", "tokens")}
    ),
    "success": ("request_success_total",),
    "failure": ("request_failure_total",),
}
"""NVIDIA's NIM writes vLLM's names without a prefix."""
TGI_NAMES: dict[str, tuple[str, ...]] = {
    # TGI's counters have no suffix; collectors that follow OpenMetrics add one
    "duration": ("tgi_request_duration_bucket",),
    "queue": ("tgi_queue_size",),
    "success": ("tgi_request_success", "tgi_request_success_total"),
    "failure": ("tgi_request_failure", "tgi_request_failure_total"),
}
TRITON_NAMES: dict[str, tuple[str, ...]] = {
    "success": ("nv_inference_request_success", "nv_inference_request_success_total"),
    "failure": ("nv_inference_request_failure", "nv_inference_request_failure_total"),
    "duration": ("nv_inference_request_duration_us", "nv_inference_request_duration_us_total"),
    "pending": ("nv_inference_pending_request_count",),
}

_SERVED = 'model_name="{served}"'
"""The label of vLLM and its kin: the name given with `--served-model-name`."""
_TRITON = 'model="{served}"'
_LABELLED = 'model=~"{model}|"'
"""TGI serves one model and has no label for it: what its scrape job labels `model`, or has no such label at all."""
_SAME = "pid, tp_rank, pp_rank, moe_ep_rank, job, service, endpoint, prometheus_replica"
"""Labels by which one engine's gauge is there several times: of the processes that share the engine, idle ones with 0
(vllm-project/vllm#28792), of two scrape jobs for one target, and of a pair of Prometheus servers."""


def _first(template: str, names: Sequence[str], matchers: str) -> str:
    """Write a template (`$` is the selector) once for each alias, joined by `or`."""
    return " or ".join(template.replace("$", f"{name}{{{matchers}}}") for name in names)


def _rate(names: Sequence[str], matchers: str) -> str:
    return _first("rate($[{window}])", names, matchers)


def _p95(names: Sequence[str], matchers: str) -> str:
    return f"histogram_quantile(0.95, sum by (le) ({_rate(names, matchers)}))"


def _means(names: Sequence[str], matchers: str) -> str:
    """Write each engine's mean over the window: of several the worst is judged, and one that is NaN is not passed by.

    An engine's gauge counts once, however often it is written or scraped.
    """
    return f"max without ({_SAME}) ({_first('avg_over_time($[{window}])', names, matchers)})"


def _while_working(gauge: str, names: Mapping[str, tuple[str, ...]], matching: str = "*") -> str:
    """Write a gauge that is no number while it stands above 0 and not one token is computed in the window.

    When all requests are aborted at once vLLM leaves its gauges as they were (vllm-project/vllm#22545, #29928), and an
    engine that hangs looks the same: more machines help neither.
    """
    tokens = f"sum({_rate(names['tokens'], _SERVED)})"
    return f"({gauge}) == 0 or ({gauge}) {matching} ({tokens} / {tokens}) or {gauge}"


def _share(part: str, whole: str) -> str:
    """Write a share of requests; a counter of failures that does not exist before the first failure is zero."""
    return f"(sum({part}) or 0 * sum({whole})) / sum({whole})"


def _failed(names: Mapping[str, tuple[str, ...]], matchers: str, counted: str = "") -> str:
    """Write the share of requests that failed; `counted` says which failures count."""
    success, failure = (_rate(names[key], matchers) for key in ("success", "failure"))
    # each sum by itself: two counters of the same labels would be one side of an `or`
    whole = f"((sum({success}) or 0 * sum({failure})) + (sum({failure}) or 0 * sum({success})))"
    return f"(sum({_rate(names['failure'], matchers + counted)}) or 0 * {whole}) / {whole}"


# of interactive use: after 1 s a reader's flow is broken, after 10 s attention is gone (Nielsen, "Usability
# Engineering", 1993, section 5.5)
_FIRST_TOKEN = {"warn": 2.0, "bad": 10.0}
# people read about 5 tokens a second (250 words a minute): text that comes slower than 0.2 s a token is waited for
_INTER_TOKEN = {"warn": 0.1, "bad": 0.2}
# proxies give up on an answer after 60 s (nginx: proxy_read_timeout); half of it leaves time to act
_REQUEST = {"warn": 30.0, "bad": 60.0}
# the mean of a whole window: a burst passes, requests that wait all the time mean that capacity is short
_QUEUE = {"warn": 1.0, "bad": 10.0}

# some callers always go away before the end
_ABORTED = {"warn": 0.05, "bad": 0.2}
# full at 1: then running requests are preempted and computed again
_KV_CACHE = {"warn": 0.9, "bad": 0.97}
_FAILED = {"warn": 0.01, "bad": 0.05}  # one caller in twenty


def _engine(names: Mapping[str, tuple[str, ...]], prefix: str = "") -> tuple[dict[str, Any], ...]:
    """Write what vLLM and its kin have in common."""
    speeds = (
        ("first_token_p95_seconds", "first_token", _FIRST_TOKEN),
        ("inter_token_latency_p95_seconds", "inter_token", _INTER_TOKEN),
        ("request_latency_p95_seconds", "request", _REQUEST),
    )
    return (
        *(
            {"name": f"{prefix}{name}", "about": "machines", "promql": _p95(names[key], _SERVED), **limits}
            for name, key, limits in speeds
        ),
        {
            "name": f"{prefix}queue_waiting_requests",
            "about": "capacity",
            "promql": _while_working(f"sum({_means(names['waiting'], _SERVED)})", names),
            **_QUEUE,
        },
        {
            "name": f"{prefix}kv_cache_used_share",
            "about": "capacity",
            "promql": _while_working(_means(names["kv_cache"], _SERVED), names, "* on () group_left ()"),
            **_KV_CACHE,
        },
    )


_ENDED = _rate(VLLM_NAMES["ended"], _SERVED)
VLLM: tuple[dict[str, Any], ...] = (
    *_engine(VLLM_NAMES),
    {
        "name": "abort_error_share",
        "about": "answers",
        "promql": _share(_rate(VLLM_NAMES["ended"], f'{_SERVED},finished_reason=~"abort|error"'), _ENDED),
        **_ABORTED,
    },
    {
        # answers whose logits held NaN: broken weights or memory; only counted if the server is told to look
        "name": "corrupted_error_share",
        "about": "answers",
        "promql": _share(_rate(VLLM_NAMES["corrupted"], _SERVED), _ENDED),
        "warn": 0.001,
        "bad": 0.01,
    },
)
SGLANG: tuple[dict[str, Any], ...] = (
    *_engine(SGLANG_NAMES, "sglang_"),
    {
        "name": "sglang_abort_error_share",
        "about": "answers",
        "promql": _share(_rate(SGLANG_NAMES["aborted"], _SERVED), _rate(SGLANG_NAMES["ended"], _SERVED)),
        **_ABORTED,
    },
)
NIM: tuple[dict[str, Any], ...] = (
    *_engine(NIM_NAMES, "nim_"),
    {"name": "nim_failed_error_share", "about": "answers", "promql": _failed(NIM_NAMES, _SERVED), **_FAILED},
)
TRITON: tuple[dict[str, Any], ...] = (
    {
        "name": "triton_request_mean_seconds",  # Triton has no histogram unless it is told to write one
        "about": "machines",
        "promql": (
            f"sum({_rate(TRITON_NAMES['duration'], _TRITON)}) / 1e6 / sum({_rate(TRITON_NAMES['success'], _TRITON)})"
        ),
        **_REQUEST,
    },
    {
        "name": "triton_queue_waiting_requests",
        "about": "capacity",
        "promql": f"sum({_means(TRITON_NAMES['pending'], _TRITON)})",
        **_QUEUE,
    },
    {
        "name": "triton_failed_error_share",
        "about": "answers",
        "promql": _failed(TRITON_NAMES, _TRITON, ',reason!="CANCELED"'),
        **_FAILED,
    },
)
TGI: tuple[dict[str, Any], ...] = (
    {
        "name": "request_duration_p95_seconds",
        "about": "machines",
        "promql": _p95(TGI_NAMES["duration"], _LABELLED),
        **_REQUEST,
    },
    {
        "name": "queue_size_requests",
        "about": "capacity",
        "promql": f"sum({_means(TGI_NAMES['queue'], _LABELLED)})",
        **_QUEUE,
    },
    {
        "name": "request_error_share",  # without `validation`: what the caller asked for was impossible
        "about": "answers",
        "promql": _failed(TGI_NAMES, _LABELLED, ',err!="validation"'),
        **_FAILED,
    },
)
