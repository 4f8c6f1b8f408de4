"""The training loop: one file, read from top to bottom; killed anywhere, it goes on to the same result."""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from datasets_defs.core.errors import ContractError
from training.fit.early_stopping import stop_early
from training.fit.group import Group
from training.fit.optimizer import default_rate, dtype_of, factor_at, optimizer, trainable
from training.fit.order import rows_of
from training.fit.packing import PackedRows, pack, parts_documents
from training.fit.plan import FitPlan, Progress, Result
from training.fit.state import FitState
from training.fit.trouble import SMALLEST_SCALE, no_gradient, no_number, told
from training.model import adapters
from training.model.language_model import LanguageModel

log = logging.getLogger(__name__)
PROGRESS_SECONDS = 2.0
LOOKS = 10
"""How often a training looks at its validation texts."""
MOST_VALIDATION_TEXTS = 500


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

    Deterministic on one machine with one number of threads, as long as the plan fits in `max_seconds`. The same
    documents, plan and weights give the same loss curve and the same result, interrupted or not; on a CPU they do to
    the last digit. Checkpoints of another plan or of other documents are not touched. `progress` is called every few
    seconds and may raise to stop the training.

    With validation texts the training stops once it stops getting better on them, and the best weights are taken. The
    result is blended with the weights it started from, which keeps most of what was learned and forgets much less
    (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022). Adapters are merged, so that an ordinary
    model is left, unless the plan keeps them. A model that comes with adapters goes on with those. Each process of a
    `group` calls this with the same arguments; the first one's model is the result.

    Raises:
        OutOfMemoryError: the training does not fit the memory.
        ContractError: there is nothing to train on, the loss is no number any more, or torch refuses.
        TransientError: a machine or a network failed.
    """
    with told(plan):
        return _fine_tune(model, documents, plan, folder, progress, tuple(validation), group or Group())


def _fine_tune(
    model: LanguageModel,
    documents: Iterable[str],
    plan: FitPlan,
    folder: Path,
    progress: Callable[[Progress], None],
    validation: tuple[str, ...],
    group: Group,
) -> Result:
    together = parts_documents(model)
    if not together:
        log.warning("the model does not keep documents of one row apart: each gets a row of its own")
    rows = pack(model, documents, length=min(model.context, plan.row_tokens), seed=plan.seed, together=together)
    looked_at = tuple(text for text in validation[:MOST_VALIDATION_TEXTS] if text.strip())
    loop = _Loop(model, rows, plan, looked_at, together=together, group=group)
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
        self.goes_on = adapters.are_attached(model.network)
        self.adapted = self._attach()
        own = [
            parameter
            for name, parameter in trainable(model.network).items()
            if self.goes_on or not adapters.is_adapter(name)
        ]
        self.start = [(weight, weight.detach().clone()) for weight in own] if plan.blend < 1 else []
        self.rate = plan.learning_rate or default_rate(
            sum(parameter.numel() for parameter in self._weights()), plan.method
        )
        self.trained, self.forward = group.prepare(model.network)
        self.device = self.trained.device
        self.dtype = dtype_of(plan, self.device.type)
        group.check(self.dtype)
        weights = trainable(self.trained)
        self.state = FitState(
            weights,
            optimizer(weights, plan),
            torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16),
            group=group,
        )

    def _weights(self) -> list[torch.nn.Parameter]:
        return [parameter for name, parameter in self.model.network.named_parameters() if not adapters.is_adapter(name)]

    def _attach(self) -> Any:
        if self.plan.method == "full" or self.goes_on:
            return None
        plan = self.plan
        return adapters.attach(
            self.model.network, rank=plan.rank, alpha=plan.alpha, embeddings=plan.embeddings, seed=plan.seed
        )

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
        chosen = rows_of(state.step, self.batch, len(self.rows), plan.seed)
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
            self._refuse(total, parts, tokens)
        state.scaler.unscale_(state.optimizer)
        torch.nn.utils.clip_grad_norm_(state.trainable.values(), plan.clip)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        if state.scaler.is_enabled() and state.scaler.get_scale() < SMALLEST_SCALE:
            raise ContractError(no_gradient(state.step + 1))
        return total, rate, tokens

    def _refuse(self, loss: float, parts: Sequence[Sequence[int]], tokens: int) -> None:
        """Say why a loss is no number; one that float16 made is computed again without it."""
        half = self.dtype is torch.float16

        @torch.no_grad()
        def exact() -> float:
            self.dtype = None
            return sum(float(self._loss(self.rows.take(part))) for part in parts if part) / tokens

        why = no_number(loss, step=self.state.step + 1, rate=self.rate, exact=exact if half else None)
        raise ContractError(why)

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
        if self.adapted is not None and self.plan.merge:
            adapters.merge(self.adapted, self.plan.blend)
        elif self.adapted is not None:
            adapters.shrink(network, self.plan.blend)
        _blend(self.start, self.plan.blend)
        network.requires_grad_(True)
        network.eval()
        stopped = self._why_stop() if state.step < self.steps else ""
        if state.step < self.steps and not stopped:
            stopped = f"max_seconds is reached after {state.elapsed:.0f} s"
        progress = self._progress()
        return Result(
            **asdict(progress),
            curve=state.curve,
            learning_rate=self.rate,
            trained_parameters=trained,
            filled_share=self.rows.filled_share,
            stopped=stopped,
        )


@torch.no_grad()
def _blend(start: Iterable[tuple[torch.Tensor, torch.Tensor]], share: float) -> None:
    for weight, before in start:
        weight.copy_(torch.lerp(before, weight, share))


def _fingerprint(plan: FitPlan, rows: PackedRows, validation: Sequence[str]) -> str:
    """Name what decides on the curve: the plan without its limits in time, the rows and the validation texts."""
    decides = {name: value for name, value in asdict(plan).items() if name not in ("max_seconds", "checkpoint_seconds")}
    digest = hashlib.sha256(repr((sorted(decides.items()), validation)).encode("utf-8", "replace"))
    for tensor in (rows.inputs, rows.targets):
        digest.update(tensor.numpy().tobytes())
    return f"plan-{digest.hexdigest()[:16]}"
