"""What a text costs without a model: the figures that a barely trained one is known by."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from training.model.language_model import LanguageModel


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCost:
    """What held-out texts cost, in bits per byte."""

    model: float
    unigram: float
    """Knowing only how often each token comes in the training texts."""
    uniform: float
    """Knowing only which tokens there are."""

    @property
    def is_trained(self) -> bool:
        """Whether the model has learned more than frequencies: something of what follows what."""
        return self.model < self.unigram

    @property
    def metrics(self) -> dict[str, float]:
        """The figures by their names in the registry."""
        return {
            "heldout_bits_per_byte": self.model,
            "unigram_bits_per_byte": self.unigram,
            "uniform_bits_per_byte": self.uniform,
        }

    def __str__(self) -> str:
        return (
            f"{self.model:.2f} bits per byte on held-out text, against {self.unigram:.2f} by the frequencies of tokens "
            f"alone and {self.uniform:.2f} by chance"
        )


def baseline(model: LanguageModel, bits_per_byte: float, training: Sequence[str], heldout: Sequence[str]) -> TextCost:
    """Work out what held-out texts, which cost the model so much, cost without it; in its own tokens."""
    counts = Counter(token for ids in model.encode_all(training) for token in ids)
    size = len(model.tokenizer)
    total = sum(counts.values()) + size  # each token is taken to have come once more than it did
    tokens = [token for ids in model.encode_all(heldout) for token in ids]
    length = sum(len(text.encode("utf-8", "replace")) for text in heldout)
    unigram = sum(math.log2(total / (counts[token] + 1)) for token in tokens)
    return TextCost(model=bits_per_byte, unigram=unigram / length, uniform=len(tokens) * math.log2(size) / length)
