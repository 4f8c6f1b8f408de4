"""Overlap of training texts with texts that models are judged by."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.prepare.ngrams import PHRASE, Words

SIZE = 8
"""Words of the n-grams that are compared."""
OVERLAP_SHARE = 0.5
"""Share of its n-grams, or of the judging text's, that a training text may at most have in common with one of them.

Single shared n-grams are quotations and boilerplate: licences, greetings, headers. Half of the shorter text is a copy.
"""
_FILTER_PLACES = 2**22
_TEXT, _HASH = np.uint64(48), np.uint64(2**48 - 1)
_TOGETHER = 2_000
_MOST_OWNERS = 50
"""Judging texts that one n-gram is looked up in: what more of them share is found by the rest of their words."""


@dataclass(frozen=True)
class Judging:
    """Texts that models are judged by, as their n-grams."""

    hashes: NDArray[np.uint64]
    """Sorted."""
    owners: NDArray[np.intp]
    """Number of the text that each n-gram stands in."""
    sizes: NDArray[np.intp]
    """Distinct n-grams of each text."""
    exact: frozenset[bytes]
    """Every text as its words in lower case, short ones too."""
    openings: NDArray[np.uint64]
    """Of each text's words, one number that is quickly made."""
    filter: NDArray[np.bool_]

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Judging":
        """Index some texts."""
        hashes: list[NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
        owners: list[NDArray[np.intp]] = [np.zeros(0, np.intp)]
        openings: list[NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
        exact: set[bytes] = set()
        for begin in range(0, len(texts), _TOGETHER):
            words = Words.of(texts[begin : begin + _TOGETHER])
            grams, numbers = words.grams(SIZE).distinct
            hashes.append(grams)
            owners.append(numbers + begin)
            exact |= {_name(words, number) for number in np.flatnonzero(words.sizes).tolist()}
            openings.append(_openings(words))
        every, owner = np.concatenate(hashes), np.concatenate(owners)
        order = np.argsort(every, kind="stable")
        table = np.zeros(_FILTER_PLACES, dtype=bool)
        table[_place(every)] = True
        sizes = np.bincount(owner, minlength=len(texts))
        return cls(every[order], owner[order], sizes, frozenset(exact), np.unique(np.concatenate(openings)), table)

    def contaminated(self, words: Words) -> set[int]:
        """Give the numbers of the texts that are, half or whole, a copy of a judging text or of half of it."""
        alike = np.flatnonzero(np.isin(_openings(words), self.openings) & (words.sizes > 0))
        copies = {number for number in alike.tolist() if _name(words, number) in self.exact}
        grams = words.grams(SIZE)
        maybe = np.flatnonzero(self.filter[_place(grams.hashes)])
        if not len(maybe):
            return copies
        keys = np.unique((grams.texts[maybe].astype(np.uint64) << _TEXT) | grams.hashes[maybe])
        hashes, texts = keys & _HASH, (keys >> _TEXT).astype(np.intp)
        left = np.searchsorted(self.hashes, hashes, side="left")
        many = np.minimum(np.searchsorted(self.hashes, hashes, side="right") - left, _MOST_OWNERS)
        if not many.any():
            return copies
        starts = np.repeat(left - np.concatenate([[0], np.cumsum(many)[:-1]]), many)
        owners = self.owners[starts + np.arange(many.sum())]
        pairs, shared = np.unique(np.repeat(texts, many) * (len(self.sizes) + 1) + owners, return_counts=True)
        numbers, theirs = pairs // (len(self.sizes) + 1), self.sizes[pairs % (len(self.sizes) + 1)]
        least = np.bincount(grams.texts, minlength=words.count) / np.maximum(words.grams(PHRASE).most_repeated, 1)
        close = np.flatnonzero(shared >= OVERLAP_SHARE * np.minimum(least[numbers], theirs))
        if not len(close):
            return copies
        own = np.diff(grams.offsets)[numbers[close]]
        copied = numbers[close][shared[close] >= OVERLAP_SHARE * np.minimum(own, theirs[close])]
        return copies | {int(number) for number in copied}


def _name(words: Words, number: int) -> bytes:
    """Give the hashes of a text's words as bytes."""
    end = int(words.ends_of[number])
    return words.hashes[end - int(words.sizes[number]) : end].tobytes()


def _openings(words: Words) -> NDArray[np.uint64]:
    """Give the hash of each text's first word together with how many words it has; 0 for a text without words."""
    made = np.zeros(words.count, dtype=np.uint64)
    some = np.flatnonzero(words.sizes)
    made[some] = words.hashes[words.ends_of[some] - words.sizes[some]] + words.sizes[some].astype(np.uint64)
    return made


def _place(hashes: NDArray[np.uint64]) -> NDArray[np.intp]:
    return (hashes & np.uint64(_FILTER_PLACES - 1)).view(np.intp)
