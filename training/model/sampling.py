"""What a text costs a model, what a completion is, and how its next token is chosen."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from datasets_defs.core.errors import ContractError


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What a text costs a model."""

    bits: float
    bytes: int
    """Length of the text in UTF-8."""

    @property
    def bits_per_byte(self) -> float | None:
        """Bits per byte: comparable across tokenizers, which perplexity is not; None for an empty text."""
        return self.bits / self.bytes if self.bytes else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A continued prompt."""

    text: str
    finish_reason: str
    """`stop`: the model or a stop string ended it; `length`: it was cut at max_tokens."""
    prompt_tokens: int
    completion_tokens: int
    prompt_loss: Loss
    completion_loss: Loss | None
    """Of all that was generated, a stop string included; None when nothing was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a completion's tokens are chosen, and where it ends.

    Raises:
        ContractError: a parameter is out of range.
    """

    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    stop: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.max_tokens < 0:
            raise ContractError(
                f"temperature {self.temperature}, top_p {self.top_p}, max_tokens {self.max_tokens}: "
                "needed temperature >= 0, 0 < top_p <= 1, max_tokens >= 0"
            )

    def source(self) -> torch.Generator:
        """Make the random numbers of one completion: the same for a seed, and else new ones each time."""
        source = torch.Generator(device="cpu")
        source.seed() if self.seed is None else source.manual_seed(self.seed)
        return source


def choose(logits: torch.Tensor, *, temperature: float, top_p: float, source: torch.Generator) -> int:
    """Choose the next token: the likeliest at temperature 0, else one drawn from the nucleus of mass `top_p`.

    Nucleus sampling is Holtzman et al., "The Curious Case of Neural Text Degeneration", ICLR 2020: the smallest set
    of likeliest tokens whose probabilities reach `top_p`.
    """
    if temperature == 0:
        return int(logits.argmax())
    shares = torch.softmax(logits / temperature, dim=-1)
    if top_p < 1:
        ordered, order = shares.sort(descending=True)
        ordered[ordered.cumsum(0) - ordered >= top_p] = 0
        return int(order[torch.multinomial(ordered, 1, generator=source)])
    return int(torch.multinomial(shares, 1, generator=source))


def first_stop(text: str, stop: Sequence[str]) -> int | None:
    """Find where the first of the stop strings begins, if one is there."""
    positions = [at for word in stop if word and (at := text.find(word)) >= 0]
    return min(positions, default=None)
