"""What an hour of the week usually shows, learned from accepted windows by partial pooling. Pure.

A figure of a slot (an hour of a kind of day) is drawn from little when the season is young, so it is moved towards what
is alike. An hour of one weekday is moved towards that hour of its class of days (working days, weekend, holidays), and
that towards the mean of all. The share of noise in what the figures differ by says how far (the empirical Bayes
estimate of Efron and Morris, "Data analysis using Stein's estimator", JASA 70, 1975). The noise is that of the rows and
that of days, which differ from each other for reasons of their own.

Traffic is not punctual: a window is held against its hour and half the way to the two beside it, between the least and
the most that these show.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitors.counts.sketch import Floats
from monitors.season.calendar import CLASSES, DAYS, HOURS, SLOTS

SEEN_DAYS = 2
"""An hour of a class of days is known once it was seen on so many days."""
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Windows:
    """Figures of accepted windows, in the order of time."""

    values: Floats
    """windows x figures."""
    weights: Floats
    """windows x figures: rows behind each; 0 where there is none."""
    noise: Floats
    """windows x figures: variance that the rows alone give each figure."""
    slots: Ints
    days: Ints

    def only(self, kept: NDArray[np.bool_]) -> "Windows":
        """Keep some windows."""
        return Windows(
            values=self.values[kept], weights=self.weights[kept], noise=self.noise[kept],
            slots=self.slots[kept], days=self.days[kept],
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Season:
    """What each slot usually shows."""

    expected: Floats
    """slots x figures."""
    seen: Ints
    """slots: on how many days that hour of that class of days was seen."""
    error: Floats
    """slots x figures: standard error of what is expected."""

    def to_bytes(self) -> bytes:
        """Give it as bytes."""
        shape = np.array(self.expected.shape, dtype="<i4")
        parts = (shape, self.seen.astype("<i4"), self.expected.astype("<f4"), self.error.astype("<f2"))
        return b"".join(part.tobytes() for part in parts)

    @classmethod
    def from_bytes(cls, content: bytes) -> "Season":
        """Read what `to_bytes` gave.

        Raises:
            ValueError: it is damaged.
        """
        slots, figures = np.frombuffer(content, dtype="<i4", count=2).tolist()
        seen = np.frombuffer(content, dtype="<i4", count=slots, offset=8).astype(np.int64)
        start, size = 8 + 4 * slots, slots * figures
        expected = np.frombuffer(content, dtype="<f4", count=size, offset=start)
        error = np.frombuffer(content, dtype="<f2", count=size, offset=start + 4 * size)
        shape = (slots, figures)
        return cls(
            expected=expected.reshape(shape).astype(np.float64), seen=seen,
            error=error.reshape(shape).astype(np.float64),
        )  # fmt: skip

    def is_known(self, slot: int) -> bool:
        """Say whether the hour was seen on enough days of its class."""
        return bool(self.seen[slot] >= SEEN_DAYS)

    def between(self, slots: Ints) -> tuple[Floats, Floats]:
        """Give the least and the most of some slots, half an hour before and after; unseen hours do not count."""
        day, hour = np.divmod(slots, HOURS)
        beside = np.stack([day * HOURS + (hour + step) % HOURS for step in (-1, 0, 1)])
        known = (self.seen[beside] > 0) | (beside == slots)
        halfway = (self.expected[beside] + self.expected[slots]) / 2
        low = np.where(known[..., None], halfway, np.inf).min(axis=0)
        high = np.where(known[..., None], halfway, -np.inf).max(axis=0)
        return low, high


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sums:
    """What a season is learned from: sums over windows by slot, from which a day's can be taken away again."""

    weights: Floats
    """slots x figures, as all but the last."""
    weighted: Floats
    noise: Floats
    days: Ints
    """slots: days on which it was seen."""

    @classmethod
    def of(cls, windows: Windows) -> "Sums":
        """Add windows up."""
        shape = (SLOTS, windows.values.shape[1])
        sums = [np.zeros(shape) for _ in range(3)]
        parts = (windows.weights, windows.weights * windows.values, windows.weights**2 * windows.noise)
        order = np.argsort(windows.slots, kind="stable")
        slots, starts = np.unique(windows.slots[order], return_index=True)
        for total, part in zip(sums, parts, strict=True):
            total[slots] = np.add.reduceat(part[order], starts, axis=0)
        pairs = np.unique(np.stack([windows.slots, windows.days]), axis=1)
        days = np.bincount(pairs[0], minlength=SLOTS)
        return cls(weights=sums[0], weighted=sums[1], noise=sums[2], days=days)

    def __sub__(self, other: "Sums") -> "Sums":
        return Sums(
            weights=np.maximum(self.weights - other.weights, 0.0),
            weighted=self.weighted - other.weighted,
            noise=np.maximum(self.noise - other.noise, 0.0),
            days=self.days - other.days,
        )

    def season(self, classes: Sequence[int], daily: Floats, columns: Ints) -> Season:
        """Pool: slots towards their hour of a class of days, those towards the mean of all.

        `classes` gives each kind of day its class, `daily` each figure its variance between days, `columns` each figure
        its column; figures of one column are pooled as strongly as each other.
        """
        days = max(int(self.days.reshape(DAYS, HOURS).max(axis=1).sum()), 1)
        whole = self._alike(np.ones((1, DAYS)), by_hour=False)
        by_class = self.of_classes(classes)
        mean, error = by_class.pooled(whole.mean, np.sqrt(whole.noise + daily / days), daily, columns)
        of_class = class_slots(classes)
        by_slot = self._alike(np.eye(DAYS))
        mean, error = by_slot.pooled(mean[of_class], error[of_class], daily, columns)
        return Season(expected=mean, seen=by_class.days[of_class], error=error)

    def of_classes(self, classes: Sequence[int]) -> "Means":
        """Give the mean of each hour of each class of days."""
        return self._alike((np.array(classes) == np.arange(CLASSES)[:, None]).astype(np.float64))

    def _alike(self, kinds: Floats, *, by_hour: bool = True) -> "Means":
        """Add up the slots of days that are alike (groups x kinds of day), hour by hour or all of them."""
        sums = [np.tensordot(kinds, part.reshape(DAYS, HOURS, -1), 1) for part in self._parts]
        days = (kinds @ self.days.reshape(DAYS, HOURS)).astype(np.int64)
        if not by_hour:
            sums, days = [part.sum(axis=1, keepdims=True) for part in sums], days.sum(axis=1, keepdims=True)
        weights, weighted, noise = (part.reshape(-1, part.shape[-1]) for part in sums)
        total = np.maximum(weights, 1e-9)
        return Means(weighted / total, noise / total**2, days.ravel(), weights > 0)

    @property
    def _parts(self) -> tuple[Floats, Floats, Floats]:
        return self.weights, self.weighted, self.noise


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """Means of hours of alike days."""

    mean: Floats
    noise: Floats
    """Variance of each mean that comes from rows."""
    days: Ints
    there: NDArray[np.bool_]

    def pooled(
        self, parent: Floats, parent_error: Floats | float, daily: Floats, columns: Ints
    ) -> tuple[Floats, Floats]:
        """Move each mean towards its parent by the share of noise in their difference; give them and their errors."""
        noise = self.noise + daily / np.maximum(self.days, 1)[:, None]
        apart = np.where(self.there, (self.mean - parent) ** 2 - noise, 0.0).sum(axis=0)
        signal = np.maximum(_by_column(apart / np.maximum(self.there.sum(axis=0), 1), columns), 0.0)
        kept = np.where(self.there, signal / np.maximum(signal + noise, 1e-30), 0.0)
        mean = parent + kept * (np.where(self.there, self.mean, parent) - parent)
        return mean, np.sqrt(kept * noise + ((1 - kept) * parent_error) ** 2)


def class_slots(classes: Sequence[int]) -> Ints:
    """Give, by slot, its hour among the hours of all classes."""
    return np.array(classes)[np.arange(SLOTS) // HOURS] * HOURS + np.arange(SLOTS) % HOURS


def daily_variance(windows: Windows, classes: Sequence[int], columns: Ints) -> Floats:
    """Give each figure the variance between days of what an hour shows, beyond that of the rows; alike in a column."""
    groups = class_slots(classes)[windows.slots]
    mean = Sums.of(windows).of_classes(classes).mean
    known = windows.weights > 0
    count = known.sum(axis=0)
    apart = np.where(known, (windows.values - mean[groups]) ** 2, 0.0).sum(axis=0)
    usual = np.where(known, windows.noise, 0.0).sum(axis=0) / np.maximum(count, 1)
    free = np.maximum(count - len(np.unique(groups)), 1)
    return _by_column(np.maximum(apart / free - usual, 0.0), columns)


def _by_column(figures: Floats, columns: Ints) -> Floats:
    """Give each figure the mean of its column's."""
    return np.asarray((np.bincount(columns, weights=figures) / np.maximum(np.bincount(columns), 1))[columns])
