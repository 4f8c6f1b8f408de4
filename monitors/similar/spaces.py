"""What makes a vector of a prompt: the model that the YAML names for drift, or hashed runs of characters and words."""

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from datasets_defs.spec.model import ModelSpec
from monitors.counts.embeddings import embed, fingerprint
from monitors.counts.kinds import BUCKETS, features

Unit = NDArray[np.float32]
"""Vectors of length 1, a text a row."""
WIDTH = 320
"""Numbers of a vector of hashed features: with the rest of its row a fifth of a page of PostgreSQL."""
HASHED = f"ngrams-{WIDTH}"


@dataclass(frozen=True, slots=True)
class PromptSpace:
    """One way of making vectors of prompts; vectors of two are not compared."""

    name: str
    path: str | None = None
    """Of a model of sentence-transformers; None: hashed features."""

    @classmethod
    def of(cls, spec: ModelSpec) -> "PromptSpace":
        """Give the space of a model.

        Raises:
            ContractError: the embedding model is not there.
        """
        path = spec.drift.embedding
        return cls(HASHED) if path is None else cls(f"model-{fingerprint(path)[:16]}", path)

    @property
    def means(self) -> str:
        """Say in words what is alike in it."""
        return "words and runs of characters" if self.path is None else "the embedding model"

    def vectors(self, prompts: Sequence[str]) -> Unit:
        """Give one vector per prompt.

        Raises:
            ContractError: the embedding model cannot be read.
        """
        if self.path is None:
            return _hashed(prompts)
        return _to_length_one(embed(self.path, prompts).astype(np.float32))


def _hashed(prompts: Sequence[str]) -> Unit:
    """Fold each text's features into few numbers, with signs, so that two features in one place tend to cancel.

    What a text repeats counts by its logarithm. No feature is weighted by how rare it is: that changes with the log,
    and vectors of different weeks are to be compared. (Weinberger et al., "Feature hashing for large scale multitask
    learning", ICML 2009.)
    """
    buckets, owners = features(prompts)
    pairs, counts = np.unique(owners * BUCKETS + buckets, return_counts=True)
    owner, bucket = np.divmod(pairs, BUCKETS)
    sign = np.where((bucket // WIDTH) & 1, 1.0, -1.0)
    vectors = np.zeros((len(prompts), WIDTH), dtype=np.float32)
    np.add.at(vectors, (owner, bucket % WIDTH), (sign * (1 + np.log(counts))).astype(np.float32))
    for empty in np.flatnonzero(~vectors.any(axis=1)).tolist():  # a sign or two: it lies with its like
        vectors[empty, crc32(prompts[empty].encode("utf-8", "replace")) % WIDTH] = 1.0
    return _to_length_one(vectors)


def _to_length_one(vectors: Unit) -> Unit:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    made: Unit = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return made
