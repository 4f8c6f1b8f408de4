"""The facts a column is watched through: its reference's deciles or levels, and how many rows each holds for. Pure.

Shapes: a column has n indicators, and every array of this file is `(n,)`, in the order of the layout.
"""

from dataclasses import dataclass

import numpy as np

from datasets_defs.core.errors import ContractError
from monitors.counts.sketch import CategorySketch, Codes, Floats, NumericSketch, Scale, Sketch, decile_edges, is_hashed

KEPT_LEVEL_SHARE = 0.01
"""Levels of at least this share of the reference are watched one by one, the others together."""


@dataclass(frozen=True, slots=True, eq=False)
class Deciles:
    """The indicators of a column of numbers: "at most this decile of the reference", for each, and "has no number"."""

    scale: Scale
    edges: Codes
    """Shape `(n - 1,)`, ascending: the buckets of the deciles that differ."""

    @classmethod
    def of(cls, sketch: NumericSketch) -> "Deciles":
        """Take the deciles of a reference."""
        return cls(sketch.scale, decile_edges(sketch))

    def __len__(self) -> int:
        """Give n, the number of indicators."""
        return len(self.edges) + 1

    def count(self, sketch: Sketch) -> tuple[Floats, Floats]:
        """Give the rows that each indicator holds for, and those that it could hold for.

        Raises:
            ContractError: the sketch holds texts, or numbers on another scale.
        """
        if not isinstance(sketch, NumericSketch) or sketch.scale != self.scale:
            raise ContractError("the reference's column holds numbers on another scale, or the window's holds texts")
        hits = np.append(sketch.at_most(self.edges), sketch.absent).astype(np.float64)
        rows = np.full(len(self), float(sketch.present))
        rows[-1] = sketch.rows
        return hits, rows


@dataclass(frozen=True, slots=True)
class Levels:
    """The indicators of a column of texts: "is this level", of each kept one, "is rare", "is unseen", "is absent"."""

    kept: tuple[str, ...]
    """Levels that are watched one by one."""
    rare: tuple[str, ...]
    """The reference's other levels; hashed ones cannot be told from unseen ones."""

    @classmethod
    def of(cls, sketch: CategorySketch) -> "Levels":
        """Part the levels of a reference by `KEPT_LEVEL_SHARE`."""
        least = KEPT_LEVEL_SHARE * sketch.present
        known = [(level, n) for level, n in zip(sketch.levels, sketch.counts, strict=True) if not is_hashed(level)]
        return cls(tuple(level for level, n in known if n >= least), tuple(level for level, n in known if n < least))

    def __len__(self) -> int:
        """Give n, the number of indicators."""
        return len(self.kept) + 3

    def count(self, sketch: Sketch) -> tuple[Floats, Floats]:
        """Give the rows that each indicator holds for, and those that it could hold for.

        Raises:
            ContractError: the sketch holds numbers.
        """
        if not isinstance(sketch, CategorySketch):
            raise ContractError("the reference's column holds texts, the window's holds numbers")
        counts = sketch.count_of(self.kept + self.rare)
        kept, rare = counts[: len(self.kept)], int(counts[len(self.kept) :].sum())
        unseen = sketch.present - int(kept.sum()) - rare
        rows = np.full(len(self), float(sketch.present))
        rows[-1] = sketch.rows
        return np.concatenate((kept, (rare, unseen, sketch.absent))).astype(np.float64), rows


Layout = Deciles | Levels


def layout_of(sketch: Sketch) -> Layout:
    """Choose a reference column's indicators by what it holds."""
    return Deciles.of(sketch) if isinstance(sketch, NumericSketch) else Levels.of(sketch)


def shares_of(layout: Layout, sketch: Sketch) -> Floats:
    """Give the share of each indicator; one that always or never held gets half a row of the other."""
    hits, rows = layout.count(sketch)
    certain = (hits == 0) | (hits == rows)
    return np.where(certain, (hits + 0.5) / (rows + 1), hits / np.maximum(rows, 1))
