"""Seeded tables for the benchmarks: columns of several shapes, a fifth of them shifted by 0.2 standard deviations."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray

SHIFT_SD = 0.2
"""How far a shifted column lies from its reference, in the reference's standard deviations."""
SHIFTED_SHARE = 0.2
CATEGORY_SHARE = 0.2
_LEVELS = (2, 3, 5, 8, 12, 20, 30, 40, 45, 50)


@dataclass(frozen=True, slots=True)
class Tables:
    """A reference and a window of the same columns."""

    reference: pd.DataFrame
    window: pd.DataFrame
    numeric: tuple[str, ...]
    categories: tuple[str, ...]
    shifted: frozenset[str]
    """Columns whose window differs; all are numeric."""


def tables(*, reference_rows: int, rows: int, columns: int, seed: int = 0) -> Tables:
    """Make a reference and a window: four fifths of the columns are numbers, the rest categories of 2 to 50 levels."""
    rng = np.random.default_rng(seed)
    count = round(columns * (1 - CATEGORY_SHARE))
    numeric = tuple(f"number_{at:02d}" for at in range(count))
    categories = tuple(f"category_{at:02d}" for at in range(columns - count))
    shifted = numeric[:: max(round(count / (columns * SHIFTED_SHARE)), 1)][: round(columns * SHIFTED_SHARE)]
    reference, window = ({} for _ in range(2))
    for at, name in enumerate(numeric):
        reference[name] = _numbers(rng, at, reference_rows)
        moved = SHIFT_SD * float(reference[name].std()) if name in shifted else 0.0
        window[name] = _numbers(rng, at, rows) + moved
    for at, name in enumerate(categories):
        reference[name], window[name] = (_levels(rng, at, size) for size in (reference_rows, rows))
    return Tables(pd.DataFrame(reference), pd.DataFrame(window), numeric, categories, frozenset(shifted))


def _numbers(rng: Generator, at: int, rows: int) -> NDArray[np.float64]:
    """Give a column of one of five shapes: as lengths, losses, shares and latencies have them."""
    match at % 5:
        case 0:
            return rng.normal(3.0, 0.4, rows)
        case 1:
            return rng.lognormal(4.0, 0.6, rows)
        case 2:
            return rng.exponential(0.3, rows)
        case 3:
            return rng.poisson(60.0, rows).astype(np.float64)
        case _:
            return rng.beta(2.0, 8.0, rows)


def _levels(rng: Generator, at: int, rows: int) -> Any:
    count = _LEVELS[at % len(_LEVELS)]
    weights = 1.0 / np.arange(1, count + 1)
    codes = rng.choice(count, size=rows, p=weights / weights.sum())
    return pd.Categorical.from_codes(codes, [f"level {number:02d}" for number in range(count)])
