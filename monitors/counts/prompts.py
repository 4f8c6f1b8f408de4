"""What is said of the prompts' texts: figures, words, languages, and where they lie among a model's vectors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_defs.core.languages import languages
from monitors.counts.descriptors import Vocabulary, describe
from monitors.counts.embeddings import EmbeddingSpace

Texts = NDArray[np.float64] | list[str]
"""What is said of each text: a number, or a level."""
MAX_WORDS = 50_000
"""The vocabulary keeps so many words, those in most texts."""


def prompts_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Give the rows' prompts; empty where there is none."""
    return [row["prompt"] or "" for row in rows]


def describe_texts(prompts: Sequence[str], words: Vocabulary, *, own: bool) -> dict[str, Texts]:
    """Describe each text by column; with `own` the vocabulary was made of these very texts."""
    return {**describe(prompts), **words.describe(prompts, own=own), "language": languages(prompts)}


def place_among_vectors(prompts: Sequence[str], space: EmbeddingSpace | None) -> dict[str, Texts]:
    """Give, by column, where each text lies among an embedding model's vectors; no columns without a space."""
    if space is None:
        return {}
    if not prompts:  # no reason to load a model
        return {name: np.zeros(0) for name in space.names}
    return {**space.columns(space.embed(prompts))}


def vocabulary_of(prompts: Sequence[str]) -> Vocabulary:
    """Make a vocabulary of the words that are in most of the texts."""
    words = Vocabulary.of(prompts)
    most = sorted(words.counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_WORDS]
    return Vocabulary(words.texts, dict(most))
