"""What the loss usually is at an hour: of known kinds of prompts, and of new ones. Pure."""

from dataclasses import dataclass

import numpy as np

from monitors.season.season import SEEN_DAYS, Season
from monitors.season.tolerance import bounds

FIRST_NEW_SHARE = 0.1
"""Share of new kinds that is usual before any hour is known: a little more than the reference's own would be."""
GROWTH_TOLERANCE = 0.05
LEARNING_GROWTH = 0.09
"""At an hour that was never seen new kinds may have so much more of the rows than at any hour that is known.

An hour seen once says itself what it shows, so that what it and all known ones show at most is usual there.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """The most that is usual."""

    same: float = 1.0
    """What known kinds cost, as a multiple of the reference."""
    new: float = 1.0
    """1 plus what new ones add, as a share of the reference's mean."""
    share: float | None
    """Share of the rows that are new; None while no hour is known."""


def usual_at(season: Season, slot: int, harm_ratio: float) -> Usual:
    """Give what is usual at an hour; at one that is not known yet, the most of all that are and of its own.

    An hour may differ from others; the level of all of them is anchored to the reference, so that no later season gets
    used to known kinds costing more than `harm_ratio` of it.
    """
    known = np.flatnonzero(season.seen >= SEEN_DAYS)
    if not len(known):
        return Usual(share=None)
    is_known = season.seen[slot] >= SEEN_DAYS
    _, high = bounds(season, np.array([slot]) if is_known else np.append(known, slot))
    same, new, share = high[:, -3:].max(axis=0).tolist()
    level = float(np.median(season.expected[season.seen > 0, -3]))
    margin = LEARNING_GROWTH if season.seen[slot] == 0 else 0.0
    return Usual(
        same=max(same - level + min(level, harm_ratio), 1.0), new=max(new, 1.0), share=max(share, 0.0) + margin
    )
