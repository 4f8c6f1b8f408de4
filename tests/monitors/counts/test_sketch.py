"""Sketches: exact in merging, close in distances, calm about any input."""

import struct
import zlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.spatial.distance import jensenshannon

from datasets_defs.core.errors import ContractError
from monitors.counts.distances import jensen_shannon, kolmogorov_smirnov, l_infinity, psi, wasserstein
from monitors.counts.sketch import (
    CategorySketch,
    NumericSketch,
    Scale,
    decile_edges,
    from_bytes,
    hashed_level,
    is_hashed,
    merge,
    middles,
)

ANY = hnp.arrays(np.float64, st.integers(0, 60), elements=st.floats(width=64))
SCALES = st.builds(
    Scale,
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(1e-300, 1e300, exclude_min=True),
)
LEVELS = st.lists(st.one_of(st.none(), st.text(max_size=4)), max_size=40)
UNIT = Scale(0.0, 1.0)


@given(ANY, SCALES, st.lists(st.integers(0, 60), max_size=4))
def test_any_split_merges_to_the_same_sketch(values, scale, cuts) -> None:
    """Whatever the numbers and wherever they are cut, the parts add up to the sketch of the whole."""
    parts = [
        NumericSketch.of(part, scale, nulls=1) for part in np.split(values, sorted(min(c, len(values)) for c in cuts))
    ]
    assert merge(parts) == NumericSketch.of(values, scale, nulls=len(parts))
    assert sum(parts[1:], parts[0]) == merge(reversed(parts))


def test_a_long_column_is_the_sum_of_its_short_parts() -> None:
    """Counting by table, as for many rows, and by sorting, as for few, give the same, also for odd values."""
    rng = np.random.default_rng(1)
    values = rng.standard_cauchy(300_001) * 10 ** rng.uniform(-50, 50, 300_001)
    values[rng.integers(0, len(values), 3000)] = rng.choice([np.nan, np.inf, -np.inf, 1e308, -1e308, 0, -0.0], 3000)
    whole = NumericSketch.of(values, Scale(3.0, 0.1), wrong=2)
    parts = [NumericSketch.of(part, Scale(3.0, 0.1)) for part in np.array_split(values, 50)]
    assert merge([*parts, NumericSketch.of([], Scale(3.0, 0.1), wrong=2)]) == whole
    assert whole.rows == 300_003
    assert whole.nans == np.isnan(values).sum()
    assert whole.infinities == np.isinf(values).sum()


@given(ANY, SCALES)
def test_every_row_is_counted_once_and_in_order(values, scale) -> None:
    """NaN apart, each number is in one bucket; larger numbers are never in lower buckets."""
    sketch = NumericSketch.of(values, scale, nulls=2, wrong=3)
    assert sketch.rows == len(values) + 5
    assert sketch.numbers == sketch.present == (~np.isnan(values)).sum()
    assert sketch.absent == 2 + np.isnan(values).sum()
    assert sketch.infinities == np.isinf(values).sum()
    codes = [NumericSketch.of([each], scale).codes[0] for each in np.sort(values[~np.isnan(values)])]
    assert all(low <= high for low, high in pairwise(codes))
    assert sketch.at_most(np.array(codes, np.uint16)).tolist() == [sum(c <= code for c in codes) for code in codes]


@given(ANY, SCALES, st.integers(0, 2**40))
def test_numbers_survive_as_bytes(values, scale, nulls) -> None:
    """Writing and reading gives an equal sketch."""
    sketch = NumericSketch.of(values, scale, nulls=nulls, wrong=1)
    assert from_bytes(sketch.to_bytes()) == NumericSketch.from_bytes(sketch.to_bytes()) == sketch
    assert hash(NumericSketch.from_bytes(sketch.to_bytes())) == hash(sketch)


