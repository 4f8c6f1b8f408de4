"""Mergeable counts of a column: what is kept of a window's rows. Pure.

A number x is counted in the bucket of z = (x - mean) / sd. The bucket is the first 16 bits of z as a 32-bit float
(bfloat16, truncated). That makes 128 buckets per power of two, the finest around the reference's mean. The edges depend
on the scale alone, so sketches add up, and any split of the rows gives the same sketch. A text is counted by its level.

All that others need of sketches is had from here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from datasets_defs.core.errors import ContractError
from monitors.counts.buckets import HIGHEST, LOWEST, Codes, Counts, Floats, Scale, added, counted, middles
from monitors.counts.category_sketch import HASHED_LEVELS, CategorySketch, hashed_level, is_hashed, merge_category
from monitors.counts.sketch_bytes import Form, packed, unpacked

__all__ = [
    "HASHED_LEVELS", "CategorySketch", "Codes", "Counts", "Floats", "NumericSketch", "Scale", "Sketch", "decile_edges",
    "from_bytes", "hashed_level", "is_hashed", "merge", "middles",
]  # fmt: skip


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
        codes, counts = counted(flat, scale)
        return cls(scale, codes, counts, nulls, len(flat) - int(counts.sum()), wrong)

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
        return int(self.counts[(self.codes == LOWEST) | (self.codes == HIGHEST)].sum())

    @property
    def mean(self) -> float | None:
        """Mean of the finite numbers by the middles of their buckets; None without any."""
        finite = (self.codes > LOWEST) & (self.codes < HIGHEST)
        if not finite.any():
            return None
        z = float(np.average(middles(self.codes[finite]), weights=self.counts[finite]))
        return self.scale.mean + self.scale.sd * z

    def at_most(self, codes: Codes) -> Counts:
        """Count the numbers whose code is at most each of `codes`."""
        below = np.concatenate((np.zeros(1, np.int64), np.cumsum(self.counts)))
        return below[np.searchsorted(self.codes, codes, side="right")]

    def share_at_most(self, codes: Codes) -> Floats:
        """Give the share of the numbers whose code is at most each of `codes`."""
        return self.at_most(codes) / max(self.numbers, 1)

    def __add__(self, other: "NumericSketch") -> "NumericSketch":
        return merge_numeric([self, other])

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
        """Give it as bytes."""
        return packed(
            Form(
                scale=self.scale, codes=self.codes, counts=self.counts,
                nulls=self.nulls, nans=self.nans, wrong=self.wrong,
            )
        )  # fmt: skip

    @classmethod
    def of_form(cls, form: Form) -> "NumericSketch":
        """Take a sketch over from its parts.

        Raises:
            ContractError: they are a sketch of texts.
        """
        if form.scale is None:
            raise ContractError("a CategorySketch where a NumericSketch is needed")
        return cls(form.scale, form.codes, form.counts, form.nulls, form.nans, form.wrong)

    @classmethod
    def from_bytes(cls, content: bytes) -> "NumericSketch":
        """Read what `to_bytes` gave.

        Raises:
            ContractError: the bytes are no sketch of numbers.
        """
        return cls.of_form(unpacked(content))


Sketch = NumericSketch | CategorySketch


def from_bytes(content: bytes) -> Sketch:
    """Read a sketch of either kind.

    Raises:
        ContractError: the bytes are none.
    """
    form = unpacked(content)
    return CategorySketch.of_form(form) if form.scale is None else NumericSketch.of_form(form)


def merge(sketches: Iterable[Sketch]) -> Sketch:
    """Add up sketches of one column: the sketch of all their rows together.

    Raises:
        ContractError: there are none, or they are not of one column.
    """
    some = list(sketches)
    if not some:
        raise ContractError("there is no sketch to merge; one at least is needed")
    numeric = [sketch for sketch in some if isinstance(sketch, NumericSketch)]
    category = [sketch for sketch in some if isinstance(sketch, CategorySketch)]
    if numeric and category:
        raise ContractError("sketches of numbers and of texts cannot be merged: the column changed its type")
    return merge_numeric(numeric) if numeric else merge_category(category)


def decile_edges(sketch: NumericSketch) -> Codes:
    """Give the codes whose share of numbers at or below lies nearest each decile, ascending, each once.

    Below the smallest number is a candidate too, so that a constant column has an edge on either side.
    """
    if not sketch.numbers:
        return np.zeros(0, np.uint16)
    codes = np.concatenate((sketch.codes[:1] - np.uint16(1), sketch.codes))
    shares = sketch.share_at_most(codes)
    targets = np.arange(1, 10) / 10
    above = np.clip(np.searchsorted(shares, targets), 1, len(codes) - 1)
    nearest = np.where(targets - shares[above - 1] < shares[above] - targets, above - 1, above)
    return np.asarray(codes[np.unique(nearest)])


def merge_numeric(some: Sequence[NumericSketch]) -> NumericSketch:
    """Add up sketches of one scale."""
    scales = {sketch.scale for sketch in some}
    if len(scales) > 1:
        raise ContractError(f"sketches on {len(scales)} scales cannot be merged; they come from different encodings")
    codes, counts = added(
        np.concatenate([sketch.codes for sketch in some]), np.concatenate([sketch.counts for sketch in some])
    )
    return NumericSketch(
        scales.pop(),
        codes,
        counts,
        sum(sketch.nulls for sketch in some),
        sum(sketch.nans for sketch in some),
        sum(sketch.wrong for sketch in some),
    )
