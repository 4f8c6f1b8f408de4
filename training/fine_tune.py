"""The training loop: one file, read from top to bottom; killed anywhere, it goes on to the same result."""

import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from datasets_defs.errors import ContractError
from training import checkpoints
from training.language_model import LanguageModel

log = logging.getLogger(__name__)
PROGRESS_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a training goes. The number of steps follows from the data alone, so the learning rate does too."""

    epochs: float
    learning_rate: float
    """Peak, reached after the warm-up, falling along a half cosine to a tenth of it."""
    batch_tokens: int
    """Tokens per optimizer step."""
    max_seconds: float
    """Training time at most, over all resumptions together."""
    checkpoint_seconds: float
    seed: int = 0
    warm_up_share: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    """Largest norm of the gradient."""
    blend: float = 1.0
    """How far the result goes from the weights it started from to the trained ones, 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a training stands."""

    step: int
    steps: int
    """Planned."""
    loss: float
    """Nats per token of the newest batch."""
    elapsed_seconds: float
    """Training time, earlier runs included."""

    @property
    def share(self) -> float:
        """How much of the plan is done, 0..1."""
        return self.step / self.steps


def fine_tune(
    model: LanguageModel,
    documents: Sequence[str],
    plan: Plan,
    folder: Path,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Train the model in place on the documents; goes on from the newest valid checkpoint in `folder`.

    Deterministic on one machine with one number of threads: the same documents, plan and weights give the same
    result, interrupted or not, as long as the plan fits in `max_seconds`. `progress` is called every few seconds and
    may raise to stop the training. The result is blended with the weights it started from, which keeps most of what
    was learned and forgets much less (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).

    Raises:
        ContractError: there is nothing to train on, or the loss is no number any more.
    """
    sequences = pack(model, documents)
    rows = max(1, plan.batch_tokens // sequences.shape[1])
    steps = max(1, math.ceil(len(sequences) * plan.epochs / rows))
    optimizer = torch.optim.AdamW(
        model.network.parameters(), lr=plan.learning_rate, betas=(0.9, 0.95), weight_decay=plan.weight_decay
    )
    start = [weight.detach().clone() for weight in model.network.parameters()] if plan.blend < 1 else []
    step, earlier, loss = _resume(model, optimizer, folder)
    began = saved = told = time.monotonic()
    model.network.train()
    while step < steps and earlier + time.monotonic() - began < plan.max_seconds:
        batch = sequences[_rows_of(step, rows, len(sequences), plan.seed)].to(model.network.device)
        _set_rate(optimizer, plan, step, steps)
        loss = _learn(model, optimizer, batch, plan.clip)
        step += 1
        now = time.monotonic()
        if not math.isfinite(loss):
            raise ContractError(f"loss is {loss} at step {step}: the learning rate {plan.learning_rate} is too high")
        if now - told >= PROGRESS_SECONDS:
            progress(Progress(step=step, steps=steps, loss=loss, elapsed_seconds=earlier + now - began))
            told = now
        if now - saved >= plan.checkpoint_seconds:
            _save(model, optimizer, folder, step, earlier + now - began, loss)
            saved = time.monotonic()
    elapsed = earlier + time.monotonic() - began
    _save(model, optimizer, folder, step, elapsed, loss)
    _blend(model, start, plan.blend)
    model.network.eval()
    done = Progress(step=step, steps=steps, loss=loss, elapsed_seconds=elapsed)
    progress(done)
    if step < steps:
        log.warning("stopped after %.0f s at step %d of %d; max_seconds is reached", elapsed, step, steps)
    return done


def pack(model: LanguageModel, documents: Sequence[str]) -> torch.Tensor:
    """Join the documents, each between the start and the end token, and cut them into rows of the context's length.

    The rest that does not fill a row is filled up from the beginning, so no document is lost.

    Raises:
        ContractError: the documents hold no text.
    """
    ends = [model.end] if model.end != model.start else []
    stream = [token for text in documents for token in (model.start, *model.encode(text), *ends)]
    if not any(text.strip() for text in documents):
        raise ContractError(f"{len(documents)} training documents hold no text; nothing can be learned from them")
    length = min(model.context, 1024)
    missing = -len(stream) % length
    stream += (stream * (missing // len(stream) + 1))[:missing]
    return torch.tensor(stream).view(-1, length)


def _rows_of(step: int, rows: int, total: int, seed: int) -> list[int]:
    """Give the rows of one step: every epoch in an order of its own that depends on the seed and its number alone."""
    chosen = []
    for position in range(step * rows, (step + 1) * rows):
        epoch, place = divmod(position, total)
        chosen.append(_order(total, seed, epoch)[place])
    return chosen


@lru_cache(maxsize=2)
def _order(total: int, seed: int, epoch: int) -> list[int]:
    order = list(range(total))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return order


def _set_rate(optimizer: torch.optim.Optimizer, plan: Plan, step: int, steps: int) -> None:
    warm_up = max(1, round(steps * plan.warm_up_share))
    if step < warm_up:
        factor = (step + 1) / warm_up
    else:
        factor = 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
    for group in optimizer.param_groups:
        group["lr"] = plan.learning_rate * factor


def _learn(model: LanguageModel, optimizer: torch.optim.Optimizer, batch: torch.Tensor, clip: float) -> float:
    logits = model.network(batch[:, :-1], use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.network.parameters(), clip)
    optimizer.step()
    return float(loss.detach())


@torch.no_grad()
def _blend(model: LanguageModel, start: list[torch.Tensor], share: float) -> None:
    for weight, before in zip(model.network.parameters(), start, strict=False):  # no start: nothing to blend with
        weight.copy_(torch.lerp(before, weight, share))


def _save(
    model: LanguageModel, optimizer: torch.optim.Optimizer, folder: Path, step: int, elapsed: float, loss: float
) -> None:
    def write(to: Path) -> None:
        tensors = {f"model.{name}": value.detach().contiguous() for name, value in _named(model).items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value.contiguous() for name, value in state.items()}
        # Dropout, where a model has it, draws from the global generator.
        tensors |= {"rng": torch.get_rng_state()}
        counters = {"step": str(step), "elapsed": repr(elapsed), "loss": repr(loss)}
        save_file(tensors, to / "state.safetensors", metadata=counters)

    checkpoints.save(folder, step, write)


def _resume(model: LanguageModel, optimizer: torch.optim.Optimizer, folder: Path) -> tuple[int, float, float]:
    path = checkpoints.newest_valid(folder)
    if path is None:
        torch.manual_seed(0)
        return 0, 0.0, math.nan
    from safetensors import safe_open

    try:
        tensors = load_file(path / "state.safetensors")
        with safe_open(path / "state.safetensors", "pt") as file:
            counters = file.metadata()
    except (SafetensorError, OSError) as err:
        raise ContractError(f"checkpoint {path} cannot be read ({err}); remove it") from err
    with torch.no_grad():
        for name, parameter in _named(model).items():
            parameter.copy_(tensors[f"model.{name}"])
    state: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, field = name.split(".")
            state.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["rng"])
    step = int(counters["step"])
    log.info("resumed at step %d from %s", step, path)
    return step, float(counters["elapsed"]), float(counters["loss"])


def _named(model: LanguageModel) -> dict[str, torch.Tensor]:
    return dict(model.network.named_parameters())  # tied weights come once; buffers never change in training
