"""Which pairs are like one before, of this take or an earlier one: by file, by picture, by caption."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from datasets_defs.spec.pairs import PairsSpec
from training.pairs.content import Lost
from training.pairs.hashes import NearIndex

SAME_FILE, NEAR_PICTURE, COMMON_CAPTION = "same file as another", "near duplicate of another image", "caption of many"
_CAPTION_BITS = 3


@dataclass(frozen=True, slots=True)
class Prints:
    """The hashes of one pair."""

    file: np.uint64
    """First 64 bits of the SHA-256 of the source image."""
    picture: np.uint64
    caption: np.uint64

    @staticmethod
    def of(row: Mapping[str, Any]) -> "Prints":
        """Read them from a row of an index."""
        return Prints(*(_number(row[name]) for name in ("sha256", "picture_hash", "caption_hash")))


class Alike:
    """Keeps some hundred bytes of each pair that was kept, and finds those that are like one of them."""

    def __init__(self, spec: PairsSpec) -> None:
        self._most = spec.captions.copies
        self._files, self._captions = NearIndex(0), NearIndex(_CAPTION_BITS)
        bits = spec.images.near_bits
        self._pictures = None if bits is None else NearIndex(bits)
        self._takes, self._places, self._copies = array("q"), array("q"), array("q")

    def keep(self, prints: Prints, *, take: int, place: int) -> None:
        """Let a pair be found from now on."""
        self._takes.append(take)
        self._places.append(place)
        self._files.add(prints.file)
        if self._pictures is not None:
            self._pictures.add(prints.picture)
        if self._most is not None:
            self._count(prints.caption)

    def judge(self, prints: Prints) -> Lost | None:
        """Say why a pair is lost for being like others."""
        if (number := self._files.first_near(prints.file)) >= 0:
            return Lost(SAME_FILE, self._name(number))
        if self._pictures is not None and (number := self._pictures.first_near(prints.picture)) >= 0:
            return Lost(NEAR_PICTURE, self._name(number))
        if self._most is not None and (number := self._captions.first_near(prints.caption)) >= 0:
            before = self._copies[number]
            if before >= self._most:
                return Lost(COMMON_CAPTION, f"{before} pairs before have it, or nearly")
        return None

    def _count(self, caption: np.uint64) -> None:
        number = self._captions.first_near(caption)
        if number < 0:
            number = len(self._captions)
            self._captions.add(caption)
            self._copies.append(0)
        self._copies[number] += 1

    def _name(self, number: int) -> str:
        return f"pair {self._places[number]} of take {self._takes[number]}"


def _number(digits: object) -> np.uint64:
    return np.uint64(int(str(digits)[:16], 16))
