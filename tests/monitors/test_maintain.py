"""Old windows are added up by day, once, and what is past its time goes; on real tables."""

import os
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import text

from datasets_defs.core.conditions import Condition
from datasets_defs.core.settings import settings
from datasets_defs.core.windows import Window
from datasets_defs.store.artifacts import artifact_url, write_bytes
from datasets_defs.store.sketch_log import StoredSketch, accepted_sketches, read_sketches, save_sketch
from monitors.counts.moments import Moments
from monitors.counts.rollup import WindowSketch, add_up
from monitors.counts.sketch import NumericSketch, Scale
from monitors.maintain import DAY, compact, tidy
from tests.monitors.loop import MODEL, Loop


def counted(loop: Loop, number: int, *, rows: int = 10) -> WindowSketch:
    """Count rows of a window."""
    values = np.random.default_rng(number).normal(size=rows)
    return WindowSketch(
        window=loop.window(number), rows=rows, columns={"a": NumericSketch.of(values, Scale(0, 1))},
        loss=Moments.of(values),
    )  # fmt: skip


def keep(loop: Loop, number: int, *, condition: Condition = Condition.OK, **more: object) -> StoredSketch:
    """Keep a window's counts and verdict."""
    some = counted(loop, number)
    made = replace(
        StoredSketch(model=MODEL, version=1, window=some.window, encoding="e", rows=some.rows, content=some.to_bytes(),
                     state=f"{number}".encode()),
        **more,
    )  # fmt: skip
    save_sketch(loop.db, made)
    loop.verdict(number, "drift", condition)
    return made


def kept(loop: Loop) -> list[StoredSketch]:
    """Read all that is kept."""
    return read_sketches(loop.db, MODEL, 1, Window(loop.window(-99).start, loop.window(999).end), judged_only=False)


def midnight(loop: Loop, day: int) -> datetime:
    """Give the beginning of a day; window 0 is the first of day 0."""
    return loop.window(0).start + day * DAY


def test_a_day_becomes_one(loop: Loop):
    """The windows of a whole day become one, with the last one's state; a day that is not over stays as it is."""
    before = [keep(loop, number) for number in range(30)]
    assert compact(loop.db, before=midnight(loop, 1) + timedelta(hours=23)) == 23
    day, *rest = kept(loop)
    assert rest == before[24:]
    assert (day.window, day.rows, day.windows, day.judged) == (
        Window(*(midnight(loop, n) for n in (0, 1))),
        240,
        24,
        True,
    )
    assert day.state == b"23"
    assert WindowSketch.from_bytes(day.content) == add_up([counted(loop, number) for number in range(24)])
    assert compact(loop.db, before=midnight(loop, 1) + timedelta(hours=23)) == 0
    assert kept(loop) == [day, *rest]
    assert accepted_sketches(loop.db, MODEL, 1, Window(midnight(loop, 0), midnight(loop, 1)), signal="drift") == [day]


def test_only_what_is_alike(loop: Loop):
    """Accepted windows, others, those that could not be judged and those counted otherwise stay apart."""
    for number in range(24):
        keep(
            loop, number,
            condition=Condition.BAD if number in (5, 6, 7) else Condition.OK,
            encoding="other" if number in (9, 10) else "e",
            **({"state": None} if number in (12, 13) else {}),
            judged=number != 15,
        )  # fmt: skip
    assert compact(loop.db, before=midnight(loop, 1)) == 24 - 4
    found = {each.window.end: (each.windows, each.encoding, each.state) for each in kept(loop)}
    assert found == {
        loop.window(7).end: (3, "e", b"7"),
        loop.window(10).end: (2, "other", b"10"),
        loop.window(13).end: (2, "e", None),
        loop.window(23).end: (16, "e", b"23"),
    }
    assert compact(loop.db, before=midnight(loop, 1)) == 0


def test_a_window_that_comes_late(loop: Loop):
    """A window that is judged again after its day was added up changes nothing; a new one of the day is added."""
    for number in (*range(3, 20), 22):
        keep(loop, number)
    compact(loop.db, before=midnight(loop, 1))
    (day,) = kept(loop)
    keep(loop, 7)
    assert compact(loop.db, before=midnight(loop, 1)) == 1
    assert kept(loop) == [day]
    keep(loop, 23)
    assert compact(loop.db, before=midnight(loop, 1)) == 1
    (day,) = kept(loop)
    assert (day.windows, day.rows, day.state) == (19, 190, b"23")


def test_a_window_alone_in_its_day(loop: Loop):
    """It stays as it is, however often it is looked at."""
    alone = keep(loop, 5)
    assert [compact(loop.db, before=midnight(loop, 1)) for _ in range(2)] == [0, 0]
    assert kept(loop) == [alone]


def test_models_and_versions_stay_apart(loop: Loop):
    """Each version's windows are added up by themselves."""
    for number in range(4):
        keep(loop, number)
        keep(loop, number, version=2)
    assert compact(loop.db, before=midnight(loop, 1)) == 6
    assert len(kept(loop)) == 1


def test_the_daily_upkeep(loop: Loop, monkeypatch: pytest.MonkeyPatch):
    """Windows of so many days stay single, older ones go by day, and the oldest go with the log's rows."""
    for number in range(0, 24 * 12, 6):
        keep(loop, number)
    for name, days in (("old", 8), ("new", 6)):
        url = artifact_url("reports", MODEL, "drift", f"{name}.html")
        write_bytes(url, b"report")
        at = (midnight(loop, 12) - days * DAY).timestamp()
        os.utime(url.removeprefix("file://"), (at, at))
    monkeypatch.setenv("DRIFTLOOP_RETENTION_DAYS", "10")
    monkeypatch.setattr("monitors.maintain.SINGLE_DAYS", 8)
    settings.cache_clear()
    told = tidy(db=loop.db, now=midnight(loop, 12))
    assert told == {
        "partitions_dropped": [], "reports_deleted": 1, "sketches_dropped": 8, "profiles_dropped": 0,
        "vectors_deleted": 0, "rows_deleted": {}, "windows_added_up": 6,
    }  # fmt: skip
    assert [each.windows for each in kept(loop)] == [4, 4, *[1] * 32]
    with loop.db.connect() as on:
        names = on.scalars(text("SELECT inhrelid::regclass::text FROM pg_inherits")).all()
    assert f"inference_{midnight(loop, 15):%Y%m%d}" in names
