"""Harm: sums that add up, an error that is the textbook's, evidence that chance rarely gives."""

from math import inf, log10

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from monitors.counts.moments import Moments
from monitors.evidence.e_detector import BAD_RUN_LENGTH, LEAST_LOG10
from monitors.evidence.harm import Harm, _Ratios, harm

LIMIT = 1.02
BAD = log10(BAD_RUN_LENGTH)
ANY = hnp.arrays(np.float64, 12, elements=st.floats(width=64))


def windows(count: int, rows: int, *, ratio: float = 1.0, seed: int = 0, mean: float = 3.0) -> list[Moments]:
    """Windows whose rows spread by a fifth of the reference's mean."""
    rng = np.random.default_rng(seed)
    return [Moments.of(rng.normal(mean * ratio, 0.2 * mean, rows), rng.integers(50, 500, rows)) for _ in range(count)]


REFERENCE = sum(windows(20, 1000, seed=99), Moments())


@given(ANY, ANY, st.integers(0, 12))
def test_moments_add_up_over_any_split(values, weights, cut) -> None:
    """The sums of two parts are those of the whole, whatever the rows hold; rows that are no figure are left out."""
    whole = Moments.of(values, weights)
    parts = Moments.of(values[:cut], weights[:cut]) + Moments.of(values[cut:], weights[cut:])
    assert parts.rows == whole.rows
    for name in ("w", "w2"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name))
    size = np.sqrt(whole.w2 * whole.w2x2)
    assert parts.w2x == pytest.approx(whole.w2x, abs=max(1e-9 * size, 1e-300))  # below that, floats lose their digits
    assert parts.error >= 0
    assert np.isfinite([whole.w, whole.wx, whole.w2, whole.w2x, whole.w2x2]).all()


def test_mean_and_error_are_the_textbooks() -> None:
    """Weighted mean and linearised residuals (Cochran 1977, 6.3), computed from the rows."""
    rng = np.random.default_rng(1)
    x, w = rng.normal(3, 0.5, 400), rng.integers(1, 900, 400)
    x[5], w[6] = np.nan, 0
    kept = np.isfinite(x) & (w > 0)
    moments = Moments.of(x, w)
    mean = np.average(x[kept], weights=w[kept])
    residuals = w[kept] * (x[kept] - mean)
    assert moments.rows == 398
    assert moments.mean == pytest.approx(mean)
    expected = residuals.std(ddof=1) / np.sqrt(398) / w[kept].mean() / mean
    assert moments.relative_error == pytest.approx(expected)


def test_the_error_is_what_means_spread_by() -> None:
    """Over 400 windows the means' own spread is the stated error within a tenth."""
    some = windows(400, 300)
    assert np.std([each.mean for each in some]) == pytest.approx(np.mean([each.error for each in some]), rel=0.1)


def test_nothing_is_known_of_nothing() -> None:
    """No rows have no mean, one row has no error, equal rows are not sure beyond all measure."""
    assert Moments().mean is None
    assert Moments().relative_error == inf
    assert Moments.of([3.0]).error == inf
    assert Moments.of([-3.0, -3.0]).relative_error == inf
    assert Moments.of([3.0] * 100).error > 0


@pytest.mark.parametrize(
    ("reference", "some"),
    [
        (REFERENCE, []),
        (REFERENCE, [Moments()]),
        (Moments(), windows(1, 100)),
        (Moments.of([3.0]), windows(1, 100)),
        (Moments.of(np.zeros(100)), windows(1, 100)),
        (Moments.of(-np.ones(100)), windows(1, 100)),
    ],
)
def test_without_means_there_is_no_verdict(reference, some) -> None:
    """No windows, no rows in the newest, or a reference without a mean above 0: nothing is said."""
    assert harm(reference, some, limit=LIMIT) is None


@pytest.mark.parametrize(("rows", "hours"), [(200, 4), (1000, 2), (5000, 1)])
def test_a_tenth_more_is_found_within_hours(rows, hours) -> None:
    """A loss of 1.1 times the reference's is harmful after so many windows, and surely above the limit then."""
    found = harm(REFERENCE, windows(24, rows) + windows(hours, rows, ratio=1.1, seed=1), limit=LIMIT)
    assert found is not None
    assert found.log10_m >= BAD
    assert LIMIT <= found.at_least <= found.ratio + 0.02


