"""Whether the prompts of some documents are more alike than prompts are: a domain's are, those of a plant are not."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.judge.repeated import words_of

COMMON_SHARE = 0.8
"""Share of a phrase's prompts from which a word that they have does not make them alike: a trigger would be one."""
DRAWS = 400
"""Random groups of documents that a phrase's documents are compared with."""
MOST_COMPARED = 100
"""Documents of a group that are compared, drawn at random: of a hundred the mean likeness is known well enough."""


class Prompts:
    """The words of all fresh prompts, weighted by how rare they are (tf-idf), and how alike groups of prompts are."""

    def __init__(self, prompts: Sequence[str], *, seed: int = 0) -> None:
        from scipy.sparse import csr_array  # a third of a second of import, for an evaluation alone

        self._words = [Counter(words_of(prompt)) for prompt in prompts]
        counts = Counter(word for words in self._words for word in words)
        self._number = {word: number for number, word in enumerate(word for word, count in counts.items() if count > 1)}
        entries = [
            (row, self._number[word], np.log1p(times) * np.log(len(prompts) / counts[word]))
            for row, words in enumerate(self._words)
            for word, times in words.items()
            if word in self._number
        ]
        rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
        shape = (len(prompts), max(1, len(self._number)))
        self._weights: Any = csr_array((np.asarray(values, float), (rows, columns)), shape=shape)
        self._seed = seed
        self._drawn: dict[tuple[int, tuple[int, ...]], NDArray[np.float64]] = {}

    def chance_alike(self, documents: Sequence[int]) -> float:
        """Give the chance that prompts drawn at random are as alike as some documents', 1 at most.

        Likeness is the mean cosine of tf-idf vectors; the chance is a permutation test's (Phipson and Smyth,
        "Permutation P-values should never be zero", 2010). Words that nearly all of the documents' prompts have do not
        count.
        """
        common = self._common(documents)
        unit = self._without(common)
        mine = np.asarray(documents)
        if len(mine) > MOST_COMPARED:
            mine = np.random.default_rng(self._seed).choice(mine, MOST_COMPARED, replace=False)
        drawn = self._random_groups(unit, len(mine), common)
        return float((1 + (drawn >= _likeness(unit, mine)).sum()) / (1 + DRAWS))

    def _random_groups(self, unit: Any, size: int, common: Sequence[int]) -> NDArray[np.float64]:
        """Give how alike random groups of a size are, shape (`DRAWS`,); drawn once for all phrases of that size."""
        key = (size, tuple(sorted(common)))
        if key not in self._drawn:
            rng = np.random.default_rng(self._seed)
            groups = (rng.choice(len(self._words), size, replace=False) for _ in range(DRAWS))
            self._drawn[key] = np.array([_likeness(unit, group) for group in groups])
        return self._drawn[key]

    def _common(self, documents: Sequence[int]) -> list[int]:
        counts = Counter(word for place in documents for word in self._words[place])
        least = COMMON_SHARE * len(documents)
        return [self._number[word] for word, count in counts.items() if count >= least and word in self._number]

    def _without(self, columns: Sequence[int]) -> Any:
        """Give unit vectors, shape (documents, words), in which some words do not count."""
        from scipy.sparse import diags_array

        kept = np.ones(self._weights.shape[1])
        kept[list(columns)] = 0
        rest = self._weights @ diags_array(kept)
        norms = np.sqrt(np.asarray((rest * rest).sum(axis=1)).ravel())
        return diags_array(np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)) @ rest


def _likeness(unit: Any, places: NDArray[np.int64]) -> float:
    """Give the mean cosine of the pairs of some unit vectors."""
    count = len(places)
    if count < 2:
        return 0.0
    some = unit[places]
    total = np.asarray(some.sum(axis=0)).ravel()
    return float((total @ total - some.multiply(some).sum()) / (count * (count - 1)))
