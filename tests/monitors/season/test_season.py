"""Hours of the week: which hour a window is of, what it usually shows, and how much it may leave that."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from datasets_defs.spec.signals import DriftSpec
from monitors.season.calendar import HOLIDAY, HOURS, SLOTS, Calendar
from monitors.season.season import SEEN_DAYS, Season, Windows
from monitors.season.tolerance import Learned, bounds
from monitors.season.usual import LEARNING_GROWTH, usual_at

MONDAY = datetime(2026, 3, 23, tzinfo=UTC)
"""A week before clocks are put forward in Berlin."""
CLASSES = Calendar().classes


def learned(values: np.ndarray, *, rows: float = 1000.0) -> Learned:
    """Learn from hourly windows of one figure, from a Monday on."""
    times = [MONDAY + timedelta(hours=at) for at in range(len(values))]
    calendar = Calendar()
    shape = (len(values), 1)
    windows = Windows(
        values=values.reshape(shape), weights=np.full(shape, rows), noise=np.full(shape, 0.25 / rows),
        slots=np.array(calendar.slots(times)), days=np.array([calendar.day(at) for at in times]),
    )  # fmt: skip
    return Learned.of(windows, CLASSES, np.zeros(1, dtype=np.int64))


@pytest.mark.parametrize(
    ("at", "fields", "slot"),
    [
        (datetime(2026, 3, 25, 13, 30, tzinfo=UTC), {}, 2 * HOURS + 13),
        (datetime(2026, 3, 25, 23, 30, tzinfo=UTC), {"timezone": "Europe/Berlin"}, 3 * HOURS),
        (datetime(2026, 4, 1, 8, tzinfo=UTC), {"timezone": "Europe/Berlin"}, 2 * HOURS + 10),
        (datetime(2026, 12, 25, 8, tzinfo=UTC), {"calendar": "DE"}, HOLIDAY * HOURS + 8),
        (datetime(2026, 12, 31, 8, tzinfo=UTC), {"holidays": (date(2026, 12, 31),)}, HOLIDAY * HOURS + 8),
        (datetime(2026, 12, 25, 8, tzinfo=UTC), {"season": "none", "calendar": "DE"}, 0),
    ],
)
def test_the_slot_of_a_window(at: datetime, fields: dict[str, object], slot: int) -> None:
    """Hours are local, clocks that are put forward move them, and holidays are days of their own."""
    assert Calendar.of(DriftSpec(**fields)).slot(at) == slot


def test_the_weekend_of_a_country() -> None:
    """Where people rest on Friday and Saturday those days are the weekend."""
    assert Calendar(country="EG").classes == (0, 0, 0, 0, 1, 1, 0, 2)


def test_without_a_season_hours_share_what_all_know() -> None:
    """Figures that differ by noise alone are pooled: an hour's expectation is much surer than its own rows."""
    rng = np.random.default_rng(1)
    values = 0.5 + rng.normal(0, 0.5 / np.sqrt(1000), 336)
    season = learned(values).season
    spread = (season.expected - 0.5)[season.seen > 0]
    assert np.abs(spread).max() < 0.01
    assert np.abs(spread).mean() < 0.3 * np.abs(values - 0.5).mean()


def test_hours_and_days_are_learned() -> None:
    """A daily cycle and a weekend of its own are expected where they were seen; what was not seen is not known."""
    hours = np.arange(336)
    weekend = (hours // 24) % 7 >= 5
    values = 0.5 + 0.1 * np.sin(2 * np.pi * hours / 24) + 0.05 * weekend
    season = learned(values).season
    noon = [season.expected[day * HOURS + 6, 0] for day in (0, 5)]
    assert noon == pytest.approx([0.6, 0.65], abs=0.01)
    assert season.is_known(6)
    assert not season.is_known(HOLIDAY * HOURS + 6)
    young = learned(values[:48]).season
    assert young.seen[[6, 3 * HOURS + 6, 5 * HOURS + 6]].tolist() == [SEEN_DAYS, SEEN_DAYS, 0]


def test_an_hour_lies_between_its_neighbours() -> None:
    """Where traffic climbs, half of the way to the hours beside it is no change; on the top nothing is added."""
    hours = np.arange(336)
    season = learned(0.5 + 0.2 * np.sin(2 * np.pi * hours / 24)).season
    low, high = season.between(np.array([0, 6]))
    assert (high - low)[0, 0] == pytest.approx(0.2 * np.sin(2 * np.pi / 24), abs=0.01)
    assert (high - low)[1, 0] < 0.01


def test_days_that_differ_are_tolerated_and_few_days_more_so() -> None:
    """The spread between days is learned, and widened while there are few."""
    rng = np.random.default_rng(2)
    of_day = np.repeat(rng.normal(0, 0.02, 28), 24)
    values = 0.5 + of_day + rng.normal(0, 0.016, len(of_day))
    many, few = learned(values).spread[0], learned(values[:96]).spread[0]
    assert 0.03 < many < 0.12
    assert few > many
    steady = 0.5 + rng.normal(0, 0.5 / np.sqrt(1000), 672)
    assert learned(steady).spread[0] < 0.02


def test_a_day_is_judged_without_itself() -> None:
    """A day that is another stands out in its own replay, and its windows would have it hidden otherwise."""
    values = np.full(336, 0.5)
    values[96:120] = 0.7
    found = {int(of_day.argmax()): (low, high) for of_day, low, high in learned(values).days()}
    assert found[96][1].max() < 0.65
    assert sorted(found)[:2] == [0, 24]


def test_a_season_is_kept_as_bytes() -> None:
    """What is read is what was kept, in single precision, and once read it stays the same."""
    season = learned(0.5 + 0.1 * np.sin(np.arange(336))).season
    again = Season.from_bytes(season.to_bytes())
    assert again.expected == pytest.approx(season.expected, rel=1e-6)
    assert (again.seen == season.seen).all()
    assert Season.from_bytes(again.to_bytes()).to_bytes() == again.to_bytes()


def test_an_unknown_hour_is_held_against_the_most_of_all_known() -> None:
    """At an hour never seen new kinds may have what they have at any known one and more; seen once, what it showed."""
    expected = np.zeros((SLOTS, 3))
    expected[:, 0], expected[:, 1], expected[:, 2] = 1.0, 1.0, 0.05
    expected[3, 2] = 0.2
    seen = np.zeros(SLOTS, dtype=np.int64)
    season = Season(expected=expected, seen=seen, error=np.zeros((SLOTS, 3)))
    assert usual_at(season, 3, 1.02).share is None
    seen[:HOURS] = 3
    assert usual_at(season, 10, 1.02).share == pytest.approx(0.05)
    assert usual_at(season, 130, 1.02).share == pytest.approx(0.2 + LEARNING_GROWTH)
    seen[130], expected[130, 2] = 1, 0.1
    assert usual_at(season, 130, 1.02).share == pytest.approx(0.2)
    expected[130, 2] = 0.3
    assert usual_at(season, 130, 1.02).share == pytest.approx(0.3)
    assert bounds(season, np.array([3]))[1][0, 2] == pytest.approx(0.2)
