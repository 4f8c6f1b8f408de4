"""How much alike the rows of one user are: so many fewer rows they count for. Pure."""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitors.counts import columns
from monitors.counts.columns import Encoding, Row
from monitors.counts.sketch import Floats

UNKNOWN_ICC = 0.05
"""Taken where users come back too seldom to tell."""
LEAST_REPEATS = 30
"""Rows that are a user's second or later one, with fewer of which nothing can be told."""


def intraclass_correlation(values: ArrayLike, users: Sequence[Hashable | None]) -> float:
    """Estimate how much alike the rows of one user are: 0 as any others, 1 all the same.

    The one-way analysis of variance estimator with unequal groups (Donner, "A review of inference procedures for the
    intraclass correlation coefficient in the one-way random effects model", 1986): on the ranks of numbers, since it is
    ranks that the detector looks at, and summed over the levels of texts. Rows without a value or a user are left out.
    0.05 where fewer than 30 rows are a user's second or later one, or where all values are equal: too little to tell.
    """
    scores, levels, owners = _scored(values, users)
    count, groups = len(owners), int(owners.max(initial=-1)) + 1
    if groups < 2 or count - groups < LEAST_REPEATS:
        return UNKNOWN_ICC
    sizes = np.bincount(owners)
    width = int(levels.max()) + 1
    cells, at = np.unique(owners * width + levels, return_inverse=True)
    sums = np.bincount(at, weights=scores)  # of each user at each level that occurs
    between = float(sums @ (sums / sizes[cells // width]))
    grand = float((np.bincount(levels, weights=scores) ** 2).sum()) / count
    total = float(scores @ scores)
    across = (between - grand) / (groups - 1)
    inside = max(total - between, 0.0) / (count - groups)
    size = (count - float(sizes @ sizes) / count) / (groups - 1)
    if total - grand <= 1e-9 * total:
        return UNKNOWN_ICC
    return float(np.clip((across - inside) / (across + (size - 1) * inside), 0.0, 1.0))


def _scored(values: ArrayLike, users: Sequence[Hashable | None]) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Give each usable row's score, level and user, the last two as numbers from 0."""
    array = np.asarray(values)
    texts = array.dtype.kind not in "fiub"
    owned = np.array([user is not None for user in users], dtype=bool)
    told = [value is not None for value in array.tolist()] if texts else np.isfinite(array)
    usable = owned & np.array(told, dtype=bool)
    known = array[usable]
    _, at, counts = np.unique(known.astype(str) if texts else known, return_inverse=True, return_counts=True)
    numbered: dict[Hashable, int] = {}
    owners = [numbered.setdefault(user, len(numbered)) for user, use in zip(users, usable, strict=True) if use]
    if texts:
        return np.ones(len(known)), at.astype(np.int64), np.array(owners, dtype=np.int64)
    ranks = np.cumsum(counts) - (counts + len(known)) / 2
    return ranks[at], np.zeros(len(known), np.int64), np.array(owners, dtype=np.int64)


def icc_of(encoding: Encoding, rows: Sequence[Row], *, own: bool) -> dict[str, float]:
    """Estimate it for each column; with `own`, of rows that the encoding was learned from."""
    users = _users(rows)
    cells = columns.values(encoding, rows, own=own)
    return {name: intraclass_correlation(np.asarray(of_column), users) for name, of_column in cells.items()}


def rows_per_user(rows: Sequence[Row]) -> float:
    """Give how many rows the user of a row has, averaged over rows; one whose user is unknown is alone."""
    counts = Counter(_users(rows))
    alone = counts.pop(None, 0)
    return (alone + sum(count**2 for count in counts.values())) / len(rows)


def _users(rows: Sequence[Row]) -> list[Hashable | None]:
    """Give whose each row is: its user, else its session, else nobody's known."""
    return [row.get("session_id") if row.get("user_id") is None else row["user_id"] for row in rows]
