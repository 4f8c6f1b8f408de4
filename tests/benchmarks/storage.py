"""What a model's counts take in the database after a month of hours; those that are older are added up into days."""

from collections.abc import Iterator
from datetime import timedelta

import pandas as pd
from sqlalchemy import text

from datasets_defs.store.sketch_log import StoredSketch, save_sketch
from monitors.counts.moments import Moments
from monitors.counts.rollup import WindowSketch
from monitors.maintain import SINGLE_DAYS, compact
from tests.benchmarks.figures import Figure
from tests.benchmarks.frames import tables
from tests.benchmarks.ours import Decision
from tests.benchmarks.stack import fresh_loop
from tests.monitors.loop import MODEL, Loop

_SIZES = """
SELECT sum(octet_length(content) + coalesce(octet_length(state), 0)) AS stored,
    count(*) FILTER (WHERE windows = 1) AS single, count(*) FILTER (WHERE windows > 1) AS days, sum(rows) AS rows,
    pg_total_relation_size('window_sketch') AS on_disk
FROM window_sketch
"""


def month(rows: int, columns: int, days: int, single_days: int = SINGLE_DAYS) -> Iterator[Figure]:
    """Keep hours of so many rows as the sensor does, and add up those that are older than `single_days`."""
    both = tables(reference_rows=20_000, rows=24 * days * rows, columns=columns, seed=2)
    with fresh_loop() as loop:
        _keep(loop, Decision(both), rows, 24 * days)
        compact(loop.db, before=loop.window(24 * days).start - timedelta(days=single_days))
        with loop.db.connect().execution_options(isolation_level="AUTOCOMMIT") as on:
            on.execute(text("VACUUM FULL window_sketch"))
            sizes = on.execute(text(_SIZES)).one()
    added_up = max(days - single_days, 0)
    hours = 24 * (days - added_up)
    yield Figure(name="drift.storage.hours", value=sizes.single, unit="rows", gate=hours, better="same", exact=True)
    yield Figure(name="drift.storage.days", value=sizes.days, unit="rows", gate=added_up, better="same", exact=True)
    counted = 24 * days * rows
    yield Figure(name="drift.storage.counted", value=sizes.rows, unit="rows", gate=counted, better="same", exact=True)
    yield Figure(name="drift.storage.month", value=sizes.stored, unit="bytes")
    yield Figure(name="drift.storage.month_on_disk", value=sizes.on_disk, unit="bytes")


def _keep(loop: Loop, decision: Decision, rows: int, hours: int) -> None:
    state = decision.detector.start()
    for hour in range(hours):
        part: pd.DataFrame = decision.window.iloc[hour * rows : (hour + 1) * rows]
        columns, window = decision.sketches(part), loop.window(hour)
        state = decision.detector.step(state, columns, rows_per_user=1.0)
        loss = Moments.of(part.iloc[:, 0].to_numpy())
        content = WindowSketch(window=window, rows=rows, columns=columns, loss=loss).to_bytes()
        save_sketch(
            loop.db,
            StoredSketch(model=MODEL, version=1, window=window, encoding="benchmark", rows=rows,
                         content=content, state=state.tobytes()),
        )  # fmt: skip
