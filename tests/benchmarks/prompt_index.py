"""The index of prompts: what it adds to a window's verdict, and how long a question to three months of it takes."""

from collections.abc import Iterator
from datetime import timedelta
from statistics import median

import numpy as np
from sqlalchemy import text

from datasets_defs.core.windows import Window
from datasets_defs.store.prompt_vectors import nearest_by_pgvector
from monitors.profiles.first import first_profile
from monitors.similar.index import WINDOW_PROMPTS, keep_up
from monitors.similar.nearest import nearest_by_numpy
from monitors.similar.spaces import HASHED, WIDTH, PromptSpace
from monitors.watch_drift import judge
from tests.benchmarks.figures import Figure, wall_seconds
from tests.benchmarks.log_windows import fill
from tests.benchmarks.stack import fresh_loop
from tests.monitors.loop import MODEL
from tests.monitors.texts import documentation

_FILL = """
INSERT INTO prompt_vector (model, window_end, request_id, at, space, vector)
SELECT :model, :start + (1 + n / :each) * interval '1 hour', 'r' || n, :start + n * (interval '1 hour' / :each), :space,
    (SELECT array_agg((random_normal() / sqrt(:width))::real) FROM generate_series(1, :width) WHERE n IS NOT NULL)
FROM generate_series(0, :rows - 1) AS n
"""


def windows(rows: int, runs: int, *, gate: float) -> Iterator[Figure]:
    """Time a window's verdict and its index, in turns, by the clock; the least of `runs` each."""
    with fresh_loop() as loop:
        spec = loop.spec()
        loop.champion()
        fill(loop, 0, min(20_000, rows))
        fill(loop, 1, rows)
        champion, window = loop.ledger.champion(MODEL), loop.window(1)
        assert champion is not None
        first_profile(loop.db, spec, champion, until=loop.window(0).end)
        judge(spec, champion, loop.window(0), db=loop.db)
        keep_up(loop.db, spec, until=loop.window(0).end)
        judged, indexed = [], []
        for _ in range(runs):
            with loop.db.begin() as on:
                on.execute(text("DELETE FROM window_sketch WHERE window_end = :at"), {"at": window.end})
                on.execute(text("DELETE FROM prompt_vector WHERE window_end = :at"), {"at": window.end})
            judged.append(wall_seconds(lambda: judge(spec, champion, window, db=loop.db)))
            indexed.append(wall_seconds(lambda: keep_up(loop.db, spec, until=window.end)))
    yield Figure(name=f"drift.index.verdict_{rows}", value=1000 * min(judged), unit="ms")
    yield Figure(name=f"drift.index.indexed_{rows}", value=1000 * min(indexed), unit="ms")
    yield Figure(
        name=f"drift.index.added_{rows}", value=min(indexed) / min(judged), unit="share", gate=gate, better="less"
    )


def questions(days: int, runs: int) -> Iterator[Figure]:
    """Ask an index of hourly windows, as full as it gets, of random vectors: the hardest there are."""
    rows = 24 * days * WINDOW_PROMPTS
    with fresh_loop() as loop:
        start = loop.window(0).start
        with loop.db.begin() as on:
            values = {
                "model": MODEL, "start": start, "each": WINDOW_PROMPTS, "space": HASHED, "width": WIDTH, "rows": rows,
            }  # fmt: skip
            on.execute(text("SET LOCAL statement_timeout = 0"))
            on.execute(text(_FILL), values)
        with loop.db.connect().execution_options(isolation_level="AUTOCOMMIT") as on:
            on.execute(text("VACUUM ANALYZE prompt_vector"))
            size = on.scalar(text("SELECT pg_total_relation_size('prompt_vector')"))
        asked = PromptSpace(HASHED).vectors([documentation()[0]])[0]
        within = Window(start, start + timedelta(days=days + 1))

        def by_pgvector() -> list[str]:
            found = nearest_by_pgvector(loop.db, MODEL, HASHED, asked.tolist(), within, most=20)
            return [each.request_id for each in found]

        def by_numpy() -> list[str]:
            return [each.request_id for each in nearest_by_numpy(loop.db, MODEL, HASHED, asked, within, most=20)]

        recall = np.isin(by_pgvector(), by_numpy()).mean()
        pgvector = median(wall_seconds(by_pgvector) for _ in range(runs))
        numpy = median(wall_seconds(by_numpy) for _ in range(runs))
    yield Figure(name="drift.index.prompts", value=rows, unit="prompts")
    yield Figure(name="drift.index.bytes_a_prompt", value=size / rows, unit="bytes", gate=1_900, better="less")
    yield Figure(name="drift.index.pgvector", value=pgvector, unit="s", gate=2, better="less")
    yield Figure(name="drift.index.numpy", value=numpy, unit="s", gate=8, better="less")
    yield Figure(name="drift.index.same_answers", value=recall, unit="share", gate=1, better="same", exact=True)
