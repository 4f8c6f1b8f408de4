"""Where things stand on a strip of windows, in per cent of its width. Pure.

Per cent and no viewBox, so that a strip is as wide as its table leaves it and nothing in it is distorted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.incidents import TERMINAL, Incident, State
from datasets_defs.core.windows import EPOCH
from ops.page.state import ServedChange

GLYPHS = {"bootstrap": "●", "promote": "▲", "roll_back": "▼", "revert": "▽"}
WORDS = {"bootstrap": "first champion", "promote": "promoted", "roll_back": "rolled back", "revert": "taken back"}
MOST_TICKS = 8
_STEPS = [timedelta(minutes=minutes) for minutes in (1, 2, 5, 10, 30, 60, 120, 180, 360, 720, 1440, 2880, 10080)]
_GAP = 0.14
"""Share of a window's width that is left free between two cells."""
_HEIGHTS = {"ok": 38, "warn": 68, "waits": 38}
"""Per cent of the height; all others are as high as the strip: not by colour alone is bad told from good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One window."""

    x: str
    width: str
    y: str
    height: str
    tone: str
    """`ok`, `warn`, `bad`, `nodata`, `stale`, `waits` or `none` (never judged)."""
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """An incident."""

    x: str
    width: str
    tone: str
    """`open`, or the state in which it ended."""
    title: str
    incident_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A change of champion."""

    x: str
    kind: str
    glyph: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A time under the strips."""

    x: str
    text: str


@dataclass(frozen=True, slots=True)
class Axis:
    """`count` windows of `length`, the last of which ends at `last_end`."""

    last_end: datetime
    length: timedelta
    count: int

    @property
    def start(self) -> datetime:
        """Where the strip begins."""
        return self.last_end - self.count * self.length

    def share(self, at: datetime) -> float:
        """Give how far along a time lies, 0..1; what lies outside is moved to the edge."""
        return min(max((at - self.start) / (self.count * self.length), 0.0), 1.0)

    def slot(self, window_end: datetime) -> int | None:
        """Give the place of a window from the left, 0 first; None outside. One of another length counts by its end."""
        place = self.count - 1 - (self.last_end - window_end) // self.length
        return place if 0 <= place < self.count else None

    def cells(self, judged: Mapping[int, tuple[str, str]]) -> list[Cell]:
        """Give a cell for every window; `judged` holds tone and words by place."""
        return [self._cell(place, *judged.get(place, ("none", "not judged"))) for place in range(self.count)]

    def _cell(self, place: int, tone: str, words: str) -> Cell:
        end = self.start + (place + 1) * self.length
        height = _HEIGHTS.get(tone, 100)
        return Cell(
            x=_percent((place + _GAP / 2) / self.count),
            width=_percent((1 - _GAP) / self.count),
            y=f"{100 - height}%",
            height=f"{height}%",
            tone=tone,
            title=f"{end - self.length:%Y-%m-%d %H:%M:%S} to {end:%H:%M:%S} UTC: {words}",
        )

    def verdicts(self, verdicts: Iterable[Verdict]) -> list[Cell]:
        """Give the cells of one signal."""
        judged = {}
        for verdict in verdicts:
            if (place := self.slot(verdict.window.end)) is not None:
                judged[place] = (tone(verdict.condition, waits=verdict.waits), f"{verdict.condition}: {verdict.reason}")
        return self.cells(judged)

    def worst(self, conditions: Mapping[datetime, Condition | None]) -> list[Cell]:
        """Give the cells of the worst conditions; None: what was judged only waits for more."""
        judged = {}
        for end, condition in conditions.items():
            if (place := self.slot(end)) is not None:
                judged[place] = (tone(condition, waits=condition is None), str(condition or "waits for more"))
        return self.cells(judged)

    def spans(self, incidents: Iterable[Incident], now: datetime) -> list[Span]:
        """Give the incidents that touch the strip, from opening to end."""
        shown = []
        for incident in incidents:
            end = incident.closed_at or now
            if end < self.start:
                continue
            left, right = self.share(incident.opened_at), self.share(end)
            ended = f", ended {incident.closed_at:%Y-%m-%d %H:%M} UTC" if incident.closed_at is not None else ""
            shown.append(
                Span(
                    x=_percent(min(left, 1 - 0.5 / self.count)),
                    width=_percent(max(right - left, 0.5 / self.count)),
                    tone=incident.state.value if incident.state in TERMINAL else "open",
                    title=f"incident {incident.id} ({incident.signal}) opened {incident.opened_at:%Y-%m-%d %H:%M} UTC: "
                    f"{_words(incident.state)}{ended}",
                    incident_id=incident.id,
                )
            )
        return shown

    def marks(self, changes: Iterable[ServedChange]) -> list[Mark]:
        """Give the changes of champion that fall on the strip."""
        return [
            Mark(
                x=_percent(self.share(change.at)),
                kind=change.kind,
                glyph=GLYPHS.get(change.kind, "●"),
                title=f"v{change.to_version} {WORDS.get(change.kind, change.kind)} "
                f"{change.at:%Y-%m-%d %H:%M:%S} UTC: {change.reason}",
            )
            for change in changes
            if change.at >= self.start
        ]

    def ticks(self) -> list[Tick]:
        """Give round times, at most eight; midnights by their date."""
        whole = self.last_end - self.start
        step = next((size for size in _STEPS if whole <= MOST_TICKS * size), _STEPS[-1])
        first = EPOCH - ((EPOCH - self.start) // step) * step
        times = []
        for number in range(whole // step + 1):
            at = first + number * step
            if at <= self.last_end:
                midnight = at.time() == time()
                times.append(Tick(x=_percent(self.share(at)), text=f"{at:%b %d}" if midnight else f"{at:%H:%M}"))
        return times


def tone(condition: Condition | None, *, waits: bool = False) -> str:
    """Give the name of a condition's look."""
    if waits or condition is None:
        return "waits"
    return condition.value.lower().replace("_", "")


def _words(state: State) -> str:
    return state.value.replace("_", " ")


def _percent(share: float) -> str:
    return f"{100 * share:.3f}%"
