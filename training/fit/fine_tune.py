"""The training loop: one file, read from top to bottom; killed anywhere, it goes on to the same result."""

import hashlib
import logging
import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch

from datasets_defs.core.errors import ContractError
from training.fit.curve import Curve
from training.fit.early_stopping import stop_early
from training.fit.group import Group
from training.fit.packing import PackedRows, pack, parts_documents
from training.fit.state import FitState
from training.model import adapters
from training.model.language_model import LanguageModel

log = logging.getLogger(__name__)
PROGRESS_SECONDS = 2.0
LOOKS = 10
"""How often a training looks at its validation texts."""
MOST_VALIDATION_TEXTS = 500
ADAPTERS_FACTOR = 10
"""Adapters bear so many times the rate of whole weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitPlan:
    """How a training goes. The number of steps follows from the data alone, so the learning rate does too."""

    epochs: float
    learning_rate: float | None = None
    """Peak, reached after the warm-up, falling along a half cosine to a tenth of it. None: by the model's size."""
    batch_tokens: int
    """Tokens per optimizer step."""
    max_seconds: float
    """Training time at most, over all resumptions together."""
    checkpoint_seconds: float
    seed: int = 0
    warm_up_share: float = 0.05
    weight_decay: float = 0.01
    """Of matrices; biases and norms are left alone."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    blend: float = 1.0
    """How far the result goes from the weights it started from to the trained ones, 0..1."""
    method: Literal["full", "lora"] = "full"
    rank: int = 16
    """Of the adapters."""
    alpha: float = 32
    """What the adapters add is multiplied by alpha / rank."""
    embeddings: bool = True
    """Whether embeddings and norms are trained beside the adapters."""
    row_tokens: int = 1024
    """Longest row, in tokens; longer documents are cut."""
    forward_tokens: int = 4096
    """Tokens in one forward pass at most (at least one row); a step adds up as many passes as it needs."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the passes; weights and optimizer stay float32. `auto`: float32 on a CPU, else the best that a GPU has."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them: a third slower, and far less memory."""
    patience: int = 3
    """Looks at the validation texts without a new best one after which the training stops."""


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
    tokens_per_second: float = 0.0
    validation: float | None = None
    """Bits per byte of the validation texts at the newest look."""

    @property
    def share(self) -> float:
        """How much of the plan is done, 0..1."""
        return self.step / self.steps

    def __str__(self) -> str:
        looked = f", validation {self.validation:.3f} bits per byte" if self.validation is not None else ""
        return f"step {self.step} of {self.steps}, loss {self.loss:.3f}{looked}, {self.tokens_per_second:,.0f} tokens/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Progress):
    """How a training ended."""

    curve: Curve = field(repr=False)
    learning_rate: float
    """Peak that was used."""
    trained_parameters: int
    filled_share: float
    """Share of the rows' places that held text, 0..1."""
    stopped: str = ""
    """Why it ended before its last step; empty when it did not."""


def fine_tune(
    model: LanguageModel,
    documents: Iterable[str],
    plan: FitPlan,
    folder: Path,
    progress: Callable[[Progress], None] = lambda _: None,
    *,
    validation: Sequence[str] = (),
    group: Group | None = None,
) -> Result:
    """Train the model in place on the documents; goes on from the newest valid checkpoint in `folder`.

    Deterministic on one machine with one number of threads: the same documents, plan and weights give the same loss
    curve and the same result to the last digit on a CPU, interrupted or not, as long as the plan fits in
    `max_seconds`. Checkpoints of another plan or of other documents are not touched. `progress` is called every few
    seconds and may raise to stop the training.

    With validation texts the training stops once it stops getting better on them, and the best weights are taken. The
    result is blended with the weights it started from, which keeps most of what was learned and forgets much less
    (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022). Adapters are merged: what is left is an
    ordinary model. Each process of a `group` calls this with the same arguments; the first one's model is the result.

    Raises:
        ContractError: there is nothing to train on, or the loss is no number any more.
    """
    together = parts_documents(model)
    if not together:
        log.warning("the model does not keep documents of one row apart: each gets a row of its own")
    rows = pack(model, documents, length=min(model.context, plan.row_tokens), seed=plan.seed, together=together)
    looked_at = tuple(text for text in validation[:MOST_VALIDATION_TEXTS] if text.strip())
    loop = _Loop(model, rows, plan, looked_at, together=together, group=group or Group())
    ended = loop.run(folder / _fingerprint(plan, rows, looked_at), progress)
    progress(ended)
    if ended.stopped:
        log.info("stopped at step %d of %d: %s", ended.step, ended.steps, ended.stopped)
    return ended


