"""How a training went, step by step."""

from dataclasses import dataclass, field

import torch

SHOWN = 1000
"""Points that are kept of a curve for people to look at."""


@dataclass(slots=True)
class Curve:
    """What was measured at each optimizer step, and at the looks at the validation texts."""

    losses: list[float] = field(default_factory=list)
    """Nats per token of each step's batch."""
    rates: list[float] = field(default_factory=list)
    """Learning rate of each step."""
    tokens: list[float] = field(default_factory=list)
    """Tokens learned from up to each step."""
    seconds: list[float] = field(default_factory=list)
    """Training time up to each step, over all runs."""
    validation: dict[int, float] = field(default_factory=dict)
    """Bits per byte of the validation texts, by the steps done before the look; 0: at the start."""

    def __len__(self) -> int:
        return len(self.losses)

    def add(self, *, loss: float, rate: float, tokens: int, seconds: float) -> None:
        """Write down a step."""
        self.losses.append(loss)
        self.rates.append(rate)
        self.tokens.append((self.tokens[-1] if self.tokens else 0) + tokens)
        self.seconds.append(seconds)

    @property
    def tokens_per_second(self) -> float:
        """Mean over the whole training; 0 before its first step."""
        return self.tokens[-1] / max(self.seconds[-1], 1e-9) if self.seconds else 0.0

    def series(self) -> dict[str, list[tuple[int, float, float]]]:
        """Give (step, value, second) by name for people to look at, thinned where it is long."""
        every = -(-len(self) // SHOWN) or 1
        kept = [at for at in range(len(self)) if at % every == 0 or at == len(self) - 1]
        curves: dict[str, list[tuple[int, float, float]]] = {
            "loss": [(at + 1, self.losses[at], self.seconds[at]) for at in kept],
            "learning_rate": [(at + 1, self.rates[at], self.seconds[at]) for at in kept],
            "tokens_per_second": [],
            "validation_bits_per_byte": [
                (step, bits, self.seconds[step - 1] if step else 0.0) for step, bits in self.validation.items()
            ],
        }
        for before, at in zip([None, *kept], kept, strict=False):
            tokens, seconds = (self.tokens[before], self.seconds[before]) if before is not None else (0.0, 0.0)
            speed = (self.tokens[at] - tokens) / max(self.seconds[at] - seconds, 1e-9)
            curves["tokens_per_second"].append((at + 1, speed, self.seconds[at]))
        return {name: points for name, points in curves.items() if points}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Give the curve as tensors that hold every digit."""
        return {
            "losses": torch.tensor(self.losses, dtype=torch.float64),
            "rates": torch.tensor(self.rates, dtype=torch.float64),
            "tokens": torch.tensor(self.tokens, dtype=torch.float64),
            "seconds": torch.tensor(self.seconds, dtype=torch.float64),
            "validation_steps": torch.tensor(list(self.validation), dtype=torch.int64),
            "validation_bits": torch.tensor(list(self.validation.values()), dtype=torch.float64),
        }

    @classmethod
    def of(cls, tensors: dict[str, torch.Tensor]) -> "Curve":
        """Read what `tensors` gave."""
        steps, bits = tensors["validation_steps"].tolist(), tensors["validation_bits"].tolist()
        lists = {name: tensors[name].tolist() for name in ("losses", "rates", "tokens", "seconds")}
        return cls(**lists, validation=dict(zip(steps, bits, strict=True)))
