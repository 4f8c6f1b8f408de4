"""Finds a lasting change in counted columns, with a stated time between false alarms however often one looks. Pure.

A column is watched through *indicators*, facts that hold for a share of its rows: "at most the reference's first
decile", "is level x", "is null". Each window gives an e-value for an indicator, a direction and a size of
change. The mean of an e-value is at most 1 as long as the indicator's true share lies within `eps` of the reference's.
From them follows

    M <- (1 + M) e,        M = mean over columns of the mean within a column,

the Shiryaev-Roberts e-detector of Shin, Ramdas and Rinaldo, "E-detectors" (arXiv:2203.03532, definitions 2.2 and 2.6).
While nothing changes, the mean number of windows until M reaches A is at least A. A mean of e-detectors is an
e-detector, so this holds whatever the dependence between columns.

Shapes: C columns; I indicators, those of the columns one after another; F forks of each indicator, a direction with a
size; W windows. What is kept per indicator and fork is flat, `(I F,)`, the forks of an indicator side by side.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import log
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from datasets_defs.core.errors import ContractError
from monitors.counts.sketch import Floats, Sketch
from monitors.evidence.indicators import Layout, layout_of, shares_of

DELTAS = (0.02, 0.05, 0.12)
"""Sizes of change beyond the tolerance that are looked for, as differences of shares."""
EPS_GRID = (0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.10, 0.15)
"""Tolerances that calibration chooses from."""
BAD_RUN_LENGTH = 87_600.0
"""Windows between false alarms, at least: ten years of hours."""
WARN_RUN_LENGTH = 876.0
LEAST_LOG10 = -12.0
"""Evidence below this, as of a column that was never seen, is shown as this."""
_SIGNS = np.repeat([1.0, -1.0], len(DELTAS))
"""Shape `(F,)`: of each fork its direction, up first."""
_SIZES = np.tile(DELTAS, 2)
"""Shape `(F,)`: of each fork its size of change."""
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a column is held against."""

    sketch: Sketch
    eps: float
    """Difference of a share from the reference's that is no change, 0..1."""
    icc: float
    """Intraclass correlation of the rows of one user, 0..1: how much they say the same."""

    def __post_init__(self) -> None:
        """Refuse shares that are none."""
        if not (0 < self.eps < 0.5 and 0 <= self.icc <= 1):
            raise ValueError(f"eps must lie in 0..0.5 and icc in 0..1, not {self.eps} and {self.icc}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What has gathered against "nothing has changed": log10 of windows in which chance would show as much once."""

    log10_m: float
    by_column: dict[str, float]
    """Each column by itself, strongest first."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tally:
    """How many rows of a window each indicator holds for."""

    hits: Floats
    """Shape `(I,)`."""
    rows: Floats
    """Rows for which it could hold, `(I,)`."""
    seen: Bools
    """Whether the window has the column, `(C,)`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detector:
    """The e-detector of one reference; its state, log M of shape `(I F,)`, is the caller's to keep."""

    columns: tuple[str, ...]
    """The C columns by name."""
    layouts: tuple[Layout, ...]
    """Of each column its indicators."""
    eps: Floats
    """Shape `(C,)`."""
    icc: Floats
    """Shape `(C,)`."""
    share: Floats
    """In the reference, `(I,)`."""
    widths: NDArray[np.int64]
    """How many indicators each column has, `(C,)`; their sum is I."""
    forks: ClassVar[int] = len(_SIGNS)
    """F, the pairs of direction and size per indicator."""
    counted: Bools
    """Whether the fork can be tested and counts in the mean, `(I F,)`."""
    log_hit: Floats
    """The log e of one row that the indicator holds for, `(I F,)`; 0 where the fork cannot be tested."""
    log_miss: Floats
    """The log e of one row that it does not hold for, `(I F,)`."""

    @classmethod
    def of(cls, columns: Mapping[str, Reference]) -> "Detector":
        """Make the detector of a reference.

        Raises:
            ContractError: it has no columns.
        """
        if not columns:
            raise ContractError("a reference without columns cannot be watched")
        names = tuple(sorted(columns))
        layouts = tuple(layout_of(columns[name].sketch) for name in names)
        share = np.concatenate(
            [shares_of(layout, columns[name].sketch) for name, layout in zip(names, layouts, strict=True)]
        )
        eps = np.array([columns[name].eps for name in names])
        widths = np.array([len(layout) for layout in layouts])
        log_hit, log_miss, live = _ratios(share, share, eps.repeat(widths))
        icc = np.array([columns[name].icc for name in names])
        return cls(columns=names, layouts=layouts, eps=eps, icc=icc, share=share, widths=widths,
                   counted=live, log_hit=log_hit, log_miss=log_miss)  # fmt: skip

    def with_rates(self, columns: Mapping[str, Sketch]) -> "Detector":
        """Give the same indicators with their shares in other sketches, as of one hour of the day.

        States of both are interchangeable. A column that is not given, or has no rows, keeps its shares.
        """
        parts = np.split(self.share, self._starts[1:])
        for at, (name, layout) in enumerate(zip(self.columns, self.layouts, strict=True)):
            if name in columns and columns[name].present:
                parts[at] = shares_of(layout, columns[name])
        share = np.concatenate(parts)
        return self._with(share, share, self.eps, self.counted)

    def between(self, low: Floats, high: Floats) -> "Detector":
        """Give the same indicators with, for each, the least and the most that its share usually is, both `(I,)`.

        A share between them is no change, nor is one within the tolerance of either.
        """
        return self._with(low, high, self.eps, self.counted)

    def log_e_of(self, hits: Floats, misses: Floats, low: Floats, high: Floats) -> Floats:
        """Give the log e-values of many windows, `(W, I F)`, each with its own shares as in `between`.

        All four are `(W, I)`; hits and misses are divided by their design effects already.
        """
        log_hit, log_miss, _ = _ratios(low, high, self.eps.repeat(self.widths))
        return np.asarray(hits.repeat(self.forks, axis=1) * log_hit + misses.repeat(self.forks, axis=1) * log_miss)

    def with_eps(self, eps: Mapping[str, float]) -> "Detector":
        """Give the same indicators with other tolerances, for the columns given."""
        changed = np.array([eps.get(name, old) for name, old in zip(self.columns, self.eps.tolist(), strict=True)])
        return self._with(self.share, self.share, changed, None)

    @property
    def size(self) -> int:
        """Length of the state: I F."""
        return len(self.log_hit)

    def start(self) -> Floats:
        """Give the state in which nothing is known: every M is 0."""
        return np.full(self.size, -np.inf)

    def count(self, window: Mapping[str, Sketch]) -> Tally:
        """Count what the indicators look at; columns that the reference lacks are left aside.

        Raises:
            ContractError: a column is of another kind, or on another scale, than in the reference.
        """
        hits, rows = np.zeros(len(self.share)), np.zeros(len(self.share))
        seen = np.zeros(len(self.columns), dtype=bool)
        start = 0
        for at, (name, layout) in enumerate(zip(self.columns, self.layouts, strict=True)):
            end = start + len(layout)
            if name in window:
                seen[at] = True
                try:
                    hits[start:end], rows[start:end] = layout.count(window[name])
                except ContractError as err:
                    raise ContractError(f"column {name!r}: {err}") from err
            start = end
        return Tally(hits=hits, rows=rows, seen=seen)

    def step(self, log_m: Floats, window: Mapping[str, Sketch], *, rows_per_user: float) -> Floats:
        """Give the state after one more window; a column that the window lacks keeps its own.

        Raises:
            ContractError: the state is of another detector, or a column of another kind.
        """
        return self.advance(log_m, self.count(window), rows_per_user=rows_per_user)

    def advance(self, log_m: Floats, tally: Tally, *, rows_per_user: float) -> Floats:
        """Give the state after one more window, counted already.

        Rows and hits are divided by the design effect 1 + (rows per user - 1) icc (Kish, "Survey Sampling", 1965,
        section 5.4; Kish 1987), as if so many fewer rows had come from a user each.

        A column's M is held at the level where that column alone makes the whole twice `BAD_RUN_LENGTH`, so that a
        change that ended is soon forgotten. Holding it can only lower M, so the stated run length stays true.
        """
        if len(log_m) != self.size:
            raise ContractError(f"a detector's state has {len(log_m)} numbers; this reference needs {self.size}")
        state_widths = self.widths * self.forks  # (C,)
        grown = np.logaddexp(0, log_m) + self.log_e(tally, rows_per_user=rows_per_user)
        moved = np.where(tally.seen.repeat(state_widths) & (self.log_hit != 0), grown, log_m)
        ceiling = log(2 * BAD_RUN_LENGTH * len(self.columns))
        excess = np.maximum(self.log_m_of_columns(moved) - ceiling, 0)  # (C,)
        return np.asarray(moved - excess.repeat(state_widths))

    def log_e(self, tally: Tally, *, rows_per_user: float) -> Floats:
        """Give the log e-values of a window, `(I F,)`.

        Each is the likelihood ratio of a Bernoulli share p +- (eps + delta) against p +- eps. Its mean grows with the
        distance of the true share from p in its direction, and is 1 at p +- eps. So it is at most 1 for every share
        within eps. Dividing rows by the design effect takes a power of at most 1 of it, which keeps it so (Jensen).
        """
        effects = self.effects(rows_per_user)
        hits, rows = (tally.hits / effects).repeat(self.forks), (tally.rows / effects).repeat(self.forks)
        return np.asarray(hits * self.log_hit + (rows - hits) * self.log_miss)

    def effects(self, rows_per_user: float) -> Floats:
        """Give each indicator's design effect, `(I,)`."""
        return (1 + max(rows_per_user - 1, 0) * self.icc).repeat(self.widths)

    def largest(self, by_indicator: Floats) -> Floats:
        """Give each column's largest figure, `(C,)`, of its indicators', `(I,)`."""
        return np.asarray(np.maximum.reduceat(by_indicator, self._starts))

    def log_m_of_columns(self, log_m: Floats) -> Floats:
        """Give the log of each column's M, `(C,)`: the mean of what counts in it."""
        counted = np.where(self.counted, log_m, -np.inf)
        starts = self._starts * self.forks
        sums = np.logaddexp.reduceat(counted, starts)
        return np.asarray(sums - np.log(np.maximum(np.add.reduceat(self.counted, starts, dtype=np.int64), 1)))

    def evidence(self, log_m: Floats) -> Evidence:
        """Say what a state means, for all columns and for each."""
        by_column = self.log_m_of_columns(log_m)
        whole = float(np.logaddexp.reduce(by_column)) - log(len(self.columns))
        strongest = np.argsort(-by_column, kind="stable")
        return Evidence(
            log10_m=_log10(whole), by_column={self.columns[at]: _log10(float(by_column[at])) for at in strongest}
        )

    @property
    def _starts(self) -> NDArray[np.int64]:
        """Where each column's indicators begin, `(C,)`."""
        return np.asarray(np.cumsum(self.widths) - self.widths)

    def _with(self, low: Floats, high: Floats, eps: Floats, counted: Bools | None) -> "Detector":
        log_hit, log_miss, live = _ratios(low, high, eps.repeat(self.widths))
        return replace(
            self,
            share=(low + high) / 2,
            eps=eps,
            counted=live if counted is None else counted,
            log_hit=log_hit,
            log_miss=log_miss,
        )


def _ratios(low: Floats, high: Floats, eps: Floats) -> tuple[Floats, Floats, Bools]:
    """Give the log likelihood ratio of a hit and of a miss, and whether both shares lie inside 0..1, all `(..., I F)`.

    `low` and `high` are `(..., I)`, `eps` is `(I,)`. A fork up is measured from `high`, one down from `low`.
    """
    usual = np.where(_SIGNS > 0, high[..., None], low[..., None]) + _SIGNS * eps[:, None]  # (..., I, F)
    changed = usual + _SIGNS * _SIZES
    can_be = (changed > 0) & (changed < 1)
    usual, changed = np.where(can_be, usual, 0.5), np.where(can_be, changed, 0.5)
    log_hit, log_miss = np.log(changed / usual), np.log((1 - changed) / (1 - usual))
    flat = (*low.shape[:-1], -1)
    return log_hit.reshape(flat), log_miss.reshape(flat), can_be.reshape(flat)


def _log10(natural: float) -> float:
    return max(natural / log(10), LEAST_LOG10)
