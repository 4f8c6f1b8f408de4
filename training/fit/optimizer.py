"""What a training turns: which weights, how fast at each step, and in which precision."""

import math
from typing import Any

import torch

from training.fit.plan import FitPlan
from training.model import adapters

ADAPTERS_FACTOR = 10
"""Adapters bear so many times the rate of whole weights."""


def default_rate(parameters: int, method: str) -> float:
    """Give a peak learning rate for a model of this size: smaller for larger ones, ten times as much for adapters.

    Full: 1e-3 for a million parameters, 1e-4 for a hundred million, 1e-5 for ten thousand million.
    """
    return (ADAPTERS_FACTOR if method == "lora" else 1) / math.sqrt(max(parameters, 1))


def dtype_of(plan: FitPlan, device: str) -> torch.dtype | None:
    """Give the type that the passes are computed in; None for that of the weights."""
    named = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if plan.precision != "auto":
        return named[plan.precision]
    if device != "cuda":
        return None  # float32: resumption is bit-identical
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def factor_at(step: int, steps: int, warm_up_share: float) -> float:
    """Give the learning rate of a step as a share of the peak: a linear warm-up, then a half cosine to a tenth."""
    warm_up = max(1, round(steps * warm_up_share))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def trainable(network: Any) -> dict[str, torch.nn.Parameter]:
    """Give the weights that are trained, by name."""
    return {name: weight for name, weight in network.named_parameters() if weight.requires_grad}


def optimizer(weights: dict[str, torch.nn.Parameter], plan: FitPlan) -> torch.optim.Optimizer:
    """Decay matrices alone; beside adapters at their own default rate, whole weights learn at that of a full training.

    At the rate of adapters, embeddings forget twice what the gate allows. A rate that was asked for holds for all.
    """
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    slower = plan.method == "lora" and plan.learning_rate is None
    for name, weight in weights.items():
        decay = plan.weight_decay if weight.ndim > 1 else 0.0
        share = 1 / ADAPTERS_FACTOR if slower and not adapters.is_adapter(name) else 1.0
        groups.setdefault((decay, share), []).append(weight)
    listed = [{"params": group, "weight_decay": decay, "share": share} for (decay, share), group in groups.items()]
    return torch.optim.AdamW(listed, betas=(0.9, 0.95), fused=True)
