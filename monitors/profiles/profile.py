"""What windows of a model version are compared with: how rows become columns, their reference counts, tolerances."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.ledger.champions import Champion
from datasets_defs.store.sketch_log import StoredProfile, profile_at
from monitors.breaks.baseline import Baseline
from monitors.counts.codec import packed, unpacked
from monitors.counts.columns import Encoding
from monitors.counts.moments import Moments
from monitors.counts.sketch import Sketch, from_bytes
from monitors.evidence.e_detector import BAD_RUN_LENGTH, Detector, Reference

Columns = Mapping[str, Sketch]
_FORMAT, _HOUR_FORMAT = b"P1", b"H1"
_HOUR = "hour "
_COLUMN = "column "


@dataclass(frozen=True, slots=True, kw_only=True)
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
    unsteady: tuple[str, ...] = ()
    """Columns that move so much by themselves that they are not watched for drift."""
    false_alarms_per_window: float = 1 / BAD_RUN_LENGTH
    """What is to be expected."""

    def detector(self, at: datetime) -> Detector:
        """Give the detector of a window that begins then; states of all hours are interchangeable."""
        watched = [name for name in self.reference if name not in self.unsteady] or list(self.reference)
        detector = Detector.of(
            {name: Reference(sketch=self.reference[name], eps=self.eps[name], icc=self.icc[name]) for name in watched}
        )
        return detector.with_rates(self.by_hour[at.hour]) if at.hour in self.by_hour else detector

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
            "false_alarms_per_window": self.false_alarms_per_window,
        }
        parts = {
            "encoding": self.encoding.to_bytes(),
            **{f"{_COLUMN}{name}": sketch.to_bytes() for name, sketch in self.reference.items()},
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


def _hour_to_bytes(columns: Columns) -> bytes:
    return packed(_HOUR_FORMAT, {}, {name: sketch.to_bytes() for name, sketch in columns.items()})
