"""Hashes of word n-grams, of many texts at once; duplicates, repeated phrases and overlaps are all found by them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xFF51AFD7ED558CCD)
_EIGHT = 8
_LOWER = bytes(byte + 32 if 65 <= byte <= 90 else byte for byte in range(256))
"""Each byte, A to Z as a to z."""
_IS_WORD = bytes(chr(byte).isalnum() or byte >= 128 for byte in range(256))
"""1 for bytes of words: ASCII letters and digits, and all of characters beyond ASCII, until those are looked at."""
_LEAST_LEAD = 0xC2
"""The least byte that a character beyond ASCII begins with; those after the first are all below it."""
_KEEP = np.array([256**size - 1 for size in range(_EIGHT)] + [2**64 - 1], dtype=np.uint64)
"""Masks of a word's first bytes, of eight that are read at once."""
_LONG_WORD = 64
"""Bytes from which a word is hashed on its own."""
_LOW_48 = np.uint64(2**48 - 1)
PHRASE = 4
"""Words of the n-grams that phrases are made of."""
MOST_TEXTS = 2**16
"""Texts that can be cut into words at once."""


def _first_two(character: str) -> int:
    """Give the first two bytes of a character's UTF-8 as one number."""
    return int.from_bytes(character.encode()[:2])


def _lower_pairs() -> NDArray[np.intp]:
    """Map the first two bytes of a character beyond ASCII to those of its small letter.

    That is for characters of two bytes, U+0080 to U+07FF, whose small letter has two bytes, too; all others stay.
    """
    pairs = np.arange(2**16)
    for character in map(chr, range(0x80, 0x800)):
        small = character.lower()
        if len(small) == 1 and len(small.encode()) == 2:
            pairs[_first_two(character)] = _first_two(small)
    return pairs


def _mark_bytes() -> NDArray[np.intp]:
    """Map the first two bytes of a character to how many bytes it has if it is a space or a mark, and else to 0.

    Of two bytes: U+0080 to U+00BF but three letters. Of three: U+2000 to U+207F and U+3000 to U+303F, which share
    their first two bytes in rows of 64.
    """
    sizes = np.zeros(2**16, dtype=np.intp)
    sizes[[_first_two(character) for character in map(chr, range(0x80, 0xC0)) if character not in "ªµº"]] = 2
    sizes[[_first_two(row) for row in ("\u2000", "\u2040", "\u3000")]] = 3
    return sizes


_LOWER_PAIRS, _MARK_BYTES = _lower_pairs(), _mark_bytes()


