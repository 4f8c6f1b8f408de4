"""Sketches of windows and profiles on real PostgreSQL: kept once, read back as they were."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from datasets_defs.core.errors import TransientError
from datasets_defs.core.windows import Window
from datasets_defs.store.database import engine_for
from datasets_defs.store.sketch_log import (
    StoredProfile,
    StoredSketch,
    drop_before,
    last_sketch,
    profile_at,
    profile_revision,
    read_sketches,
    replace_sketches,
    save_profile,
    save_sketch,
    single_windows,
    sketch_of,
)

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def sketch(number: int, **more: object) -> StoredSketch:
    window = Window(NOON + number * HOUR, NOON + (number + 1) * HOUR)
    made = StoredSketch(model="m", version=1, window=window, encoding="e", rows=number, content=b"\x00\xff")
    return replace(made, **more)


def profile(revision: int, effective_from: datetime | None) -> StoredProfile:
    return StoredProfile(
        model="m", version=1, revision=revision, effective_from=effective_from, source="s", rows=5, encoding="e",
        content=b"\x00p",
    )  # fmt: skip


def test_a_sketch_comes_back_as_it_was(engine: Engine):
    """Bytes, times and flags survive; another version, or another window, has none."""
    kept = sketch(1, state=b"\x00\x01", judged=False, window=Window(NOON - 3 * HOUR, NOON + 2 * HOUR))
    save_sketch(engine, kept)
    assert sketch_of(engine, "m", 1, NOON + 2 * HOUR) == kept
    assert sketch_of(engine, "m", 2, NOON + 2 * HOUR) is None
    assert sketch_of(engine, "m", 1, NOON + HOUR) is None


def test_a_window_judged_again_has_one_sketch(engine: Engine):
    """The later one replaces the earlier, but never a day's that the window has gone into."""
    save_sketch(engine, sketch(1, content=b"first"))
    save_sketch(engine, sketch(1, content=b"second"))
    assert [each.content for each in read_sketches(engine, "m", 1, Window(NOON, NOON + 9 * HOUR))] == [b"second"]
    day = sketch(1, window=Window(NOON - 22 * HOUR, NOON + 2 * HOUR), windows=24, content=b"day")
    replace_sketches(engine, [sketch(1)], [day])
    save_sketch(engine, sketch(1, content=b"third"))
    assert sketch_of(engine, "m", 1, NOON + 2 * HOUR) == day


def test_reading_by_time(engine: Engine):
    """Windows count by their end, oldest first; those with too few rows only when asked for."""
    for number in range(6):
        save_sketch(engine, sketch(number, judged=number != 3))
    within = Window(NOON + HOUR, NOON + 5 * HOUR)
    assert [each.rows for each in read_sketches(engine, "m", 1, within)] == [1, 2, 4]
    assert [each.rows for each in read_sketches(engine, "m", 1, within, newest=2)] == [2, 4]
    assert [each.rows for each in read_sketches(engine, "m", 1, within, judged_only=False)] == [1, 2, 3, 4]
    last = last_sketch(engine, "m", 1, before=NOON + 5 * HOUR)
    assert last is not None
    assert last.rows == 2
    assert last_sketch(engine, "m", 1, before=NOON + HOUR) is None
    assert last_sketch(engine, "m", 1, before=NOON + 5 * HOUR, with_state=True) is None
    save_sketch(engine, sketch(0, state=b"s"))
    stateful = last_sketch(engine, "m", 1, before=NOON + 5 * HOUR, with_state=True)
    assert stateful == sketch(0, state=b"s")


def test_replacing_is_all_or_nothing(engine: Engine):
    """A replacement that cannot be written leaves what was there."""
    hours = [sketch(number) for number in range(3)]
    for each in hours:
        save_sketch(engine, each)
    twice = sketch(2, windows=3)
    with pytest.raises(Exception, match="pk_window_sketch"):
        replace_sketches(engine, hours, [twice, twice])
    assert single_windows(engine, before=NOON + 2 * HOUR) == [("m", 1, NOON + HOUR), ("m", 1, NOON + 2 * HOUR)]
    replace_sketches(engine, hours, [twice])
    assert single_windows(engine, before=NOON + 9 * HOUR) == []
    assert read_sketches(engine, "m", 1, Window(NOON, NOON + 9 * HOUR)) == [twice]
    replace_sketches(engine, [twice], [])
    assert sketch_of(engine, "m", 1, NOON + 3 * HOUR) is None


def test_a_window_has_the_profile_of_its_time(engine: Engine):
    """The newest that was effective when the window began; the first, of no date, serves all windows before."""
    assert profile_at(engine, "m", 1, NOON) is None
    for number, effective_from in ((1, None), (2, NOON), (3, NOON + HOUR)):
        assert save_profile(engine, profile(number, effective_from))
    found = [profile_at(engine, "m", 1, NOON + hours * HOUR) for hours in (-9, 0, 0.5, 1, 9)]
    assert [each and each.revision for each in found] == [1, 2, 2, 3, 3]
    assert profile_at(engine, "m", 2, NOON) is None
    assert profile_revision(engine, "m", 1, 2) == profile(2, NOON)


def test_a_revision_is_never_replaced(engine: Engine):
    """Whoever comes second learns that the revision is there, and the first one stays."""
    assert save_profile(engine, profile(1, None))
    assert not save_profile(engine, replace(profile(1, None), content=b"other"))
    assert profile_at(engine, "m", 1, NOON) == profile(1, None)


def test_dropping_what_is_old(engine: Engine):
    """Sketches go by their window's end; a profile when its successor is as old, but not the first."""
    for number in range(3):
        save_sketch(engine, sketch(number))
    for number, effective_from in ((1, None), (2, NOON), (3, NOON + HOUR), (4, NOON + 3 * HOUR)):
        save_profile(engine, profile(number, effective_from))
    assert drop_before(engine, NOON + 2 * HOUR) == (2, 1)
    assert drop_before(engine, NOON + 2 * HOUR) == (0, 0)
    assert [number for number in (1, 2, 3, 4) if profile_revision(engine, "m", 1, number)] == [1, 3, 4]
    assert [each.rows for each in read_sketches(engine, "m", 1, Window(NOON, NOON + 9 * HOUR))] == [2]


def test_a_database_that_is_away_is_transient():
    """Reading and writing say so in our words."""
    away = engine_for("postgresql://nobody@127.0.0.1:9/none")
    with pytest.raises(TransientError, match="reading sketches"):
        sketch_of(away, "m", 1, NOON)
    with pytest.raises(TransientError, match="saving a drift profile"):
        save_profile(away, profile(1, None))
