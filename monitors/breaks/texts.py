"""Texts that went through the wrong function: encoded twice, read in another encoding, emptied, in capitals. Pure."""

from collections.abc import Iterator, Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from monitors.breaks.baseline import Baseline, digest
from monitors.breaks.finding import EXAMPLES, Break, masked
from monitors.breaks.markers import MARKERS, Marked, Marker, Rise, marked, scrambled

LEAST_SHOWN = 6
"""Fewer texts are what users may write."""
ERRORS = 4.0
"""Standard errors by which a share must lie above the reference's, over both samples."""
WHOLE = 0.99
_SCRAMBLED = Rise(0.3, 0.2)


def find(texts: Sequence[str], baseline: Baseline) -> Iterator[Break]:
    """Give a break for each marker that more texts show than usually do; a text counts for the first one alone."""
    explained = np.zeros(len(texts), dtype=bool)
    for marker, before in zip(MARKERS, baseline.marked, strict=False):
        hits = marked(marker, texts)
        left = Marked(hits.shows & ~explained, hits.possible & ~explained)
        if _has_risen(left, before, marker.least, whole=marker.whole):
            explained |= left.shows
            yield _break(marker.kind, marker.words, left, texts, marker)
    flags = scrambled(texts, frozenset(baseline.usual)) & ~explained
    left = Marked(flags, ~explained)
    if baseline.marked and _has_risen(left, baseline.marked[-1], _SCRAMBLED, whole=False):
        yield _break("scrambled", "have usual words only when read backwards or by ROT13", left, texts, None)


def _has_risen(hits: Marked, before: tuple[int, int], least: Rise, *, whole: bool) -> bool:
    shown, possible = int(hits.shows.sum()), int(hits.possible.sum())
    if shown < LEAST_SHOWN or shown < least.of_all * len(hits.shows):
        return False
    now, usual = shown / possible, before[0] / max(before[1], 1)
    error = sqrt(now * (1 - now) / possible + (usual * (1 - usual) + 1 / (before[1] + 4)) / (before[1] + 4))
    rise = now - usual
    if rise < least.of_possible or rise < ERRORS * error:
        return False
    return not whole or now >= WHOLE


def _break(kind: str, words: str, hits: Marked, texts: Sequence[str], marker: Marker | None) -> Break:
    places: NDArray[np.int64] = np.flatnonzero(hits.shows)
    share = len(places) / len(texts)
    keep = marker.keep if marker is not None else None
    return Break(
        kind=kind,
        share=share,
        examples=tuple(masked(texts[place], keep) for place in places[:EXAMPLES]),
        reason=f"{share:.0%} of the prompts {words}",
        key=digest(words),
    )