@given(LEVELS, st.lists(st.integers(0, 40), max_size=4))
def test_levels_merge_and_survive_as_bytes(values, cuts) -> None:
    """Counts of levels add up over any split, and come back from bytes."""
    ends = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    parts = [CategorySketch.of(values[low:high]) for low, high in pairwise(ends)]
    whole = CategorySketch.of(values)
    assert merge(parts) == sum(parts[1:], parts[0]) == whole
    assert CategorySketch.from_bytes(whole.to_bytes()) == whole
    assert whole.rows == len(values)
    assert whole.absent == values.count(None)
    assert whole.count_of(["a", "nowhere"]).tolist() == [values.count("a"), 0]
    known = [value for value in values if value is not None]
    codes = [known.index(value) if value is not None else -1 for value in values]
    assert CategorySketch.of_codes(np.array(codes, np.int64), known) == whole


def test_levels_that_are_no_unicode_text_survive() -> None:
    """A lone surrogate, as invalid UTF-8 is decoded to, is a level like another."""
    sketch = CategorySketch.of(["\ud800", "\udcff", "", "</script>", None])
    assert from_bytes(sketch.to_bytes()) == sketch
    assert is_hashed(hashed_level("\ud800"))


@given(st.binary(max_size=80))
def test_garbage_is_refused(content) -> None:
    """No bytes that are not a sketch are read as one."""
    with pytest.raises(ContractError):
        from_bytes(content)
    with pytest.raises(ContractError):
        from_bytes(b"\x01" + zlib.compress(content))


@pytest.mark.parametrize("sketch", [NumericSketch.of([1.0, 2.0, 9.0], UNIT), CategorySketch.of(["a", "b"])])
def test_a_damaged_byte_is_noticed(sketch) -> None:
    """Cutting, lengthening or changing any one byte is refused."""
    content = sketch.to_bytes()
    damaged = [content[:-1], content + b"\x00", b"\x02" + content[1:]]
    damaged += [content[:i] + bytes([content[i] ^ 0x41]) + content[i + 1 :] for i in range(3, len(content))]
    for each in damaged:
        with pytest.raises(ContractError):
            from_bytes(each)


def _forged(kind: bytes, size: int, nulls: int, rest: bytes) -> bytes:
    return b"\x01" + zlib.compress(struct.pack("<cqqqqdd", kind, size, nulls, 0, 0, 0.0, 1.0) + rest)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (_forged(b"n", 0, -1, b""), "a negative count"),
        (_forged(b"x", 0, 0, b""), "kind"),
        (_forged(b"n", 1, 0, b"\x00\x80" + bytes(8)), "counts"),
        (_forged(b"n", 1, 0, b"\x00\x00" + b"\x01" + bytes(7)), "codes"),
        (_forged(b"n", 1 << 40, 0, b""), "damaged"),
        (_forged(b"c", 1, 0, b"\x01" + bytes(3) + bytes(8) + b"a"), "counts"),
        (_forged(b"c", 1, 0, b"\x02" + bytes(3) + b"\x01" + bytes(7) + b"a"), "levels"),
        (_forged(b"c", 1, 0, b"\x01" + bytes(3) + b"\x01" + bytes(7) + b"\xff"), "damaged"),
    ],
)
def test_whole_bytes_with_impossible_counts_are_refused(content, found) -> None:
    """What decompresses and still is no sketch: negative counts, another kind, codes of NaN, counts of nothing."""
    with pytest.raises(ContractError, match=found):
        from_bytes(content)


def test_huge_counts_add_up_exactly() -> None:
    """Also beyond the integers that a float holds, and over more buckets than are sorted."""
    codes = np.arange(0x0080, 0xFF80, dtype=np.uint16)
    some = [NumericSketch(UNIT, codes, np.full(len(codes), 2**45 + 1, np.int64)) for _ in range(3)]
    assert merge(some) == NumericSketch(UNIT, codes, np.full(len(codes), 3 * (2**45 + 1), np.int64))
    assert hash(CategorySketch.of(["a"])) == hash(CategorySketch.of(["a"]))


