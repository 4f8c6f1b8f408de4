"""A window of many rows in PostgreSQL: from rows of the log to the verdict, rolled up already and not yet."""

from collections.abc import Iterator
from statistics import median

from sqlalchemy import text

from datasets_defs.store.partitions import ensure_days
from monitors.profiles.first import first_profile
from monitors.profiles.profile import Profile
from monitors.watch_drift import assess, judge
from tests.benchmarks.figures import Figure, wall_seconds
from tests.benchmarks.stack import fresh_loop
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation

NUMBERS, LEVELS = 9, 6
"""Attributes of the rows; with the five figures of serving that makes 20 columns."""
_FILL = """
INSERT INTO inference (model, request_id, at, model_version, prompt, completion, prompt_bits_per_byte,
    completion_bits_per_byte, prompt_tokens, completion_tokens, latency_seconds, user_id, attributes)
SELECT :model, :number || '-' || n, :start + (n - 0.5) / :rows * :length, 1, texts.prompt, NULL,
    2.5 + 0.2 * random_normal(), 1.5 + 0.3 * random_normal(), (40 + 200 * random())::int, (10 + 100 * random())::int,
    0.05 * exp(0.5 * random_normal()), 'user ' || (n * 7919::bigint % :users), jsonb_build_object({attributes})
FROM generate_series(1, :rows) AS n JOIN texts ON texts.id = n % (SELECT count(*) FROM texts)
"""


def judgements(rows: int, runs: int) -> Iterator[Figure]:
    """Time the sensor's step on a window, by the clock, since the server does part of the work; median of `runs`.

    The reference is 20,000 rows of the log, at most 5,000 of which are read. Beside the 20 columns of figures and
    attributes those of the text are counted, on 5,000 prompts.
    """
    with fresh_loop() as loop:
        spec = loop.spec()
        loop.champion()
        fill(loop, 0, min(20_000, rows))
        fill(loop, 1, rows)
        champion, window = loop.ledger.champion(MODEL), loop.window(1)
        assert champion is not None
        profile = first_profile(loop.db, spec, champion, until=loop.window(0).end)
        assert isinstance(profile, Profile), profile
        assert len(profile.encoding.of("log", "attribute")) == 5 + NUMBERS + LEVELS
        judge(spec, champion, loop.window(0), db=loop.db)  # its rows are not to be counted with the next window's
        not_yet = []
        for _ in range(runs):
            with loop.db.begin() as on:
                on.execute(text("DELETE FROM window_sketch WHERE window_end = :at"), {"at": window.end})
            not_yet.append(wall_seconds(lambda: judge(spec, champion, window, db=loop.db)))
        rolled_up = [wall_seconds(lambda: assess(spec, champion, window, db=loop.db)) for _ in range(10 * runs)]
        verdicts = assess(spec, champion, window, db=loop.db).verdicts
        judged = all(each.condition.is_known and each.evidence["rows"] == rows for each in verdicts)
        with loop.db.connect() as on:
            size = on.scalar(text("SELECT max(octet_length(content)) FROM window_sketch"))
    yield Figure(name="drift.log.judged", value=judged, unit="", gate=True, better="same", exact=True)
    yield Figure(name="drift.log.rolled_up", value=1000 * median(rolled_up), unit="ms", gate=50, better="less")
    yield Figure(name="drift.log.not_yet", value=median(not_yet), unit="s", gate=12, better="less")
    columns = len(profile.encoding.columns)
    yield Figure(name="drift.log.bytes_a_column", value=size / columns, unit="bytes", gate=18 * 1024, better="less")


def fill(loop: Loop, number: int, rows: int) -> None:
    """Log a window's rows, made by the server from a seed: real prompts, figures, and attributes of both kinds."""
    numbers = [f"'number_{at}', round((10 * {at} + random_normal())::numeric, 4)" for at in range(NUMBERS)]
    levels = [f"'level_{at}', 'level ' || floor({at + 2} * 4 * random() ^ 2)" for at in range(LEVELS)]
    window = loop.window(number)
    ensure_days(loop.db, {window.start.date()})
    with loop.db.begin() as on:
        on.execute(text("CREATE TEMP TABLE texts (id int PRIMARY KEY, prompt text) ON COMMIT DROP"))
        prompts = [{"id": at, "prompt": prompt} for at, prompt in enumerate(documentation())]
        on.execute(text("INSERT INTO texts VALUES (:id, :prompt)"), prompts)
        on.execute(text("SELECT setseed(:seed)"), {"seed": number / 100})
        on.execute(
            text(_FILL.format(attributes=", ".join([*numbers, *levels]))),
            {
                "model": MODEL, "number": str(number), "rows": rows, "users": max(rows // 5, 1),
                "start": window.start, "length": window.length,
            },
        )  # fmt: skip
    with loop.db.connect().execution_options(isolation_level="AUTOCOMMIT") as on:
        on.execute(text("ANALYZE inference"))
