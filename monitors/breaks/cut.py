"""Lengths that pile up at one value: texts were cut there. Pure."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from monitors.breaks.baseline import Baseline, digest, lengths_of
from monitors.breaks.finding import EXAMPLES, Break, masked

LEAST_PILE = 0.08
"""Share of texts of one length, above the reference's, from which on it is looked at."""
OF_LONGER = 0.6
"""Where nothing is longer, so much of what was as long or longer in the reference must lie at the edge."""
BY_CHANCE = 1e-6
"""A pile at the edge is less likely than this among usual texts.

Ten years of hours are 1.3 million looks at five lengths in three units, so chance cuts about one window in that time.
"""
SPIKE = 6.0
"""A pile inside the lengths is so many times as high as those beside it."""
NEIGHBOURS = 3
LEAST_VARIOUS = 0.6
"""Share of different texts in a pile; the same text again and again is a flood."""


def find(texts: Sequence[str], baseline: Baseline) -> Iterator[Break]:
    """Give the pile, in the unit in which it is the highest."""
    now = lengths_of(texts)
    best: Break | None = None
    for unit, counts in now.items():
        pile = _pile(unit, _ints(counts), _ints(baseline.lengths.get(unit, {})), texts)
        if pile is not None and (best is None or pile.share > best.share):
            best = pile
    if best is not None:
        yield best


def _pile(unit: str, now: Mapping[int, int], before: Mapping[int, int], texts: Sequence[str]) -> Break | None:
    count, of_before = sum(now.values()), sum(before.values())
    if count < 20 or not of_before:
        return None
    for length in sorted(now, key=lambda size: (-now[size], -size))[:5]:
        share, usual = now[length] / count, before.get(length, 0) / of_before
        if share - usual < LEAST_PILE or share < 2 * usual:
            continue
        is_end = sum(number for size, number in now.items() if size > length) <= 0.01 * count
        longer = sum(number for size, number in before.items() if size >= length) / of_before
        is_edge = is_end and longer - usual >= LEAST_PILE and _at_edge(now, length) >= OF_LONGER * longer * count
        is_edge = is_edge and _edge_chance(now, before, length) < BY_CHANCE
        if (is_edge or (unit != "words" and _is_spike(now, length))) and _is_various(unit, length, texts):
            return _break(unit, length, share, texts, is_edge=is_edge)
    return None


def _at_edge(now: Mapping[int, int], length: int) -> int:
    """Count what lies at the edge or a character below it: white space at the end of a cut may have been stripped."""
    return now.get(length, 0) + now.get(length - 1, 0)


def _edge_chance(now: Mapping[int, int], before: Mapping[int, int], length: int) -> float:
    """Give the probability that usual texts end so: as few above the edge, and as many at it.

    Each text falls above, at, or below with the reference's shares (Laplace's rule keeps unseen lengths possible). The
    two binomial tails are multiplied: of all texts at most so many above, and of the others at least so many at it.
    """
    count, of_before = sum(now.values()), sum(before.values())
    above = sum(number for size, number in now.items() if size > length)
    share_above = (sum(number for size, number in before.items() if size > length) + 1) / (of_before + 2)
    share_at = (_at_edge(before, length) + 1) / (of_before + 2)
    few = 1 - _at_least(above + 1, count, share_above)
    many = _at_least(_at_edge(now, length), count - above, min(share_at / (1 - share_above), 1.0))
    return few * many


def _at_least(least: int, of: int, share: float) -> float:
    """Give the probability that of so many texts at least `least` are of a kind with this share."""
    if least <= 0 or share >= 1:
        return 1.0
    logs = [
        math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1) + k * math.log(share)
        + (of - k) * math.log1p(-share)
        for k in range(least, of + 1)
    ]  # fmt: skip
    return min(1.0, math.fsum(map(math.exp, logs)))


def _is_spike(now: Mapping[int, int], length: int) -> bool:
    beside = [now.get(length + step, 0) for step in range(-NEIGHBOURS - 1, NEIGHBOURS + 1) if step not in (0, -1)]
    around = float(np.mean(beside))
    return now[length] >= SPIKE * max(around, 1.0) and now[length] >= 12


def _is_various(unit: str, length: int, texts: Sequence[str]) -> bool:
    pile = [text for text in texts if text.strip() and _length(unit, text) == length]
    return len(set(pile)) >= LEAST_VARIOUS * len(pile)


def _length(unit: str, text: str) -> int:
    match unit:
        case "characters":
            return len(text)
        case "bytes":
            return len(text.encode("utf-8", "replace"))
    return len(text.split())


def _break(unit: str, length: int, share: float, texts: Sequence[str], *, is_edge: bool) -> Break:
    pile = [text for text in texts if _length(unit, text) == length]
    more = ", and none is longer" if is_edge else ""
    return Break(
        kind="cut",
        share=share,
        examples=tuple(masked(text) for text in pile[:EXAMPLES]),
        reason=f"{share:.0%} of the prompts have exactly {length} {unit}{more}: they are cut there",
        key=digest(f"{length} {unit}"),
    )


def _ints(counts: Mapping[str, int]) -> dict[int, int]:
    return {int(length): number for length, number in counts.items()}
