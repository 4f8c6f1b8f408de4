"""Keeping the loop's storage within its limits."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.windows import Window
from datasets_defs.ledger.retirements import retirement_of
from datasets_defs.spec.files import spec_of
from datasets_defs.store import inference_log
from datasets_defs.store.artifacts import artifact_url, delete_older
from datasets_defs.store.partitions import ensure_days
from datasets_defs.store.places import place
from datasets_defs.store.prompt_vectors import days_indexed, tidy_vectors
from datasets_defs.store.retention import drop_old
from datasets_defs.store.sketch_log import (
    SINGLE_DAYS,
    StoredSketch,
    accepted_sketches,
    drop_before,
    read_sketches,
    replace_sketches,
    single_windows,
)
from monitors.counts.rollup import WindowSketch, add_up
from monitors.similar.index import keep_up
from monitors.verdicts.conclude import judged_window

DAYS_AHEAD = 3
"""Partitions made in advance."""
DAY = timedelta(days=1)


def tidy(*, db: Engine, now: datetime) -> dict[str, Any]:
    """Make the next day partitions, and drop what is past its time by the limits of `store/places.py`.

    Sketches of windows and vectors of prompts go with the log's rows. Old sketches of a day are added up.
    """
    ensure_days(db, [(now + timedelta(days=ahead)).date() for ahead in range(DAYS_AHEAD + 1)])
    oldest = now - place("inference").age
    dropped = inference_log.drop_before(db, oldest)
    reports = delete_older(artifact_url("reports"), now - place("artifacts/reports").age)
    sketches, profiles = drop_before(db, oldest)
    return {
        "partitions_dropped": dropped,
        "reports_deleted": reports,
        "sketches_dropped": sketches,
        "profiles_dropped": profiles,
        "vectors_deleted": _tidy_index(db, now),
        "rows_deleted": {name: count for name, count in drop_old(db, now).items() if count},
        "windows_added_up": compact(db, before=now - timedelta(days=SINGLE_DAYS)),
    }


def index(model: str, *, db: Engine, until: datetime) -> str:
    """Index the prompts of all windows of a model that its sensor left, as after weeks of log that were brought along.

    Raises:
        ContractError: the spec or the embedding model is wrong.
        TransientError: PostgreSQL is away.
    """
    if (retired := retirement_of(db, model)) is not None:
        return str(retired)
    return str(keep_up(db, spec_of(model), until=judged_window(until).end))


def _tidy_index(db: Engine, now: datetime) -> int:
    """Delete vectors whose request is gone from the log, and those that are too many for a past day."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return sum(tidy_vectors(db, day=Window(day, day + DAY)) for day in days_indexed(db) if day < today)


def compact(db: Engine, *, before: datetime) -> int:
    """Add up the windows of each whole UTC day that ended by `before`; give how many went into others.

    Only windows counted alike are added up, and accepted ones not with others; the detector's state is the last one's.
    Those with too few rows, which later ones counted again, are dropped. Doing it again changes nothing.
    """
    midnight = before.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    gone = 0
    for (model, version, day), _ in groupby(single_windows(db, before=midnight), lambda key: (*key[:2], _day(key[2]))):
        there = read_sketches(db, model, version, day, judged_only=False)
        accepted = {sketch.window.end for sketch in accepted_sketches(db, model, version, day, signal="drift")}
        left = sorted(
            (sketch for group in _alike(there, accepted) for sketch in _added_up(group)),
            key=lambda sketch: sketch.window.end,
        )
        if left != there:
            replace_sketches(db, there, left)
            gone += len(there) - len(left)
    return gone


def _day(window_end: datetime) -> Window:
    start = (window_end - timedelta.resolution).replace(hour=0, minute=0, second=0, microsecond=0)
    return Window(start, start + DAY)


def _alike(sketches: Sequence[StoredSketch], accepted: set[datetime]) -> Iterator[list[StoredSketch]]:
    """Give the sketches that may be added up, each time oldest first."""

    def kind(sketch: StoredSketch) -> tuple[str, bool, bool]:
        return sketch.encoding, sketch.state is None, sketch.window.end in accepted

    for _, group in groupby(sorted((sketch for sketch in sketches if sketch.judged), key=kind), kind):
        yield list(group)


def _added_up(sketches: Sequence[StoredSketch]) -> list[StoredSketch]:
    """Add up sketches; a window that was judged again after it had gone into a day's is left out."""
    days = [sketch.window for sketch in sketches if sketch.windows > 1]
    apart = [
        sketch
        for sketch in sketches
        if sketch.windows > 1
        or not any(day.start <= sketch.window.start and sketch.window.end <= day.end for day in days)
    ]
    if len(apart) == 1:
        return apart
    total = add_up([WindowSketch.from_bytes(sketch.content) for sketch in apart])
    last = apart[-1]
    windows = sum(sketch.windows for sketch in apart)
    return [replace(last, window=total.window, rows=total.rows, content=total.to_bytes(), windows=windows)]