class _Loop:
    """One training, on its way."""

    def __init__(
        self,
        model: LanguageModel,
        rows: PackedRows,
        plan: FitPlan,
        validation: tuple[str, ...],
        *,
        together: bool,
        group: Group,
    ) -> None:
        self.model, self.rows, self.plan, self.validation, self.together = model, rows, plan, validation, together
        self.group = group
        self.batch = max(1, plan.batch_tokens // rows.length)
        self.passes = max(1, plan.forward_tokens // rows.length)
        self.steps = max(1, math.ceil(len(rows) * plan.epochs / self.batch))
        self.adapted = self._attach()
        own = [each for name, each in _trainable(model.network).items() if not adapters.is_adapter(name)]
        self.start = [(weight, weight.detach().clone()) for weight in own] if plan.blend < 1 else []
        self.rate = plan.learning_rate or default_rate(sum(each.numel() for each in self._weights()), plan.method)
        self.trained, self.forward = group.prepare(model.network)
        self.device = self.trained.device
        self.dtype = dtype_of(plan, self.device.type)
        group.check(self.dtype)
        trainable = _trainable(self.trained)
        self.state = FitState(
            trainable,
            _optimizer(trainable, plan),
            torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16),
            group=group,
        )

    def _weights(self) -> list[torch.nn.Parameter]:
        return [each for name, each in self.model.network.named_parameters() if not adapters.is_adapter(name)]

    def _attach(self) -> Any:
        if self.plan.method == "full":
            return None
        plan = self.plan
        return adapters.attach(self.model, rank=plan.rank, alpha=plan.alpha, embeddings=plan.embeddings, seed=plan.seed)

    def run(self, folder: Path, progress: Callable[[Progress], None]) -> Result:
        """Train to the end, or to where something says stop."""
        state, plan, group = self.state, self.plan, self.group
        torch.manual_seed(plan.seed + group.rank)
        if not state.resume(folder):
            self._look()
        began = saved = told = time.monotonic()
        earlier = state.elapsed
        self._enter_training()
        over = state.elapsed >= plan.max_seconds
        while state.step < self.steps and not over and not self._why_stop():
            loss, rate, tokens = self._learn()
            state.elapsed = earlier + time.monotonic() - began
            state.curve.add(loss=loss, rate=rate, tokens=tokens, seconds=state.elapsed)
            self._look_when_due()
            now = time.monotonic()
            if now - told >= PROGRESS_SECONDS:
                progress(self._progress())
                told = now
            due, over = group.agree(now - saved >= plan.checkpoint_seconds, state.elapsed >= plan.max_seconds)
            if due:
                state.save(folder)
                saved = time.monotonic()
        state.elapsed = earlier + time.monotonic() - began
        state.save(folder)
        return self._end()

    def _enter_training(self) -> None:
        network = self.trained
        if self.plan.gradient_checkpointing:
            network.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        network.train()

    def _learn(self) -> tuple[float, float, int]:
        """Take one optimizer step; give its loss, its learning rate and how many tokens it learned from."""
        state, plan = self.state, self.plan
        chosen = _rows_of(state.step, self.batch, len(self.rows), plan.seed)
        rate = self.rate * factor_at(state.step, self.steps, plan.warm_up_share)
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        tokens = int((self.rows.targets[chosen] >= 0).sum())
        parts = self.group.passes(chosen, self.passes)
        state.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for number, part in enumerate(parts):
            counts = self.group.size if part else 0  # gradients are averaged over the processes
            with self.group.pass_of(self.forward, last=number == len(parts) - 1):
                loss = self._loss(self.rows.take(part or chosen[:1])) / tokens * counts
                state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach()) / self.group.size
        total = self.group.total(total)
        if not math.isfinite(total):
            raise ContractError(f"loss is {total} at step {state.step + 1}: the learning rate {self.rate} is too high")
        state.scaler.unscale_(state.optimizer)
        torch.nn.utils.clip_grad_norm_(state.trainable.values(), plan.clip)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        return total, rate, tokens

    def _loss(self, part: PackedRows) -> torch.Tensor:
        """Give the sum of the nats of all tokens of some rows."""
        apart = {"position_ids": part.positions.to(self.device)} if self.together else {}
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            logits = self.forward(part.inputs.to(self.device), use_cache=False, **apart).logits
        return torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), part.targets.to(self.device).flatten(), reduction="sum"
        )

    def _look_when_due(self) -> None:
        every = math.ceil(self.steps / LOOKS)
        if self.state.step % every == 0 or self.state.step == self.steps:
            self._look()

    def _look(self) -> None:
        """Score the validation texts, and keep the weights if they were never better."""
        if not self.validation:
            return
        state, network = self.state, self.trained
        was_training = network.training
        network.eval()
        cost, count = self.group.cost(replace(self.model, network=network), self.validation)
        network.train(was_training)
        bits = cost / count
        trained = [value for step, value in state.curve.validation.items() if step]
        state.curve.validation[state.step] = bits
        if state.step and bits < min(trained, default=math.inf):
            state.keep_best()

    def _why_stop(self) -> str:
        trained = [value for step, value in self.state.curve.validation.items() if step]
        if not trained:
            return ""
        stop = stop_early(trained, self.plan.patience)
        return stop.reason if stop.now else ""

    def _progress(self) -> Progress:
        curve = self.state.curve
        return Progress(
            step=self.state.step,
            steps=self.steps,
            loss=curve.losses[-1] if curve.losses else math.nan,
            elapsed_seconds=self.state.elapsed,
            tokens_per_second=curve.tokens_per_second,
            validation=list(curve.validation.values())[-1] if curve.validation else None,
        )

    def _end(self) -> Result:
        """Take the best weights, blend or merge them, and tell how it went."""
        network, state = self.model.network, self.state
        trained = sum(weight.numel() for weight in state.trainable.values())
        state.take_best()
        if self.plan.gradient_checkpointing:
            self.trained.activation_checkpointing_disable()
        self.group.finish(self.trained, network)
        if self.adapted is not None:
            adapters.merge(self.adapted, self.plan.blend)
        _blend(self.start, self.plan.blend)
        network.requires_grad_(True)
        network.eval()
        stopped = self._why_stop() if state.step < self.steps else ""
        if state.step < self.steps and not stopped:
            stopped = f"max_seconds is reached after {state.elapsed:.0f} s"
        said = self._progress()
        return Result(
            **asdict(said),
            curve=state.curve,
            learning_rate=self.rate,
            trained_parameters=trained,
            filled_share=self.rows.filled_share,
            stopped=stopped,
        )


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