@dataclass(frozen=True)
class Words:
    """The words of some texts: runs of letters and digits, in any script; case matters in rare alphabets only."""

    content: bytes
    hashes: Hashes
    """One per word, in order."""
    starts: NDArray[np.intp]
    ends: NDArray[np.intp]
    """Where each word stands in `content`."""
    texts: NDArray[np.intp]
    """Number of the text that each word stands in."""
    sizes: NDArray[np.intp]
    """How many words each text has."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Words":
        """Cut texts into words."""
        pieces = [text.encode("utf-8", "replace") for text in texts]
        content = b" ".join(pieces)
        lengths = np.fromiter(map(len, pieces), dtype=np.intp, count=len(pieces)) + 1
        lower = content.translate(_LOWER)
        inside = np.frombuffer(b"\0" + content.translate(_IS_WORD) + b"\0", dtype=np.uint8)
        if not content.isascii():
            lower, inside = _beyond_ascii(lower, inside)
        edges = np.flatnonzero(inside[1:] != inside[:-1])
        starts, ends = edges[::2], edges[1::2]
        sizes = np.diff(np.searchsorted(starts, np.cumsum(lengths)), prepend=0)
        return cls(
            content=content,
            hashes=_hashed(lower, starts, ends),
            starts=starts,
            ends=ends,
            texts=np.repeat(np.arange(len(texts)), sizes),
            sizes=sizes,
        )

    @property
    def count(self) -> int:
        """How many texts there are."""
        return len(self.sizes)

    @cached_property
    def ends_of(self) -> NDArray[np.intp]:
        """Number of the word after each text's last."""
        return np.cumsum(self.sizes)

    @cached_property
    def _known(self) -> dict[int, "Grams"]:
        return {}

    def grams(self, size: int) -> "Grams":
        """Give the hashes of every `size` words that follow each other within a text."""
        known = self._known.get(size)
        if known is None:
            known = self._known[size] = self._grams(size)
        return known

    def _grams(self, size: int) -> "Grams":
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
        is_first = np.ones(len(keys), dtype=bool)
        is_first[1:] = keys[1:] != keys[:-1]
        return keys, np.flatnonzero(is_first)

    @cached_property
    def distinct(self) -> tuple[Hashes, NDArray[np.intp]]:
        """The distinct n-grams of each text and the number of their text; sorted by text, then by hash."""
        keys, begins = self._sorted
        return keys[begins] & _LOW_48, (keys[begins] >> np.uint64(48)).astype(np.intp)

    @cached_property
    def offsets(self) -> NDArray[np.intp]:
        """Where the distinct n-grams of each text begin; one more than there are texts."""
        return np.searchsorted(self.distinct[1], np.arange(self.count + 1))

    @cached_property
    def most_repeated(self) -> NDArray[np.intp]:
        """Say, per text, how often its most frequent n-gram comes."""
        keys, begins = self._sorted
        most = np.zeros(self.count, dtype=np.intp)
        np.maximum.at(most, self.distinct[1], np.diff(begins, append=len(keys)))
        return most


def _beyond_ascii(lower: bytes, inside: NDArray[np.uint8]) -> tuple[bytes, NDArray[np.uint8]]:
    """Write letters of two bytes in lower case, and leave spaces, quotes, dashes and stops out of the words.

    `inside` says of each byte whether it belongs to a word, and has one place more at either end.
    """
    codes = np.frombuffer(lower + b"\0\0", dtype=np.uint8).copy()
    leads = np.flatnonzero(codes >= _LEAST_LEAD)
    pairs = codes[leads].astype(np.intp) * 256 + codes[leads + 1]
    small = _LOWER_PAIRS[pairs]
    codes[leads], codes[leads + 1] = small >> 8, small & 0xFF
    inside = inside.copy()
    sizes = _MARK_BYTES[pairs]
    for step in range(3):
        inside[1 + leads[sizes > step] + step] = 0
    return codes[:-2].tobytes(), inside


def _hashed(content: bytes, starts: NDArray[np.intp], ends: NDArray[np.intp]) -> Hashes:
    """Hash each word: eight bytes of all of them at a time, and the few that are very long one by one."""
    eights: Hashes = np.ndarray((len(content) + 1,), "<u8", content + bytes(_EIGHT), strides=(1,))
    sizes = ends - starts
    hashes = _next(np.uint64(0), eights[starts], sizes)
    at = _EIGHT
    more = np.flatnonzero((sizes > at) & (sizes <= _LONG_WORD))
    while len(more):
        hashes[more] = _next(hashes[more], eights[starts[more] + at], sizes[more] - at)
        at += _EIGHT
        more = more[sizes[more] > at]
    for word in np.flatnonzero(sizes > _LONG_WORD).tolist():
        digest = hashlib.blake2b(content[starts[word] : ends[word]], digest_size=_EIGHT).digest()
        hashes[word] = int.from_bytes(digest, "little")
    return hashes


def _next(hashes: Hashes | np.uint64, eights: Hashes, left: NDArray[np.intp]) -> Hashes:
    """Go on with eight bytes more, or with as many as are left."""
    return _mixed((hashes ^ (eights & _KEEP[np.minimum(left, _EIGHT)])) * _BASE)


def _mixed(hashes: Hashes) -> Hashes:
    """Spread the bits, so that the low ones can name a place in a table."""
    mixed = (hashes ^ (hashes >> np.uint64(33))) * _MIX
    return mixed ^ (mixed >> np.uint64(29))
