"""Mergeable counts of a column: what is kept of a window's rows, and the distances between two of them. Pure.

A number x is counted in the bucket of z = (x - mean) / sd, whose edges are the first 16 bits of z as a 32-bit float
(bfloat16, truncated): 128 buckets per power of two, finest around the reference's mean. The edges depend on nothing but
the scale, so sketches add up, and any split of the rows gives the same sketch. A text is counted by its level.
"""

import re
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import isfinite
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datasets_defs.core.errors import ContractError

Codes = NDArray[np.uint16]
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

HASHED_LEVELS = 256
"""Levels that an encoding does not know share this many names, so that a sketch stays small and still merges."""
_HASHED = re.compile(r"\?\d{3}")
_FORMAT = 1
_NUMERIC, _CATEGORY = b"n", b"c"
_HEAD = struct.Struct("<cqqqqdd")
_MAX_BYTES = 1 << 27
_BUCKETS = 1 << 16
_FEW = 16_384
"""Up to so many rows sorting their codes is cheaper than a table of all buckets."""
_CHUNK = 16_384
_TOP = 1 if sys.byteorder == "little" else 0
"""Which half of a 32-bit float holds its first 16 bits."""
_TABLE_CHUNK = 1 << 18
_LOWEST, _HIGHEST = 0x007F, 0xFF80
"""Codes of minus and plus infinity; NaNs lie outside."""


def hashed_level(level: str) -> str:
    """Give the shared name, `?000` to `?255`, of a level that the encoding does not know."""
    digest = blake2b(level.encode("utf-8", "surrogatepass"), digest_size=1).digest()
    return f"?{digest[0]:03}"


