"""Which version's texts are most like the recent ones, by their words. Pure."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence


def closest(recent: Sequence[str], profiles: Mapping[int, Sequence[str]]) -> int | None:
    """Give the version whose texts are most like the recent ones: least Jensen-Shannon divergence of their words."""
    wanted = _shares(recent)
    distances = {version: _divergence(wanted, _shares(texts)) for version, texts in profiles.items() if texts}
    return min(distances, key=lambda version: (distances[version], -version), default=None)


def _shares(texts: Sequence[str]) -> dict[str, float]:
    counts = Counter(word for text in texts for word in re.findall(r"\w+", text.lower()))
    total = counts.total() or 1
    return {word: count / total for word, count in counts.items()}


def _divergence(one: Mapping[str, float], two: Mapping[str, float]) -> float:
    total = 0.0
    for word in one.keys() | two.keys():
        a, b = one.get(word, 0.0), two.get(word, 0.0)
        total += sum(share * math.log2(2 * share / (a + b)) for share in (a, b) if share)
    return total / 2
