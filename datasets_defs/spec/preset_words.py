"""Why each signal of a preset has the limits that it has. Pure data."""

from collections.abc import Mapping

_ALIKE = {
    "sglang": (
        "first_token_p95_seconds", "inter_token_latency_p95_seconds", "request_latency_p95_seconds",
        "queue_waiting_requests", "kv_cache_used_share", "abort_error_share",
    ),
    "nim": (
        "first_token_p95_seconds", "inter_token_latency_p95_seconds", "request_latency_p95_seconds",
        "queue_waiting_requests", "kv_cache_used_share", "failed_error_share",
    ),
    "triton": (
        "queue_waiting_requests", "failed_error_share", "memory_used_share", "utilisation_percent", "missing_gpus",
    ),
    "amd": ("memory_used_share", "utilisation_percent", "missing_gpus"),
    "ray": ("temperature_celsius", "memory_used_share", "utilisation_percent", "missing_gpus"),
    "xpu": ("memory_used_share", "utilisation_percent", "missing_gpus"),
    "gaudi": ("memory_used_share", "utilisation_percent", "missing_gpus"),
    "nvidia_smi": (
        "temperature_celsius", "hbm_celsius", "memory_used_share", "utilisation_percent", "missing_gpus",
    ),
}  # fmt: skip
"""Signals of other servers and exporters that have the limits, and so the reasons, of vLLM's and dcgm-exporter's."""
_WHY: Mapping[str, str] = {
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
    "failed_error_share": "0.05 is one caller in twenty.",
    "triton_request_mean_seconds": "A mean, since Triton writes no histogram unless it is told to. Proxies give up on "
    "an answer after 60 s; half of that leaves time to act.",
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
    "remapped_rows": "One new row asks for a reset of the GPU. The GPU's count is compared, whatever job it is "
    "labelled with.",
    "missing_gpus": "A GPU is gone while its node or its exporter's target is still there. A node that was taken away "
    "with its target is no lack. After six hours a GPU counts as taken out.",
    "amd_temperature_celsius": "Instinct accelerators slow down at 100 degrees at their hottest place, and switch off "
    "at 110 (`amd-smi static --limit`). The MI200 series tells the temperature of the edge alone.",
    "amd_hbm_celsius": "The memory of Instinct accelerators slows down at 105 degrees (`amd-smi static --limit`).",
    "amd_uncorrected_errors": "One new uncorrected error in memory has given a wrong number to somebody.",
    "nvidia_smi_uncorrected_errors": "One new uncorrected error in memory has given a wrong number to somebody. The "
    "count begins anew when the driver is loaded.",
    "xpu_temperature_celsius": "Intel's Data Center GPUs slow down at 105 degrees and switch off at 130 "
    "(`xpumcli health`).",
    "xpu_hbm_celsius": "The memory of Intel's Data Center GPUs slows down at 85 degrees and switches off at 100 "
    "(`xpumcli health`).",
    "xpu_uncorrected_errors": "One new uncorrected error has given a wrong number to somebody. All of a device's "
    "categories are added.",
    "gaudi_temperature_share": "Each device tells at which temperature it slows down; 1 is there.",
    "stale_exporter": "An exporter without its host engine repeats its last values for ever. Every GPU draws energy, "
    "so a GPU's energy that stands still over the whole window is old.",
}
WHY: Mapping[str, str] = {
    **_WHY,
    **{f"{server}_{name}": _WHY[name] for server, names in _ALIKE.items() for name in names},
}
"""Why each signal has the limits that it has; the reference shows it beside them."""
