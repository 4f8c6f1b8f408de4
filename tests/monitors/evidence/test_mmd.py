"""Maximum mean discrepancy: quiet without a shift, and sharp with one."""

import numpy as np
import pytest

from monitors.evidence.mmd import MAX_ROWS, PERMUTATIONS, discrepancy

SEEDS = 40
SPREAD = np.exp(-np.arange(128) / 30)


def vectors(seed: int, rows: int = 500, *, moved: float = 0.0, share: float = 1.0) -> np.ndarray:
    """Vectors whose directions vary unequally, as embeddings' do; a share of them is moved."""
    found = np.random.default_rng(seed).normal(size=(rows, len(SPREAD))) * SPREAD
    found[: int(share * rows)] += moved
    return found


def rate(**shift: float) -> float:
    """Share of seeds at which a shift is seen at the level of one in a hundred."""
    seen = [
        discrepancy(vectors(seed), vectors(1000 + seed, **shift), seed=seed).p_value <= 0.01 for seed in range(SEEDS)
    ]
    return float(np.mean(seen))


def test_null() -> None:
    """Without a shift it sees one as seldom as its level says: 40 seeds at .01 give more than 4 once in 3,000."""
    assert rate() <= 4 / SEEDS


def test_power() -> None:
    """A small shift of all rows, and a new topic in one row of ten, are seen at nearly every seed."""
    assert rate(moved=0.1) >= 0.95
    assert rate(moved=0.8, share=0.1) >= 0.95


def test_p_values_are_uniform() -> None:
    """Under the null the p-values spread over the whole range."""
    found = np.sort([discrepancy(vectors(s, 60), vectors(99 + s, 60), seed=s).p_value for s in range(100)])
    assert np.abs(found - (np.arange(100) + 0.5) / 100).max() < 0.2


def test_same_seed_same_answer() -> None:
    """The answer depends on the rows and the seed alone."""
    a, b = vectors(0), vectors(1)
    assert discrepancy(a, b, seed=3) == discrepancy(a, b, seed=3)
    assert discrepancy(a, b + 9, seed=3).p_value == pytest.approx(1 / (1 + PERMUTATIONS))


def test_many_rows_and_equal_rows() -> None:
    """Large sides are thinned, and sides of one repeated row are alike."""
    assert discrepancy(vectors(0, 3 * MAX_ROWS), vectors(1, 30)).p_value > 0.01
    assert discrepancy(np.ones((5, 3)), np.ones((7, 3))).p_value == 1.0


def test_refuses_nonsense() -> None:
    """Too few rows, or rows of different lengths, cannot be compared."""
    for reference, current in ((np.ones((1, 3)), np.ones((5, 3))), (np.ones((5, 3)), np.ones((5, 4)))):
        with pytest.raises(ValueError, match="two sides of two rows"):
            discrepancy(reference, current)
