"""What windows of a model version are compared with: how rows become columns, their reference counts, tolerances."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, astuple, dataclass, field
from datetime import datetime
from functools import cached_property

import numpy as np
from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.ledger.champions import Champion
from datasets_defs.store.sketch_log import StoredProfile, profile_at, profile_revision, save_profile
from monitors.breaks.baseline import Baseline
from monitors.counts.codec import packed, unpacked
from monitors.counts.columns import Encoding
from monitors.counts.moments import Moments
from monitors.counts.sketch import Sketch, from_bytes
from monitors.evidence.e_detector import BAD_RUN_LENGTH, Detector, Reference
from monitors.evidence.kind_costs import KindCosts
from monitors.season.calendar import Calendar
from monitors.season.season import SEEN_DAYS, Season
from monitors.season.tolerance import bounds, clipped
from monitors.season.usual import FIRST_NEW_SHARE, GROWTH_TOLERANCE, Usual, usual_at

Columns = Mapping[str, Sketch]
_FORMAT, _HOUR_FORMAT = b"P1", b"H1"
_HOUR = "hour "
_COLUMN = "column "
_SEASON = "season"


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A reference of one model version. It is never changed, only followed by its next revision."""

    model: str
    version: int
    revision: int
    """1, 2, 3 … per version."""
    effective_from: datetime | None
    """Windows that begin earlier are compared with the revision before; None: all windows."""
    source: str
    """What it was made from, in words."""
    rows: int
    encoding: Encoding
    reference: Columns
    by_hour: Mapping[int, Columns] = field(default_factory=dict)
    """Reference by hour of the day, of all columns; empty where all hours are alike enough."""
    eps: Mapping[str, float]
    """Tolerance per column: difference of a share that is no change."""
    icc: Mapping[str, float]
    """How much the rows of one user are alike, per column, 0..1."""
    loss: Moments
    """What the prompts of the version's first reference cost: no later one may ever get used to a higher loss."""
    loss_tolerance: float
    """How much above that the loss may lie, as a share."""
    windows: int = 0
    """Windows that it was calibrated on; 0 for a first one, made from rows."""
    begins: datetime | None = None
    """Windows that began earlier were of another kind of input and go into no later reference."""
    usual: Baseline = field(default_factory=Baseline)
    """What the detectors of broken data know of its rows; nothing in one that was made before they were there."""
    kinds: tuple[Moments, ...] = ()
    """What each kind of prompts cost in the version's first fortnight, new kinds last; empty without kinds."""
    kind_rows: tuple[int, ...] = ()
    season: Season | None = None
    """What each hour of the week shows: the detector's indicators of all columns, then three figures of the loss."""
    calendar: Calendar | None = None
    """How `season` counts hours and days."""
    growth_tolerance: float = GROWTH_TOLERANCE
    """How far the share of new kinds may lie above what is usual at an hour."""
    kinds_windows: int = 0
    """Windows that the kinds of prompts were learned from; 0: reference rows."""
    continues: bool = False
    """Whether the detector's state goes on from the revision before, since the same things are counted."""
    is_scored_apart: bool = False
    """Whether its loss was measured on rows of an evaluation, and so is known before the version's own traffic."""
    unsteady: tuple[str, ...] = ()
    """Columns that move so much by themselves that they are not watched for drift."""
    false_alarms_per_window: float = 1 / BAD_RUN_LENGTH
    """What is to be expected."""

    def detector(self, at: datetime) -> Detector:
        """Give the detector of a window that begins then; states of all hours are interchangeable."""
        watched = [name for name in self.reference if name not in self.unsteady] or list(self.reference)
        whole = self.pooled(self.reference)
        detector = whole if len(watched) == len(self.reference) else self.pooled(watched)
        if self.season is None or self.calendar is None:
            return detector.with_rates(self.by_hour[at.hour]) if at.hour in self.by_hour else detector
        low, high = bounds(self.season, np.array([self.calendar.slot(at)]))
        kept = np.repeat([name in watched for name in whole.columns], whole.widths)
        return detector.between(clipped(low[0, : len(kept)][kept]), clipped(high[0, : len(kept)][kept]))

    @property
    def size(self) -> int:
        """Length of the detector's state."""
        return self.pooled([name for name in self.reference if name not in self.unsteady] or self.reference).size

    def pooled(self, names: Iterable[str]) -> Detector:
        """Give the detector of some columns that knows no hours."""
        return Detector.of(
            {name: Reference(sketch=self.reference[name], eps=self.eps[name], icc=self.icc[name]) for name in names}
        )

    def learning(self, at: datetime, calendar: Calendar) -> str | None:
        """Say that the hour of a window which begins then is not known yet; None where it is."""
        if not calendar.is_seasonal:
            return None
        slot = calendar.slot(at)
        days = int(self.season.seen[slot]) if self.season is not None and self.calendar == calendar else 0
        if days >= SEEN_DAYS:
            return None
        return f"learning: {calendar.named(at)} was seen on {days} of the {SEEN_DAYS} days that it takes"

    def usual_loss(self, at: datetime, harm_ratio: float, *, seasonal: bool) -> Usual:
        """Give what known kinds cost at most at that hour, what new ones add, and their share.

        An hour may differ from others; the level of all of them is anchored to the reference, so that no later revision
        gets used to more than `harm_ratio` of it.
        """
        if self.season is None or self.calendar is None:
            return Usual(share=None if seasonal else FIRST_NEW_SHARE)
        return usual_at(self.season, self.calendar.slot(at), harm_ratio)

    @cached_property
    def kind_costs(self) -> KindCosts | None:
        """Give what each kind of prompts costs; None where that is not known."""
        return KindCosts.of(self.kinds, self.kind_rows)

    def reference_at(self, at: datetime) -> Columns:
        """Give the reference of a window that begins then."""
        return self.by_hour.get(at.hour, self.reference)

    def stored(self) -> StoredProfile:
        """Give it as it is kept."""
        head = {
            "eps": dict(self.eps),
            "icc": dict(self.icc),
            "loss": asdict(self.loss),
            "loss_tolerance": self.loss_tolerance,
            "windows": self.windows,
            "begins": self.begins and self.begins.isoformat(),
            "unsteady": list(self.unsteady),
            "usual": self.usual.plain(),
            "kinds": [astuple(kind) for kind in self.kinds],
            "kind_rows": list(self.kind_rows),
            "calendar": None if self.calendar is None else self.calendar.plain(),
            "growth_tolerance": self.growth_tolerance,
            "kinds_windows": self.kinds_windows,
            "continues": self.continues,
            "is_scored_apart": self.is_scored_apart,
            "false_alarms_per_window": self.false_alarms_per_window,
        }
        parts = {
            "encoding": self.encoding.to_bytes(),
            **{f"{_COLUMN}{name}": sketch.to_bytes() for name, sketch in self.reference.items()},
            **({_SEASON: self.season.to_bytes()} if self.season is not None else {}),
            **{f"{_HOUR}{hour}": _hour_to_bytes(columns) for hour, columns in self.by_hour.items()},
        }
        return StoredProfile(
            model=self.model,
            version=self.version,
            revision=self.revision,
            effective_from=self.effective_from,
            source=self.source,
            rows=self.rows,
            encoding=self.encoding.digest,
            content=packed(_FORMAT, head, parts),
        )

    @classmethod
    def of(cls, stored: StoredProfile) -> "Profile":
        """Read what `stored` gave.

        Raises:
            ContractError: the bytes are damaged.
        """
        head, parts = unpacked(_FORMAT, stored.content, what="a drift profile")
        try:
            begins = head.pop("begins")
            return cls(
                model=stored.model,
                version=stored.version,
                revision=stored.revision,
                effective_from=stored.effective_from,
                source=stored.source,
                rows=stored.rows,
                encoding=Encoding.from_bytes(parts.pop("encoding")),
                reference={
                    name.removeprefix(_COLUMN): from_bytes(part)
                    for name, part in parts.items()
                    if name.startswith(_COLUMN)
                },
                by_hour=_Hours(
                    {int(name.removeprefix(_HOUR)): part for name, part in parts.items() if name.startswith(_HOUR)}
                ),
                loss=Moments(**head.pop("loss")),
                kinds=tuple(Moments(*sums) for sums in head.pop("kinds", ())),
                kind_rows=tuple(head.pop("kind_rows", ())),
                calendar=None if (kept := head.pop("calendar", None)) is None else Calendar.from_plain(kept),
                season=Season.from_bytes(parts[_SEASON]) if _SEASON in parts else None,
                begins=None if begins is None else datetime.fromisoformat(begins),
                unsteady=tuple(head.pop("unsteady")),
                usual=Baseline.of(head.pop("usual", None)),
                **head,
            )
        except (KeyError, TypeError, ValueError) as err:
            where = f"{stored.model} version {stored.version} revision {stored.revision}"
            raise ContractError(f"the drift profile of {where} is damaged: {err}") from err


