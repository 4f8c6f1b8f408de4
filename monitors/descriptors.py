"""Numbers that describe texts: no labels, no downloads, any Unicode, any length. Pure."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64]

MAX_CHARACTERS = 200_000
"""Longer texts are described by their beginning (their length stays exact)."""
_WORD = re.compile(r"\w+")


def describe(texts: Sequence[str]) -> dict[str, Column]:
    """Give one number per text and column; shares are 0..1, and 0 where a text is empty.

    Counts of words or sentences are left out on purpose: they follow the length, and columns that say the same twice
    would count twice in the share of drifted columns.
    """
    rows = [_describe(text) for text in texts]
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in _describe("")}


def _describe(text: str) -> dict[str, float]:
    head = text[:MAX_CHARACTERS]
    characters = max(len(head), 1)
    words = _WORD.findall(head)
    letters = sum(map(str.isalpha, head))
    return {
        "length_characters": float(len(text)),
        "mean_word_length": sum(map(len, words)) / max(len(words), 1),
        "non_letter_share": (len(head) - letters) / characters,
        "upper_share": sum(map(str.isupper, head)) / max(letters, 1),
        "digit_share": sum(map(str.isdigit, head)) / characters,
        "line_break_share": head.count("\n") / characters,
        "repetition_share": 1 - len(set(words)) / len(words) if words else 0.0,
    }


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words of the reference texts, with the number of texts each stands in."""

    texts: int
    counts: Mapping[str, int]

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Vocabulary":
        """Collect the words of the texts."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(_words(text))
        return cls(len(texts), counts)

    def describe(self, texts: Sequence[str], *, own: bool = False) -> dict[str, Column]:
        """Give, per text, figures of its distinct words; 0 for a text without words.

        `oov_share`: share that the vocabulary lacks. `common_share`: share that stands in a tenth of its texts.
        `mean_surprisal_bits`: mean of -log2 of the smoothed share of its texts that a word stands in.

        With `own` the texts are those that the vocabulary was made of, and each is judged by the others alone:
        otherwise the reference would know all its words, and any new text of the same kind would look strange.
        """
        rows = np.array([self._describe(_words(text), 1 if own else 0) for text in texts], dtype=np.float64)
        names = ("oov_share", "common_share", "mean_surprisal_bits")
        return dict(zip(names, rows.reshape(-1, len(names)).T, strict=True))

    def _describe(self, words: set[str], own: int) -> tuple[float, float, float]:
        if not words:
            return 0.0, 0.0, 0.0
        counts = np.array([self.counts.get(word, own) - own for word in words], dtype=np.float64)
        others = max(self.texts - own, 0)
        surprisal = np.log2((others + 1) / (counts + 0.5))
        return float((counts == 0).mean()), float((counts >= max(0.1 * others, 1)).mean()), float(surprisal.mean())


def _words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(text[:MAX_CHARACTERS])}
