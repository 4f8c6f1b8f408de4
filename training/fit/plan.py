"""How a training is to go, where it stands, and how it ended."""

import math
from dataclasses import dataclass, field
from typing import Literal

from training.fit.curve import Curve


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
    merge: bool = True
    """Whether the adapters are merged into the weights at the end; if not they stay beside them."""
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
    """Nats per token of the newest batch; NaN where a trainer does not say."""
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
        loss = f", loss {self.loss:.3f}" if math.isfinite(self.loss) else ""
        speed = f", {self.tokens_per_second:,.0f} tokens/s" if self.tokens_per_second else ""
        return f"step {self.step} of {self.steps}{loss}{looked}{speed}"


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