class _Hours(Mapping[int, Columns]):
    """References by hour, read when asked for: a window needs only its own hour's."""

    def __init__(self, parts: Mapping[int, bytes]) -> None:
        self._parts = parts

    def __getitem__(self, hour: int) -> Columns:
        _, columns = unpacked(_HOUR_FORMAT, self._parts[hour], what="an hour of a drift profile")
        return {name: from_bytes(part) for name, part in columns.items()}

    def __iter__(self) -> Iterator[int]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __contains__(self, hour: object) -> bool:
        return hour in self._parts


def profile_of(db: Engine, champion: Champion, *, at: datetime) -> Profile | None:
    """Read what a window of the champion that began then is compared with; None while it has no profile."""
    stored = profile_at(db, champion.model, champion.version, at)
    return Profile.of(stored) if stored is not None else None


def keep_profile(db: Engine, profile: Profile) -> Profile:
    """Keep a profile; if another writer was faster, its revision is the one."""
    if save_profile(db, profile.stored()):
        return profile
    kept = profile_revision(db, profile.model, profile.version, profile.revision)
    return profile if kept is None else Profile.of(kept)


def _hour_to_bytes(columns: Columns) -> bytes:
    return packed(_HOUR_FORMAT, {}, {name: sketch.to_bytes() for name, sketch in columns.items()})