def is_hashed(level: str) -> bool:
    """Say whether a level is such a shared name."""
    return _HASHED.fullmatch(level) is not None


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a column lies and how wide it is: fixed by the reference, and part of the encoding."""

    mean: float
    sd: float
    """Above 0; the unit of `wasserstein`."""

    def __post_init__(self) -> None:
        """Refuse a scale that no number can be put on."""
        if not (isfinite(self.mean) and isfinite(self.sd) and self.sd >= np.finfo(np.float64).tiny):
            raise ValueError(f"a scale needs a finite mean and a finite sd above 0, not {self.mean} and {self.sd}")

    @classmethod
    def of(cls, values: ArrayLike) -> "Scale":
        """Take the mean and standard deviation of the middle 99.8 % of the finite values.

        A few huge values would else make all buckets around the others coarse. A column without finite values gets
        (0, 1); a constant one an sd of a thousandth of its value.
        """
        finite = np.asarray(values, dtype=np.float64).ravel()
        finite = finite[np.isfinite(finite)]
        if not len(finite):
            return cls(0.0, 1.0)
        low, high = np.quantile(finite, (0.001, 0.999), method="closest_observation")
        unit = max(abs(float(low)), abs(float(high)), 1.0)
        middle = finite[(finite >= low) & (finite <= high)] / unit
        mean, sd = float(middle.mean()) * unit, float(middle.std()) * unit
        constant = low == high or sd < np.finfo(np.float64).tiny
        return cls(mean, max(abs(mean), 1.0) * 1e-3 if constant else sd)


@dataclass(frozen=True, slots=True, eq=False)
class NumericSketch:
    """Counts of a column of numbers."""

    scale: Scale
    codes: Codes
    """Ordered codes of the buckets that occur, ascending; each infinity has its own."""
    counts: Counts
    """Rows in each of them, above 0."""
    nulls: int = 0
    """Rows without a value."""
    nans: int = 0
    wrong: int = 0
    """Rows with a value of another type, as the reader counted them."""

    @classmethod
    def of(cls, values: ArrayLike, scale: Scale, *, nulls: int = 0, wrong: int = 0) -> "NumericSketch":
        """Count the values; NaN and infinities are allowed, `nulls` and `wrong` rows come on top."""
        flat = np.asarray(values, dtype=np.float64).ravel()
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            codes, counts = _few(flat, scale) if len(flat) <= _FEW else _many(flat, scale)
        inner = slice(*np.searchsorted(codes, (_LOWEST, _HIGHEST + 1)))
        within, kept = _unclipped(flat, codes[inner].astype(np.uint16), counts[inner].astype(np.int64))
        return cls(scale, within, kept, nulls, len(flat) - int(kept.sum()), wrong)

    @property
    def numbers(self) -> int:
        """Rows with a number, infinities included."""
        return int(self.counts.sum())

    @property
    def present(self) -> int:
        """Rows with a value that can be compared: the numbers."""
        return self.numbers

    @property
    def absent(self) -> int:
        """Rows without one: nulls and NaNs."""
        return self.nulls + self.nans

    @property
    def rows(self) -> int:
        """All rows."""
        return self.numbers + self.nulls + self.nans + self.wrong

    @property
    def infinities(self) -> int:
        """Rows with an infinite number."""
        return int(self.counts[(self.codes == _LOWEST) | (self.codes == _HIGHEST)].sum())

    @property
    def mean(self) -> float | None:
        """Mean of the finite numbers by the middles of their buckets; None without any."""
        finite = (self.codes > _LOWEST) & (self.codes < _HIGHEST)
        if not finite.any():
            return None
        z = float(np.average(middles(self.codes[finite]), weights=self.counts[finite]))
        return self.scale.mean + self.scale.sd * z

    def at_most(self, codes: Codes) -> Counts:
        """Count the numbers whose code is at most each of `codes`."""
        below = np.concatenate((np.zeros(1, np.int64), np.cumsum(self.counts)))
        return below[np.searchsorted(self.codes, codes, side="right")]

    def __add__(self, other: "NumericSketch") -> "NumericSketch":
        return _merge_numeric([self, other])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NumericSketch):
            return NotImplemented
        return (
            (self.scale, self.nulls, self.nans, self.wrong) == (other.scale, other.nulls, other.nans, other.wrong)
            and np.array_equal(self.codes, other.codes)
            and np.array_equal(self.counts, other.counts)
        )

    def __hash__(self) -> int:
        return hash((self.scale, self.rows, len(self.codes)))

    def to_bytes(self) -> bytes:
        """Give it as bytes: the steps between codes and the counts, byte plane by byte plane, compressed."""
        steps = np.diff(self.codes, prepend=np.uint16(0))
        head = _HEAD.pack(_NUMERIC, len(self.codes), self.nulls, self.nans, self.wrong, self.scale.mean, self.scale.sd)
        return _packed(head + _planes(steps.astype("<u2")) + _planes(self.counts.astype("<i8")))

    @classmethod
    def from_bytes(cls, content: bytes) -> "NumericSketch":
        """Read what `to_bytes` gave.

        Raises:
            ContractError: the bytes are no sketch of numbers.
        """
        return _expect(cls, from_bytes(content))


@dataclass(frozen=True, slots=True, eq=False)
class CategorySketch:
    """Counts of a column of texts with few different values."""

    levels: tuple[str, ...]
    """What occurred, sorted."""
    counts: Counts
    """Rows of each of them, above 0."""
    nulls: int = 0
    wrong: int = 0
    """Rows with a value of another type, as the reader counted them."""

    @classmethod
    def of(cls, values: Iterable[str | None], *, nulls: int = 0, wrong: int = 0) -> "CategorySketch":
        """Count the values; each None is one more null."""
        found: Counter[str | None] = Counter(values)
        nulls += found.pop(None, 0)
        return cls.of_counts({level: count for level, count in found.items() if level is not None},
                             nulls=nulls, wrong=wrong)  # fmt: skip

    @classmethod
    def of_counts(cls, counts: Mapping[str, int], *, nulls: int = 0, wrong: int = 0) -> "CategorySketch":
        """Take counts as they are; levels that never occurred are left out."""
        levels = tuple(sorted(level for level, count in counts.items() if count))
        return cls(levels, np.array([counts[level] for level in levels], dtype=np.int64), nulls, wrong)

    @classmethod
    def of_codes(
        cls, codes: NDArray[np.integer], levels: Sequence[str], *, nulls: int = 0, wrong: int = 0
    ) -> "CategorySketch":
        """Count a dictionary-encoded column: positions in `levels`, or a negative number for null."""
        flat = np.asarray(codes).ravel()
        counts = np.bincount(flat[flat >= 0], minlength=len(levels))
        merged: Counter[str] = Counter()
        for level, count in zip(levels, counts.tolist(), strict=True):
            merged[level] += count
        return cls.of_counts(merged, nulls=nulls + int((flat < 0).sum()), wrong=wrong)

    @property
    def present(self) -> int:
        """Rows with a level."""
        return int(self.counts.sum())

    @property
    def absent(self) -> int:
        """Rows without one."""
        return self.nulls

    @property
    def rows(self) -> int:
        """All rows."""
        return self.present + self.nulls + self.wrong

    @property
    def mean(self) -> None:
        """None: texts have no mean."""
        return None

    def count_of(self, levels: Sequence[str]) -> Counts:
        """Count the rows of each of `levels`."""
        own = dict(zip(self.levels, self.counts.tolist(), strict=True))
        return np.array([own.get(level, 0) for level in levels], dtype=np.int64)

    def __add__(self, other: "CategorySketch") -> "CategorySketch":
        return _merge_category([self, other])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CategorySketch):
            return NotImplemented
        return (self.levels, self.nulls, self.wrong) == (other.levels, other.nulls, other.wrong) and np.array_equal(
            self.counts, other.counts
        )

    def __hash__(self) -> int:
        return hash((self.levels, self.rows))

    def to_bytes(self) -> bytes:
        """Give it as bytes."""
        texts = [level.encode("utf-8", "surrogatepass") for level in self.levels]
        lengths = np.array([len(text) for text in texts], dtype="<u4")
        head = _HEAD.pack(_CATEGORY, len(texts), self.nulls, 0, self.wrong, 0.0, 1.0)
        return _packed(head + _planes(lengths) + _planes(self.counts.astype("<i8")) + b"".join(texts))

    @classmethod
    def from_bytes(cls, content: bytes) -> "CategorySketch":
        """Read what `to_bytes` gave.

        Raises:
            ContractError: the bytes are no sketch of texts.
        """
        return _expect(cls, from_bytes(content))


Sketch = NumericSketch | CategorySketch
_S = TypeVar("_S", NumericSketch, CategorySketch)


def from_bytes(content: bytes) -> Sketch:
    """Read a sketch of either kind.

    Raises:
        ContractError: the bytes are none.
    """
    if not content or content[0] != _FORMAT:
        found = f"format {content[0]}" if content else "no bytes"
        raise ContractError(f"a column's sketch should begin with format {_FORMAT}; found {found}")
    try:
        reader = zlib.decompressobj()
        body = reader.decompress(content[1:], _MAX_BYTES)
        sketch = _unpacked(body)
    except (ValueError, struct.error, zlib.error, OverflowError) as err:
        raise ContractError(f"the {len(content)} bytes of a column's sketch are damaged: {err}") from err
    if not reader.eof or reader.unused_data:
        raise ContractError(f"the {len(content)} bytes of a column's sketch are cut short, or followed by others")
    return sketch


def merge(sketches: Iterable[Sketch]) -> Sketch:
    """Add up sketches of one column: the sketch of all their rows together.

    Raises:
        ContractError: there are none, or they are not of one column.
    """
    some = list(sketches)
    if not some:
        raise ContractError("there is no sketch to merge; one at least is needed")
    numeric = [each for each in some if isinstance(each, NumericSketch)]
    category = [each for each in some if isinstance(each, CategorySketch)]
    if numeric and category:
        raise ContractError("sketches of numbers and of texts cannot be merged: the column changed its type")
    return _merge_numeric(numeric) if numeric else _merge_category(category)


def decile_edges(sketch: NumericSketch) -> Codes:
    """Give the codes whose share of numbers at or below lies nearest each decile, ascending, each once.

    Below the smallest number is a candidate too, so that a constant column has an edge on either side.
    """
    if not sketch.numbers:
        return np.zeros(0, np.uint16)
    codes = np.concatenate((sketch.codes[:1] - np.uint16(1), sketch.codes))
    shares = _cdf(sketch, codes)
    targets = np.arange(1, 10) / 10
    above = np.clip(np.searchsorted(shares, targets), 1, len(codes) - 1)
    nearest = np.where(targets - shares[above - 1] < shares[above] - targets, above - 1, above)
    return np.asarray(codes[np.unique(nearest)])


def middles(codes: Codes) -> Floats:
    """Give the middle of each code's bucket as a z."""
    wide = codes.astype(np.uint32)
    bits = np.where(wide >= 0x8000, wide - 0x8000, 0xFFFF - wide) << 16
    infinite = (codes == _LOWEST) | (codes == _HIGHEST)
    return np.where(infinite, bits, bits | 0x8000).astype(np.uint32).view(np.float32).astype(np.float64)


