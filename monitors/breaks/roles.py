"""Columns that are no property of a request: ids, clocks, counters, constants, levels that take turns. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np

from monitors.counts.columns import ATTRIBUTE, MAX_SINGLETONS, Row

CLOCK_RANK = 0.97
"""Rank correlation with the time of the request from which on a number is a clock or counter."""
LEAST_ROWS = 50
LEAST_PRESENT = 0.01
MOST_LEVELS = 200
CONSTANT = 0.995
FEW_TURNS = 3.0
"""Levels that take turns begin on average fewer times than so; those of a property begin in every other row."""
ROWS_PER_LEVEL = 8


def roles(rows: Sequence[Row]) -> dict[str, str]:
    """Say of attributes that are not to be watched for drift what they are, by column name; the others are left out.

    `rows` are rows of the log with `at` and `attributes`; without times neither clocks nor turns can be told.
    """
    if len(rows) < LEAST_ROWS:
        return {}
    timed = sorted(rows, key=_time) if all(isinstance(row.get("at"), datetime) for row in rows) else None
    names = {name for row in rows for name in row.get("attributes") or {}}
    by_column = {}
    for name in sorted(names):
        some = timed if timed is not None else rows
        cells = [(row.get("attributes") or {}).get(name) for row in some]
        present = [(place, cell) for place, cell in enumerate(cells) if cell is not None]
        if len(present) < max(LEAST_ROWS, LEAST_PRESENT * len(rows)):
            continue
        role = _role([cell for _, cell in present], timed is not None, [place for place, _ in present])
        if role is not None:
            by_column[ATTRIBUTE + name] = role
    return by_column


def _time(row: Mapping[str, Any]) -> datetime:
    at: datetime = row["at"]
    return at


def _role(cells: Sequence[Any], is_timed: bool, places: Sequence[int]) -> str | None:  # noqa: C901, FBT001  a private step; one question after the other
    if any(isinstance(cell, dict | list) for cell in cells):
        return None
    times = Counter(map(str, cells))
    if times.most_common(1)[0][1] >= CONSTANT * len(cells):
        return "a constant: the same in all rows"
    numeric = all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in cells)
    if is_timed and numeric:
        from scipy.stats import spearmanr  # a second of import, for a new profile alone

        ranked = spearmanr(places, np.asarray(cells, dtype=np.float64)).statistic
        if abs(float(ranked)) >= CLOCK_RANK:
            return "a clock or counter: it grows with time"
    if numeric and len(times) > MOST_LEVELS:
        return None
    if not numeric and sum(number == 1 for number in times.values()) > MAX_SINGLETONS * len(cells):
        return "an id or free text: most rows have a value of their own"
    if not numeric and len(times) > MOST_LEVELS:
        return f"of too many levels: {len(times)}"
    if is_timed and len(times) > 1 and len(cells) >= ROWS_PER_LEVEL * len(times) and _takes_turns(cells, times):
        return "levels that take turns: one replaces another as a whole, as a date or a release does"
    return None


def _takes_turns(cells: Sequence[Any], times: Mapping[str, int]) -> bool:
    begins = 1 + sum(bool(a != b) for a, b in pairwise(cells))
    return begins <= FEW_TURNS * len(times) and begins <= 0.1 * len(cells)