def test_unlike_sketches_are_not_mixed() -> None:
    """Other scales, other kinds, or nothing at all do not merge, and the message says why."""
    numbers, texts = NumericSketch.of([1.0], UNIT), CategorySketch.of(["a"])
    with pytest.raises(ContractError, match="scales"):
        numbers + NumericSketch.of([1.0], Scale(0.0, 2.0))
    with pytest.raises(ContractError, match="type"):
        merge([numbers, texts])
    with pytest.raises(ContractError, match="no sketch"):
        merge([])
    with pytest.raises(ContractError, match="type"):
        psi(numbers, texts)
    with pytest.raises(ContractError, match="scales"):
        kolmogorov_smirnov(numbers, NumericSketch.of([1.0], Scale(0.0, 2.0)))
    with pytest.raises(ContractError, match="NumericSketch is needed"):
        NumericSketch.from_bytes(texts.to_bytes())
    assert numbers != texts
    assert texts != numbers


@pytest.mark.parametrize("rows", [10_000, 40_000])
@pytest.mark.parametrize("shift", [0.0, 0.05, 0.2, 1.0])
@pytest.mark.parametrize("draw", ["normal", "lognormal", "exponential", "standard_t", "integers", "half_zero"])
def test_distances_are_those_of_the_rows(draw, shift, rows) -> None:
    """KS within 2e-3 and W1 within 1e-3 sd of SciPy's on all rows, wherever the column lies."""
    rng = np.random.default_rng(rows)
    a, b = (_draw(rng, draw, rows) for _ in range(2))
    scale = Scale.of(a * 40 + 1000)
    a, b = a * 40 + 1000, (b + shift * scale.sd / 40) * 40 + 1000
    one, other = NumericSketch.of(a, scale), NumericSketch.of(b, scale)
    assert kolmogorov_smirnov(one, other) == pytest.approx(stats.ks_2samp(a, b).statistic, abs=2e-3)
    assert wasserstein(one, other) == pytest.approx(stats.wasserstein_distance(a, b) / scale.sd, abs=1e-3)
    assert one.mean == pytest.approx(a.mean(), abs=2e-3 * a.std())


def _draw(rng: np.random.Generator, name: str, rows: int) -> np.ndarray:
    match name:
        case "standard_t":
            return rng.standard_t(5, rows)
        case "integers":
            return rng.integers(0, 20, rows).astype(float)
        case "half_zero":
            return np.where(rng.random(rows) < 0.5, 0.0, rng.lognormal(size=rows))
        case _:
            return getattr(rng, name)(size=rows)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8), st.lists(st.integers(0, 50), min_size=2, max_size=8))
def test_distances_between_levels(left, right) -> None:
    """JS is SciPy's; L-infinity the largest difference of shares; PSI 0 for the same shares and above 0 otherwise."""
    names = "abcdefgh"
    a, b = (CategorySketch.of_counts(dict(zip(names, each, strict=False))) for each in (left, right))
    if not a.present or not b.present:
        assert np.isnan([jensen_shannon(a, b), psi(a, b), l_infinity(a, b)]).all()
        return
    p, q = (np.array([*each, *[0] * (8 - len(each))]) / sum(each) for each in (left, right))
    assert jensen_shannon(a, b) == pytest.approx(jensenshannon(p, q), abs=1e-7)
    assert l_infinity(a, b) == pytest.approx(np.abs(p - q).max())
    assert psi(a, b) >= 0
    assert psi(a, a) == pytest.approx(0, abs=1e-12)


def test_distances_between_numbers_by_deciles() -> None:
    """PSI of a 1 sd shift is near its closed form of 1; equal columns are at 0; nothing is at no distance."""
    rng = np.random.default_rng(3)
    a, b = NumericSketch.of(rng.normal(size=50_000), UNIT), NumericSketch.of(rng.normal(1, 1, size=50_000), UNIT)
    assert psi(a, b) == pytest.approx(1.0, abs=0.1)
    assert l_infinity(a, b) == pytest.approx(1 - stats.norm.cdf(stats.norm.ppf(0.9) - 1) - 0.1, abs=0.01)
    assert jensen_shannon(a, b) > 0.3
    assert (psi(a, a), jensen_shannon(a, a), l_infinity(a, a)) == (0, 0, 0)
    none = NumericSketch.of([np.nan], UNIT)
    assert np.isnan([kolmogorov_smirnov(a, none), wasserstein(a, none), psi(a, none), l_infinity(none, a)]).all()
    assert none.mean is None
    assert CategorySketch.of(["a"]).mean is None