def _trainable(network: Any) -> dict[str, torch.nn.Parameter]:
    return {name: each for name, each in network.named_parameters() if each.requires_grad}


def _optimizer(trainable: dict[str, torch.nn.Parameter], plan: FitPlan) -> torch.optim.Optimizer:
    """Decay matrices alone; beside adapters at their own default rate, whole weights learn at that of a full training.

    At the rate of adapters, embeddings forget twice what the gate allows. A rate that was asked for holds for all.
    """
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    slower = plan.method == "lora" and plan.learning_rate is None
    for name, weight in trainable.items():
        decay = plan.weight_decay if weight.ndim > 1 else 0.0
        share = 1 / ADAPTERS_FACTOR if slower and not adapters.is_adapter(name) else 1.0
        groups.setdefault((decay, share), []).append(weight)
    listed = [{"params": each, "weight_decay": decay, "share": share} for (decay, share), each in groups.items()]
    return torch.optim.AdamW(listed, betas=(0.9, 0.95), fused=True)


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


@torch.no_grad()
def _blend(start: Iterable[tuple[torch.Tensor, torch.Tensor]], share: float) -> None:
    for weight, before in start:
        weight.copy_(torch.lerp(before, weight, share))


def _fingerprint(plan: FitPlan, rows: PackedRows, validation: Sequence[str]) -> str:
    """Name what decides on the curve: the plan without its limits in time, the rows and the validation texts."""
    decides = {name: value for name, value in asdict(plan).items() if name not in ("max_seconds", "checkpoint_seconds")}
    found = hashlib.sha256(repr((sorted(decides.items()), validation)).encode("utf-8", "replace"))
    for tensor in (rows.inputs, rows.targets):
        found.update(tensor.numpy().tobytes())
    return f"plan-{found.hexdigest()[:16]}"