def _few(values: Floats, scale: Scale) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    z = ((values - scale.mean) * (1 / scale.sd)).astype(np.float32) + np.float32(0)  # -0.0 is no other number than 0.0
    raw = z.view(np.uint16)[_TOP::2].astype(np.int64)
    codes = np.sort(np.where(raw >= 0x8000, 0xFFFF - raw, raw + 0x8000))
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    return codes[starts], np.diff(starts, append=len(codes))


def _many(values: Floats, scale: Scale) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    raw = np.empty(min(len(values), _TABLE_CHUNK), np.intp)
    wide = np.empty(_CHUNK)
    narrow = np.empty(_CHUNK, np.float32)
    top = narrow.view(np.uint16)[_TOP::2]
    table = np.zeros(_BUCKETS, np.int64)
    for start in range(0, len(values), _TABLE_CHUNK):
        part = values[start : start + _TABLE_CHUNK]
        for low in range(0, len(part), _CHUNK):
            some = part[low : low + _CHUNK]
            size = len(some)
            np.subtract(some, scale.mean, out=wide[:size])
            np.multiply(wide[:size], 1 / scale.sd, out=narrow[:size], casting="unsafe")
            np.add(narrow[:size], np.float32(0), out=narrow[:size])  # -0.0 is no other number than 0.0
            raw[low : low + size] = top[:size]
        table += np.bincount(raw[: len(part)], minlength=_BUCKETS)
    ordered = np.concatenate((table[:0x7FFF:-1], table[:0x8000]))
    codes = np.flatnonzero(ordered)
    return codes, ordered[codes]