def test_infinities_count_for_the_order_and_not_for_the_distance_in_sd() -> None:
    """A tenth of infinite values is a KS of a tenth, and leaves W1 to the finite ones."""
    a = NumericSketch.of(np.arange(100.0), UNIT)
    b = NumericSketch.of(np.concatenate((np.arange(90.0), np.full(10, np.inf))), UNIT)
    assert kolmogorov_smirnov(a, b) == pytest.approx(0.1)
    assert 0 < wasserstein(a, b) < 10
    assert NumericSketch.of([1e308, -1e308, np.inf], UNIT).infinities == 1


@given(hnp.arrays(np.float64, st.integers(1, 200), elements=st.floats(-1e6, 1e6)))
def test_edges_lie_nearest_the_deciles(values) -> None:
    """No bucket's edge, nor the one below all, is nearer to a decile than the nearest chosen."""
    sketch = NumericSketch.of(values, Scale.of(values))
    edges = decile_edges(sketch)
    shares = sketch.at_most(edges) / sketch.numbers
    every = np.array([0, *np.cumsum(sketch.counts)]) / sketch.numbers
    assert 1 <= len(edges) <= 9
    assert (np.diff(edges.astype(int)) > 0).all()
    for decile in np.arange(1, 10) / 10:
        assert np.abs(shares - decile).min() == pytest.approx(np.abs(every - decile).min())


def test_a_constant_column_has_an_edge_on_either_side() -> None:
    """So that a move up and a move down are both seen."""
    sketch = NumericSketch.of(np.full(50, 7.0), Scale.of(np.full(50, 7.0)))
    assert sketch.at_most(decile_edges(sketch)).tolist() == [0, 50]
    assert len(decile_edges(NumericSketch.of([], UNIT))) == 0


@given(ANY)
def test_every_column_has_a_scale(values) -> None:
    """Also an empty, constant, huge or infinite one; and its finite values keep apart from infinity."""
    scale = Scale.of(values)
    assert np.isfinite([scale.mean, scale.sd]).all()
    assert scale.sd > 0
    assert NumericSketch.of(values, scale).infinities == np.isinf(values).sum()


@pytest.mark.parametrize(("mean", "sd"), [(0, 0), (np.nan, 1), (0, np.inf), (0, -1), (np.inf, 1)])
def test_an_impossible_scale_is_refused(mean, sd) -> None:
    """At its birth, with what was found."""
    with pytest.raises(ValueError, match="finite mean"):
        Scale(mean, sd)


def test_a_few_huge_values_do_not_widen_the_scale() -> None:
    """One value of a billion in 10,000 leaves the buckets of the others fine."""
    values = np.random.default_rng(4).normal(5, 2, 10_000)
    values[7] = 1e9
    scale = Scale.of(values)
    assert scale.mean == pytest.approx(5, abs=0.1)
    assert scale.sd == pytest.approx(2, abs=0.1)


def test_middles_lie_inside_their_buckets() -> None:
    """The middle of a bucket is counted in that bucket, for every code there is."""
    codes = np.arange(0x0080, 0xFF80, dtype=np.uint16)
    assert np.array_equal(NumericSketch.of(middles(codes), UNIT).codes, codes)
    assert middles(np.array([0x007F, 0xFF80], np.uint16)).tolist() == [-np.inf, np.inf]


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.sampled_from([1_000, 200_000]))
def test_a_sketch_is_small(seed, rows) -> None:
    """A column-hour takes some kilobytes however many rows it has."""
    values = np.random.default_rng(seed).normal(size=rows)
    assert len(NumericSketch.of(values, UNIT).to_bytes()) < 6_000
