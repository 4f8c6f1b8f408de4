"""A language model of bytes by counts: what texts cost a model that learned other texts, really measured."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from math import log2

ORDER = 4
"""Bytes of context at most."""


class ByteModel:
    """Witten-Bell interpolation of all orders up to `ORDER`, over the 256 bytes and the end of a text.

    Witten and Bell, The zero-frequency problem, IEEE Transactions on Information Theory 37 (1991), method C.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._seen: dict[bytes, Counter[int]] = defaultdict(Counter)
        for text in texts:
            found = text.encode()
            for place, byte in enumerate(found):
                for order in range(min(ORDER, place) + 1):
                    self._seen[found[place - order : place]][byte] += 1
        self._totals = {context: sum(times.values()) for context, times in self._seen.items()}

    def bits_per_byte(self, text: str) -> float:
        """Give the mean bits that a byte of the text costs; an empty text costs as much as a byte of chance."""
        found = text.encode("utf-8", "replace")
        bits = 0.0
        for place, byte in enumerate(found):
            likely = 1 / 256
            for order in range(min(ORDER, place) + 1):
                times = self._seen.get(found[place - order : place])
                if times is None:
                    break
                total = self._totals[found[place - order : place]]
                likely = (times[byte] + len(times) * likely) / (total + len(times))
            bits -= log2(likely)
        return bits / len(found) if found else 8.0