def _unclipped(values: Floats, codes: Codes, counts: Counts) -> tuple[Codes, Counts]:
    """Move finite numbers too large for the narrow format from the infinities' buckets to the outermost finite ones."""
    for infinity, inner in ((_LOWEST, _LOWEST + 1), (_HIGHEST, _HIGHEST - 1)):
        at = np.flatnonzero(codes == infinity)
        if not len(at):
            continue
        real = int(np.count_nonzero(np.isneginf(values) if infinity == _LOWEST else np.isposinf(values)))
        moved = int(counts[at[0]]) - real
        if moved:
            all_codes = np.concatenate((codes, np.array([inner], np.uint16)))
            all_counts = np.concatenate((counts, np.array([moved], np.int64)))
            all_counts[at[0]] = real
            codes, counts = _added(all_codes, all_counts)
    return codes, counts


def _added(codes: Codes, counts: Counts) -> tuple[Codes, Counts]:
    """Add up the counts of equal codes, ascending, without those that come to 0."""
    if len(codes) > _FEW:
        table = np.bincount(codes, weights=counts, minlength=_BUCKETS)
        if counts.sum() < 1 << 53:
            found = np.flatnonzero(table)
            return found.astype(np.uint16), table[found].astype(np.int64)
    order = np.argsort(codes, kind="stable")
    codes, counts = codes[order], counts[order]
    starts = np.flatnonzero(np.diff(codes.astype(np.int64), prepend=-1))
    sums = np.add.reduceat(counts, starts) if len(starts) else counts
    return codes[starts][sums > 0], sums[sums > 0]


