"""Hashes that are alike for what is alike: of pictures (perceptual hash) and of captions (SimHash); and near ones."""

import hashlib
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
_SIDE, _LOW = 32, 8
_FEWEST = 1_024
"""Newest hashes that are compared one by one; a sixteenth of all where that is more."""


def perceptual_hash(grey: bytes) -> int:
    """Give 64 bits of 32x32 grey pixels: which of the lowest frequencies are above their median (DCT)."""
    pixels = np.frombuffer(grey, dtype=np.uint8).reshape(_SIDE, _SIDE).astype(np.float32)
    low = (_cosines() @ pixels @ _cosines().T).ravel()
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


@cache
def _cosines() -> NDArray[np.float32]:
    places = np.arange(_SIDE)
    return np.array([np.cos(np.pi * (2 * places + 1) * wave / (2 * _SIDE)) for wave in range(_LOW)], dtype=np.float32)


def caption_hash(words: list[str]) -> int:
    """Give 64 bits of a caption's words and neighbouring words, alike for captions that differ in little (SimHash)."""
    parts = [*words, *(" ".join(pair) for pair in pairwise(words))] or [""]
    digests = b"".join(hashlib.blake2b(part.encode(), digest_size=8).digest() for part in parts)
    bits = np.unpackbits(np.frombuffer(digests, dtype=np.uint8).reshape(len(parts), 8), axis=1)
    return int.from_bytes(np.packbits(2 * bits.sum(axis=0) > len(parts)).tobytes(), "big")


class NearIndex:
    """Finds the first of the hashes before that differs in few bits; memory is some tens of bytes for each.

    Two hashes that differ in `bits` of 64 agree in one of `bits + 1` bands. So only those that share a band are
    compared, and the newest, which are not sorted into bands yet.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self._sorted_in: Hashes = np.zeros(0, dtype=np.uint64)
        self._newest: Hashes = np.zeros(_FEWEST, dtype=np.uint64)
        self._fresh = 0
        edges = np.linspace(0, 64, bits + 2).astype(int)
        self._bands = [(int(begin), int(end - begin)) for begin, end in pairwise(edges)]
        self._orders: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64) for _ in self._bands]
        self._parts: list[Hashes] = [self._sorted_in for _ in self._bands]

    def __len__(self) -> int:
        return len(self._sorted_in) + self._fresh

    def add(self, value: np.uint64) -> None:
        """Let this one be found from now on."""
        if self._fresh == len(self._newest):
            self._sort_in()
        self._newest[self._fresh] = value
        self._fresh += 1

    def first_near(self, value: np.uint64) -> int:
        """Give the number of the first that is near, in the order in which they were added; -1: there is none."""
        first = -1
        for band, order, parts in zip(self._bands, self._orders, self._parts, strict=True):
            part = _part(value, band)
            begin = int(np.searchsorted(parts, part, "left"))
            end = int(np.searchsorted(parts, part, "right"))
            if end > begin:
                candidates = order[begin:end]
                near = candidates[np.bitwise_count(self._sorted_in[candidates] ^ value) <= self.bits]
                if len(near):
                    first = int(near.min()) if first < 0 else min(first, int(near.min()))
        if first >= 0:
            return first
        fresh = np.flatnonzero(np.bitwise_count(self._newest[: self._fresh] ^ value) <= self.bits)
        return len(self._sorted_in) + int(fresh[0]) if len(fresh) else -1

    def _sort_in(self) -> None:
        self._sorted_in = np.concatenate([self._sorted_in, self._newest[: self._fresh]])
        self._newest, self._fresh = np.zeros(max(_FEWEST, len(self._sorted_in) // 16), dtype=np.uint64), 0
        for place, band in enumerate(self._bands):
            parts = _part(self._sorted_in, band)
            self._orders[place] = np.argsort(parts, kind="stable")
            self._parts[place] = parts[self._orders[place]]


def _part(hashes: Any, band: tuple[int, int]) -> Any:
    begin, width = band
    return (hashes >> np.uint64(begin)) & np.uint64((1 << width) - 1)
