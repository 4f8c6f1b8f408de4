"""Signals of exporters that many people run, so that a model's YAML names them in one word. Pure data.

`datasets_defs.spec.model` makes SignalSpecs of these.
"""

from collections.abc import Mapping
from typing import Any

from datasets_defs.spec.preset_accelerators import AMD, GAUDI, NVIDIA_SMI, RAY, TRITON_GPUS, XPU
from datasets_defs.spec.preset_gpus import DCGM
from datasets_defs.spec.preset_servers import NIM, SGLANG, TGI, TRITON, VLLM

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
MEAN_LOSS_QUERIES = frozenset(signal["promql"] for signal in _DRIFTLOOP_SIGNALS if signal["name"] == "prompt_loss")
"""Queries for what all prompts cost on the mean, which moves with what is asked."""

PRESETS: Mapping[str, Mapping[str, tuple[dict[str, Any], ...]]] = {
    "quality": {
        "vllm": VLLM,
        "tgi": TGI,
        "sglang": SGLANG,
        "nim": NIM,
        "triton": TRITON,
        "driftloop": _DRIFTLOOP_SIGNALS,
    },
    "gpu": {
        "dcgm": DCGM,
        "amd": AMD,
        "gaudi": GAUDI,
        "nvidia_smi": NVIDIA_SMI,
        "xpu": XPU,
        "ray": RAY,
        "triton": TRITON_GPUS,
    },
}
"""Fields of SignalSpecs by the field of the model's YAML and the preset's name."""
