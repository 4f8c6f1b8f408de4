"""Counts of a column of texts with few different values, by level. Pure."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from datasets_defs.core.errors import ContractError
from monitors.counts.buckets import Counts
from monitors.counts.sketch_bytes import Form, packed, unpacked

HASHED_LEVELS = 256
"""Levels that an encoding does not know share this many names, so that a sketch stays small and still merges."""
_HASHED = re.compile(r"\?\d{3}")


def hashed_level(level: str) -> str:
    """Give the shared name, `?000` to `?255`, of a level that the encoding does not know."""
    digest = blake2b(level.encode("utf-8", "surrogatepass"), digest_size=1).digest()
    return f"?{digest[0]:03}"


def is_hashed(level: str) -> bool:
    """Say whether a level is such a shared name."""
    return _HASHED.fullmatch(level) is not None


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
        counts: Counter[str | None] = Counter(values)
        nulls += counts.pop(None, 0)
        return cls.of_counts({level: count for level, count in counts.items() if level is not None},
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
        return merge_category([self, other])

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
        return packed(Form(levels=self.levels, counts=self.counts, nulls=self.nulls, wrong=self.wrong))

    @classmethod
    def of_form(cls, form: Form) -> "CategorySketch":
        """Take a sketch over from its parts.

        Raises:
            ContractError: they are a sketch of numbers.
        """
        if form.scale is not None:
            raise ContractError("a NumericSketch where a CategorySketch is needed")
        return cls(form.levels, form.counts, form.nulls, form.wrong)

    @classmethod
    def from_bytes(cls, content: bytes) -> "CategorySketch":
        """Read what `to_bytes` gave.

        Raises:
            ContractError: the bytes are no sketch of texts.
        """
        return cls.of_form(unpacked(content))


def merge_category(some: Sequence[CategorySketch]) -> CategorySketch:
    """Add up sketches of texts."""
    counts: Counter[str] = Counter()
    for sketch in some:
        for level, count in zip(sketch.levels, sketch.counts.tolist(), strict=True):
            counts[level] += count
    return CategorySketch.of_counts(
        counts, nulls=sum(sketch.nulls for sketch in some), wrong=sum(sketch.wrong for sketch in some)
    )
