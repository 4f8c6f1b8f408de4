"""Hashes of word n-grams, of many texts at once; duplicates, repeated phrases and overlaps are all found by them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
_BASE = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))
_MIX = np.uint64(0xFF51AFD7ED558CCD)
_LOWER = bytes(byte + 32 if 65 <= byte <= 90 else byte for byte in range(256))
_IS_WORD = np.array([chr(byte).isalnum() or byte >= 128 for byte in range(256)])
_BATCH_BYTES = 2**20
_LOW_48 = np.uint64(2**48 - 1)
MOST_TEXTS = 2**16
"""Texts that can be cut into words at once."""


@dataclass(frozen=True)
class Words:
    """The words of some texts: runs of letters and digits, whatever their case, and any run of non-ASCII letters."""

    content: bytes
    hashes: Hashes
    """One per word, in order."""
    starts: NDArray[np.intp]
    ends: NDArray[np.intp]
    """Where each word stands in `content`."""
    texts: NDArray[np.intp]
    """Number of the text that each word stands in."""
    count: int
    """How many texts there are."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Words":
        """Cut texts into words."""
        pieces = [text.encode("utf-8", "replace") for text in texts]
        content = b" ".join(pieces)
        lengths = np.fromiter((len(piece) + 1 for piece in pieces), dtype=np.intp, count=len(pieces))
        begins = np.cumsum(lengths) - lengths
        codes = np.frombuffer(content.translate(_LOWER), dtype=np.uint8)
        inside = _IS_WORD[codes]
        edges = np.flatnonzero(np.diff(inside, prepend=False, append=False))
        starts, ends = edges[::2], edges[1::2]
        return cls(
            content=content,
            hashes=_hashed(codes, starts, ends),
            starts=starts,
            ends=ends,
            texts=np.searchsorted(begins, starts, side="right") - 1,
            count=len(pieces),
        )

    @cached_property
    def sizes(self) -> NDArray[np.intp]:
        """How many words each text has."""
        return np.bincount(self.texts, minlength=self.count)

    def grams(self, size: int) -> "Grams":
        """Give the hashes of every `size` words that follow each other within a text."""
        total = len(self.hashes) - size + 1
        if total <= 0:
            return Grams(np.zeros(0, np.uint64), np.zeros(0, np.intp), np.zeros(0, np.intp), self.count)
        hashes = self.hashes[:total].copy()
        for step in range(1, size):
            hashes *= _BASE
            hashes += self.hashes[step : step + total]
        places = np.flatnonzero(self.texts[:total] == self.texts[size - 1 :])
        return Grams(_mixed(hashes[places]) >> np.uint64(16), self.texts[places], places, self.count)

    def said(self, place: int, size: int) -> str:
        """Give `size` words from a place on as they are written."""
        return self.content[self.starts[place] : self.ends[place + size - 1]].decode("utf-8", "replace")


@dataclass(frozen=True)
class Grams:
    """The n-grams of some texts."""

    hashes: Hashes
    """48 bits each."""
    texts: NDArray[np.intp]
    """Number of the text that each n-gram stands in."""
    places: NDArray[np.intp]
    """Number of its first word."""
    count: int
    """How many texts there are."""

    @cached_property
    def _sorted(self) -> tuple[Hashes, NDArray[np.intp]]:
        """Text and hash in one number, sorted, and where each distinct one begins."""
        keys = np.sort((self.texts.astype(np.uint64) << np.uint64(48)) | self.hashes)
        return keys, np.flatnonzero(np.diff(keys, prepend=~keys[:1]))

    @cached_property
    def distinct(self) -> tuple[Hashes, NDArray[np.intp]]:
        """The distinct n-grams of each text and the number of their text; sorted by text, then by hash."""
        keys, begins = self._sorted
        return keys[begins] & _LOW_48, (keys[begins] >> np.uint64(48)).astype(np.intp)

    @cached_property
    def offsets(self) -> NDArray[np.intp]:
        """Where the distinct n-grams of each text begin; one more than there are texts."""
        return np.searchsorted(self.distinct[1], np.arange(self.count + 1))

    def most_repeated(self) -> NDArray[np.intp]:
        """Say, per text, how often its most frequent n-gram comes."""
        keys, begins = self._sorted
        most = np.zeros(self.count, dtype=np.intp)
        np.maximum.at(most, self.distinct[1], np.diff(begins, append=len(keys)))
        return most


def _hashed(codes: NDArray[np.uint8], starts: NDArray[np.intp], ends: NDArray[np.intp]) -> Hashes:
    """Hash each word by the difference of two running sums, wrapped at 64 bits."""
    hashes = np.empty(len(starts), dtype=np.uint64)
    at = 0
    while at < len(starts):  # in pieces, since the sums take eight times the text's memory
        until = max(at + 1, int(np.searchsorted(ends, starts[at] + _BATCH_BYTES, side="right")))
        begin, end = int(starts[at]), int(ends[until - 1])
        powers = _powers(_BASE, end - begin + 1)
        sums = np.zeros(end - begin + 1, dtype=np.uint64)
        np.cumsum((codes[begin:end].astype(np.uint64) + np.uint64(1)) * powers[:-1], out=sums[1:])
        inside, past = starts[at:until] - begin, ends[at:until] - begin
        hashes[at:until] = (sums[past] - sums[inside]) * _powers(_INVERSE, end - begin + 1)[inside]
        at = until
    return _mixed(hashes)


_known_powers: dict[Any, Hashes] = {}


def _powers(base: np.uint64, count: int) -> Hashes:
    known = _known_powers.get(base)
    if known is None or len(known) < count:
        steps = np.full(max(count, _BATCH_BYTES + 2), base, dtype=np.uint64)
        steps[0] = 1
        known = _known_powers[base] = np.multiply.accumulate(steps)
        if count > _BATCH_BYTES + 2:  # a word of its own length: used once
            del _known_powers[base]
    return known[:count]


def _mixed(hashes: Hashes) -> Hashes:
    """Spread the bits, so that the low ones can name a place in a table."""
    mixed = (hashes ^ (hashes >> np.uint64(33))) * _MIX
    return mixed ^ (mixed >> np.uint64(29))
