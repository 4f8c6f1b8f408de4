"""What one model is put through: it scores texts, continues prompts, and is damaged to see whether that shows."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from datasets_defs.spec.model import ModelSpec
from training.judge.metrics import Answer
from training.model.language_model import LanguageModel
from training.model.sampling import Loss

SCORED_AT_ONCE = 64
"""Texts between two ticks."""
NOISE = 4.0
"""Of the damaged copy, in standard deviations of each matrix."""


def score(model: LanguageModel, texts: Sequence[str], tick: Callable[[float], None] = lambda _: None) -> list[Loss]:
    """Give what each text costs, in the order given; texts of like length are scored together."""
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    losses: dict[int, Loss] = {}
    for at in range(0, len(order), SCORED_AT_ONCE):
        numbers = order[at : at + SCORED_AT_ONCE]
        losses |= dict(zip(numbers, model.losses([texts[number] for number in numbers]), strict=True))
        tick(len(losses) / len(texts))
    return [losses[number] for number in range(len(texts))]


def score_backwards(model: LanguageModel, texts: Sequence[str], tick: Callable[[float], None]) -> list[Loss]:
    """Score texts in the opposite order, and give the losses in theirs: a loss must not depend on its neighbours."""
    return score(model, texts[::-1], tick)[::-1]


def complete(
    model: LanguageModel, asked: Sequence[Mapping[str, Any]], spec: ModelSpec, tick: Callable[[float], None]
) -> list[Answer]:
    """Let a model continue prompts by the likeliest tokens; where a prompt fills the context, the answer is empty."""
    answers = []
    for row in asked:
        prompt = str(row["prompt"])
        room = model.context - 1 - len(model.encode(prompt))
        began = time.perf_counter()
        made = model.complete(prompt, max_tokens=min(room, spec.evaluation.max_new_tokens)) if room > 0 else None
        answers.append(
            Answer(
                prompt=prompt,
                reference=str(row["reference"]),
                completion=made.text if made else "",
                tokens=made.completion_tokens if made else 0,
                seconds=time.perf_counter() - began,
            )
        )
        tick(len(answers) / len(asked))
    return answers


def damage(model: LanguageModel) -> None:
    """Add noise to a model's matrices in place, the same every time."""
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.network.parameters():
            if weights.dim() > 1:
                noise = torch.randn(weights.shape, generator=source) * NOISE
                weights.add_(noise.to(weights) * weights.std())


def tokens_of(model: LanguageModel, texts: Sequence[str]) -> int:
    """Count the tokens of all texts."""
    return sum(len(model.encode(text)) for text in texts)


def perplexity(losses: Sequence[Loss], tokens: int) -> float:
    """Give the perplexity per token of all rows: for people, and comparable with one tokenizer only."""
    return float(2 ** min(1000.0, sum(loss.bits for loss in losses) / max(1, tokens)))


def release() -> None:
    """Free the memory of models that nothing holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
