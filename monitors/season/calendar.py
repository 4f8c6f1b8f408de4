"""Which hour of which kind of day a window belongs to: hours of the week by local time, holidays apart. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import holidays

from datasets_defs.spec.signals import DriftSpec

HOURS = 24
DAYS = 8
"""Monday to Sunday, and holidays as an eighth kind of day."""
HOLIDAY = 7
SLOTS = DAYS * HOURS
CLASSES = 3
"""Days that are alike until each is known by itself: working days, days of the weekend, holidays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """How a model's users count hours and days."""

    zone: str = "UTC"
    country: str | None = None
    """Country, or `COUNTRY-SUBDIVISION`, whose holidays hold."""
    dates: tuple[date, ...] = ()
    """Further holidays."""
    is_seasonal: bool = True
    """False: one hour is like any other, and all windows are of one slot."""

    @classmethod
    def of(cls, spec: DriftSpec) -> "Calendar":
        """Take what the model's YAML says."""
        return cls(zone=spec.timezone, country=spec.calendar, dates=spec.holidays, is_seasonal=spec.season == "week")

    def slot(self, at: datetime) -> int:
        """Give the slot of a window that begins then: 24 times the kind of day (0..7) plus the local hour."""
        if not self.is_seasonal:
            return 0
        local = at.astimezone(_zone(self.zone))
        kind = HOLIDAY if self.is_holiday(local.date()) else local.weekday()
        return HOURS * kind + local.hour

    def named(self, at: datetime) -> str:
        """Name the hour of the week of a window that begins then."""
        local = at.astimezone(_zone(self.zone))
        day = "a holiday" if self.is_holiday(local.date()) else f"{local:%A}"
        return f"{day} {local:%H}:00"

    def plain(self) -> dict[str, Any]:
        """Give it as JSON can hold it."""
        return {"zone": self.zone, "country": self.country, "dates": [str(day) for day in self.dates]}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Calendar":
        """Read what `plain` gave."""
        return cls(
            zone=plain["zone"], country=plain["country"], dates=tuple(date.fromisoformat(day) for day in plain["dates"])
        )

    def slots(self, times: Sequence[datetime]) -> list[int]:
        """Give the slots of several windows."""
        return [self.slot(at) for at in times]

    def day(self, at: datetime) -> int:
        """Number the local day."""
        return at.astimezone(_zone(self.zone)).date().toordinal()

    def is_holiday(self, day: date) -> bool:
        """Say whether the day is a holiday of the country, or one of the dates."""
        return day in self.dates or (self.country is not None and day in _holidays(self.country))

    @property
    def classes(self) -> tuple[int, ...]:
        """Give, by kind of day, which class it is of: 0 working days, 1 the weekend, 2 holidays."""
        weekend = set(_holidays(self.country).weekend) if self.country is not None else {5, 6}
        return (*(int(day in weekend) for day in range(7)), 2)


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


@cache
def _holidays(country: str) -> Any:
    code, _, subdivision = country.partition("-")
    return holidays.country_holidays(code, subdiv=subdivision or None)
