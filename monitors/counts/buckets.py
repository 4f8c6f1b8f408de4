"""Which bucket a number is counted in. Pure.

A number x has z = (x - mean) / sd as a 32-bit float; its first 16 bits, `raw`, name the bucket. Codes are these bits in
the order of z, so that codes ascend as numbers do:

    z     s eeeeeeee mmmmmmm|mmmmmmmmmmmmmmmm     raw: sign, exponent, and the first 7 of 23 bits of the mantissa
          `------ raw -----'

    raw   0x0000 ... 0x7F7F   0x7F80   0x7F81 ... 0x7FFF | 0x8000 ... 0xFF7F   0xFF80   0xFF81 ... 0xFFFF
    z        0   to  large     +inf          NaN         |   -0   to  -large    -inf          NaN

    code  0x0000 ... 0x007E   0x007F   0x0080 ... 0x7FFF | 0x8000 ... 0xFF7F   0xFF80   0xFF81 ... 0xFFFF
    z           NaN            -inf     -large to  -0    |    0   to   large    +inf          NaN

    code = raw + 0x8000 of a raw below 0x8000, else 0xFFFF - raw
"""

import sys
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

Codes = NDArray[np.uint16]
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

LOWEST, HIGHEST = 0x007F, 0xFF80
"""Codes of minus and plus infinity; NaNs lie outside."""
_NEGATIVE = 0x8000
"""From here on a raw is of a negative number, and a code of one that is not."""
_BUCKETS = 1 << 16
_FEW = 16_384
"""Up to so many rows sorting their codes is cheaper than a table of all buckets."""
_CHUNK = 16_384
"""Numbers that are turned into raws at once: they stay in the processor's cache."""
_TABLE_CHUNK = 1 << 18
"""Raws that are counted at once."""
_TOP = 1 if sys.byteorder == "little" else 0
"""Which half of a 32-bit float holds its first 16 bits."""
_NO_SIGN = np.float32(0)
"""Added to z: -0.0 is no other number than 0.0, and would have a bucket of its own."""


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


def counted(values: Floats, scale: Scale) -> tuple[Codes, Counts]:
    """Count numbers by bucket: the codes that occur, ascending, and how many numbers each has; NaNs are left out."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        count = _count_few if len(values) <= _FEW else _count_many
        codes, counts = count(values, scale)
    inner = slice(*np.searchsorted(codes, (LOWEST, HIGHEST + 1)))
    return _unclipped(values, codes[inner].astype(np.uint16), counts[inner].astype(np.int64))


def middles(codes: Codes) -> Floats:
    """Give the middle of each code's bucket as a z."""
    wide = codes.astype(np.uint32)
    bits = np.where(wide >= _NEGATIVE, wide - _NEGATIVE, 0xFFFF - wide) << 16
    infinite = (codes == LOWEST) | (codes == HIGHEST)
    return np.where(infinite, bits, bits | 0x8000).astype(np.uint32).view(np.float32).astype(np.float64)


def added(codes: Codes, counts: Counts) -> tuple[Codes, Counts]:
    """Add up the counts of equal codes, ascending, without those that come to 0."""
    if len(codes) > _FEW:
        table = np.bincount(codes, weights=counts, minlength=_BUCKETS)
        if counts.sum() < 1 << 53:
            present = np.flatnonzero(table)
            return present.astype(np.uint16), table[present].astype(np.int64)
    order = np.argsort(codes, kind="stable")
    codes, counts = codes[order], counts[order]
    starts = np.flatnonzero(np.diff(codes.astype(np.int64), prepend=-1))
    sums = np.add.reduceat(counts, starts) if len(starts) else counts
    return codes[starts][sums > 0], sums[sums > 0]


def _count_few(values: Floats, scale: Scale) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count by sorting the codes."""
    z = ((values - scale.mean) * (1 / scale.sd)).astype(np.float32) + _NO_SIGN
    raw = z.view(np.uint16)[_TOP::2].astype(np.int64)
    codes = np.sort(np.where(raw >= _NEGATIVE, 0xFFFF - raw, raw + _NEGATIVE))
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    return codes[starts], np.diff(starts, append=len(codes))


def _count_many(values: Floats, scale: Scale) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count in a table of all raws, which is put into the order of the codes at the end."""
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
            np.add(narrow[:size], _NO_SIGN, out=narrow[:size])
            raw[low : low + size] = top[:size]
        table += np.bincount(raw[: len(part)], minlength=_BUCKETS)
    negative, positive = table[_NEGATIVE:], table[:_NEGATIVE]
    by_code = np.concatenate((negative[::-1], positive))
    codes = np.flatnonzero(by_code)
    return codes, by_code[codes]


def _unclipped(values: Floats, codes: Codes, counts: Counts) -> tuple[Codes, Counts]:
    """Move finite numbers too large for the narrow format from the infinities' buckets to the outermost finite ones."""
    for infinity, inner in ((LOWEST, LOWEST + 1), (HIGHEST, HIGHEST - 1)):
        at = np.flatnonzero(codes == infinity)
        if not len(at):
            continue
        real = int(np.count_nonzero(np.isneginf(values) if infinity == LOWEST else np.isposinf(values)))
        moved = int(counts[at[0]]) - real
        if moved:
            all_codes = np.concatenate((codes, np.array([inner], np.uint16)))
            all_counts = np.concatenate((counts, np.array([moved], np.int64)))
            all_counts[at[0]] = real
            codes, counts = added(all_codes, all_counts)
    return codes, counts