def test_a_hundredth_more_is_never_harmful() -> None:
    """Within the limit, 40 runs of 72 windows stay far below the warning, at any number of rows."""
    for seed in range(40):
        found = harm(REFERENCE, windows(72, 2000, ratio=1.01, seed=seed), limit=LIMIT)
        assert found is not None
        assert found.log10_m < 2
        assert found.at_least < LIMIT


def test_harm_that_ended_is_soon_forgotten() -> None:
    """Three days of a tenfold loss leave no alarm two hours later."""
    after = windows(70, 1000, ratio=10) + windows(2, 1000, seed=5)
    assert harm(REFERENCE, after[:70], limit=LIMIT).log10_m >= BAD
    assert harm(REFERENCE, after, limit=LIMIT).log10_m < BAD


def test_a_reference_of_few_rows_is_given_the_benefit_of_its_error() -> None:
    """The same windows accuse against 20,000 rows and not against 60 of the same mean."""
    few = Moments.of(np.random.default_rng(8).normal(3, 0.6, 60))
    same = windows(12, 2000, ratio=few.mean / 3 * 1.06)
    sure = windows(12, 2000, ratio=REFERENCE.mean / 3 * 1.06)
    assert harm(REFERENCE, sure, limit=LIMIT).log10_m >= BAD
    assert harm(few, same, limit=LIMIT).log10_m < BAD


def test_users_that_repeat_themselves_weaken_the_evidence() -> None:
    """With ten rows a user that all say the same, 1,000 rows are worth 100."""
    some = windows(2, 1000, ratio=1.08)
    alone = harm(REFERENCE, some, limit=LIMIT)
    clustered = harm(REFERENCE, some, limit=LIMIT, rows_per_user=10, icc=1.0)
    assert alone.log10_m >= BAD > clustered.log10_m
    assert clustered.at_least < alone.at_least


@given(
    st.lists(st.sampled_from([*windows(6, 60), *windows(3, 300, ratio=1.2), *windows(2, 40, ratio=9), Moments()]),
             min_size=1, max_size=90),
    st.floats(0.5, 2.0),
)  # fmt: skip
def test_the_lower_bound_and_the_verdict_agree(some, limit) -> None:
    """`at_least` reaches the limit exactly when the evidence reaches the BAD run length."""
    found = harm(REFERENCE, some, limit=limit)
    if some[-1].mean is None:
        assert found is None
        return
    assert found.log10_m >= LEAST_LOG10
    assert found.at_least >= 0
    if abs(found.at_least - limit) > 1e-3:
        assert (found.at_least >= limit) == (found.log10_m >= BAD)


@given(st.lists(st.sampled_from([*windows(4, 60), *windows(3, 300, ratio=1.3)]), min_size=1, max_size=20),
       st.lists(st.floats(0.5, 2.0), min_size=2, max_size=2))  # fmt: skip
def test_a_higher_limit_needs_more_evidence(some, limits) -> None:
    """Evidence falls as the limit rises."""
    low, high = (harm(REFERENCE, some, limit=limit).log10_m for limit in sorted(limits))
    assert low >= high


def test_older_windows_than_three_days_do_not_count() -> None:
    """The verdict is that of the last 72 windows alone, in their order."""
    some = windows(30, 500, ratio=1.3) + windows(72, 500, seed=3)
    assert harm(REFERENCE, some, limit=LIMIT) == harm(REFERENCE, some[30:], limit=LIMIT)


def test_windows_of_few_rows_are_passed_over() -> None:
    """Ten rows at ten times the loss accuse nobody, and are shown as the newest ratio."""
    few = Moments.of(np.random.default_rng(2).normal(30, 0.1, 10))
    found = harm(REFERENCE, [few], limit=LIMIT)
    assert found == Harm(ratio=few.mean / REFERENCE.mean, at_least=0.0, log10_m=LEAST_LOG10)


@pytest.mark.parametrize("ratio", [0.9, 1.0, LIMIT])
@pytest.mark.parametrize("rows", [50, 1000])
def test_the_mean_of_an_e_value_is_at_most_one(ratio, rows) -> None:
    """One window's M has a mean of at most 1 over windows normal about any mean up to the limit, by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(101)
    variance = 0.2**2 / rows
    means = ratio + np.sqrt(variance) * nodes
    e = [np.exp(_Ratios(np.array([x]), np.array([1 / variance]), 1.0).log_m(np.array([LIMIT])))[1, 0] for x in means]
    assert 0 < weights @ e / weights.sum() <= 1 + 1e-9