def _merge_numeric(some: Sequence[NumericSketch]) -> NumericSketch:
    scales = {each.scale for each in some}
    if len(scales) > 1:
        raise ContractError(f"sketches on {len(scales)} scales cannot be merged; they come from different encodings")
    codes, counts = _added(
        np.concatenate([each.codes for each in some]), np.concatenate([each.counts for each in some])
    )
    return NumericSketch(
        scales.pop(),
        codes,
        counts,
        sum(each.nulls for each in some),
        sum(each.nans for each in some),
        sum(each.wrong for each in some),
    )


def _merge_category(some: Sequence[CategorySketch]) -> CategorySketch:
    counts: Counter[str] = Counter()
    for each in some:
        for level, count in zip(each.levels, each.counts.tolist(), strict=True):
            counts[level] += count
    return CategorySketch.of_counts(
        counts, nulls=sum(each.nulls for each in some), wrong=sum(each.wrong for each in some)
    )


def _common(a: NumericSketch, b: NumericSketch) -> Codes:
    if a.scale != b.scale:
        raise ContractError(f"sketches on the scales {a.scale} and {b.scale} cannot be compared")
    return np.union1d(a.codes, b.codes)


def _cdf(sketch: NumericSketch, codes: Codes) -> Floats:
    return sketch.at_most(codes) / max(sketch.numbers, 1)


def _finite(sketch: NumericSketch) -> NumericSketch:
    inner = slice(*np.searchsorted(sketch.codes, (_LOWEST + 1, _HIGHEST)))
    return NumericSketch(sketch.scale, sketch.codes[inner], sketch.counts[inner])


def _planes(values: NDArray[np.generic]) -> bytes:
    return values.view(np.uint8).reshape(len(values), values.itemsize).T.tobytes()


def _from_planes(content: bytes, kind: str, size: int) -> NDArray[np.int64]:
    dtype = np.dtype(kind)
    planes = np.frombuffer(content, np.uint8).reshape(dtype.itemsize, size)
    return np.ascontiguousarray(planes.T).reshape(-1).view(dtype).astype(np.int64)


def _packed(body: bytes) -> bytes:
    return bytes([_FORMAT]) + zlib.compress(body, 6)


def _unpacked(body: bytes) -> Sketch:
    kind, size, nulls, nans, wrong, mean, sd = _HEAD.unpack_from(body)
    if min(size, nulls, nans, wrong) < 0:
        raise ValueError("a negative count")
    rest = memoryview(body)[_HEAD.size :]
    if kind == _NUMERIC:
        codes = np.cumsum(_from_planes(bytes(rest[: 2 * size]), "<u2", size))
        counts = _from_planes(bytes(rest[2 * size :]), "<i8", size)
        inside = not size or (codes[0] >= _LOWEST and codes[-1] <= _HIGHEST)
        if not inside or (np.diff(codes) <= 0).any() or (counts <= 0).any():
            raise ValueError("codes that do not ascend, or counts that are not above 0")
        return NumericSketch(Scale(mean, sd), codes.astype(np.uint16), counts, nulls, nans, wrong)
    if kind != _CATEGORY:
        raise ValueError(f"kind {kind!r}")
    lengths = _from_planes(bytes(rest[: 4 * size]), "<u4", size)
    counts = _from_planes(bytes(rest[4 * size : 12 * size]), "<i8", size)
    texts = bytes(rest[12 * size :])
    ends = np.cumsum(lengths)
    levels = tuple(
        texts[end - length : end].decode("utf-8", "surrogatepass")
        for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)
    )
    if len(texts) != int(lengths.sum()) or list(levels) != sorted(set(levels)) or (counts <= 0).any():
        raise ValueError("levels that do not ascend, or counts that are not above 0")
    return CategorySketch(levels, counts, nulls, wrong)


def _expect(kind: type[_S], sketch: Sketch) -> _S:
    if not isinstance(sketch, kind):
        raise ContractError(f"a {type(sketch).__name__} where a {kind.__name__} is needed")
    return sketch
