"""Half-open stretches of UTC time."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """`[start, end)`, both aware and in UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            at = getattr(self, name)
            if at.tzinfo is None:
                raise ValueError(f"window {name} {at.isoformat()} has no time zone; give an aware UTC datetime")
            object.__setattr__(self, name, at.astimezone(UTC))
        if self.end <= self.start:
            raise ValueError(f"window ends ({self.end.isoformat()}) at or before its start ({self.start.isoformat()})")

    @classmethod
    def last_complete(cls, now: datetime, length: timedelta) -> "Window":
        """Give the newest window of this length that has ended by `now`; windows are aligned to the epoch."""
        end = EPOCH + ((now - EPOCH) // length) * length
        return cls(end - length, end)

    @property
    def length(self) -> timedelta:
        """How long the window is."""
        return self.end - self.start

    def before(self, count: int) -> "Window":
        """Give the window of the same length that lies `count` windows earlier."""
        return Window(self.start - count * self.length, self.end - count * self.length)

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M:%S}..{self.end:%H:%M:%S}Z"
