"""What the loop costs after a year: a year's traces of a fleet are written, and every reader is timed before and after.

What `maintain` would have deleted by then is written, too, and deleted by it: the disk is that of the retention table.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from statistics import median
from typing import Any

from sqlalchemy import func, select, text

from datasets_defs.core.windows import Window
from datasets_defs.fleet import for_each
from datasets_defs.store.database import engine_for
from datasets_defs.store.heartbeats import heartbeats
from datasets_defs.store.retention import _past, drop_old
from monitors import judge_end, watch_drift
from monitors.exporter import LoopCollector
from monitors.verdicts.conclude import judged_window
from ops.cli.watch.status_report import _models as read_status
from ops.page.reading import read_model, read_overview
from tests.benchmarks.figures import Figure, traced_bytes, wall_seconds
from tests.benchmarks.fleet import clones, one_judged_model
from tests.benchmarks.stack import fresh_loop
from tests.monitors.loop import MODEL, Loop
from training.reconcile import _look_at, find_due

MOST = 1.2
"""How many times as slow, and as large, a reader may be after the year."""
RUNS = 9
"""Turns; the middle one counts, so that what else the machine does in one turn decides nothing."""
SENSED = 10
"""Models of the fleet whose window is judged."""
SLACK_BYTES = 256 * 1024
"""Memory that is no growth: a cache that was filled once."""
VERDICT_DAYS, MESSAGE_DAYS = 420, 180
"""Somewhat more than the limits, so that there is something to delete."""
WEEK = 7
"""Days behind the fleet that a year is compared with."""

_TRACES = {
    "verdicts": (
        'INSERT INTO verdict (model, signal, window_start, window_end, condition, reason, method, score, "limit", '
        "champion_version, evidence, judged_at) SELECT m.model, v.signal, v.window_start - n * :length, "
        'v.window_end - n * :length, v.condition, v.reason, v.method, v.score, v."limit", v.champion_version, '
        "v.evidence, v.judged_at - n * :length FROM champion m, verdict v, "
        "generate_series(1, :verdict_windows) AS n WHERE v.model = :of AND v.window_end = :newest"
    ),
    "sketches": (
        "INSERT INTO window_sketch (model, version, window_end, window_start, encoding, rows, content, state, judged, "
        "windows) SELECT m.model, s.version, s.window_end - n * :length, s.window_start - n * :length, s.encoding, "
        "s.rows, s.content, s.state, true, CASE WHEN n > 864 THEN 24 ELSE 1 END FROM champion m, window_sketch s, "
        "generate_series(1, :windows) AS n WHERE s.model = :of AND s.window_end = :newest "
        "AND (n <= 864 OR n % 24 = 0) AND n <= 90 * 24"
    ),
    "incidents": (
        "INSERT INTO incident (model, state, signal, opened_at, updated_at, degraded_since, closed_at, attempt, cause, "
        "challenger_version, evidence) SELECT m.model, 'resolved', 'loss', at, at + interval '5 hours', at, "
        "at + interval '5 hours', 1, 'quality_loss', n, jsonb_build_object('loss', v.evidence) "
        "FROM champion m, generate_series(1, :days / 7) AS n, verdict v, "
        "LATERAL (SELECT CAST(:newest AS timestamptz) - n * interval '7 days' AS at) AS t "
        "WHERE v.model = :of AND v.signal = 'loss' AND v.window_end = :newest"
    ),
    "events": (
        "INSERT INTO incident_event (model, seq, incident_id, at, kind, actor, reason, evidence, prev_hash, hash) "
        "SELECT m.model, h.seq + n, i.id, CAST(:newest AS timestamptz) - (:events - n) * interval '1 hour', "
        "(ARRAY['note', 'rung', 'moved', 'claimed', 'blind', 'sighted'])[1 + n % 6], 'bench', 'a reason', "
        '\'{"ring": 1, "signals": ["drift"], "signal": "drift"}\', \'\', \'\' '
        "FROM champion m JOIN history_head h USING (model), generate_series(1, :events) AS n, "
        "LATERAL (SELECT min(id) AS id FROM incident WHERE incident.model = m.model) AS i"
    ),
    "evaluations": (
        "INSERT INTO evaluation (incident_id, attempt, model, champion_version, challenger_version, rows_uri, "
        "rows_sha256, scores, decision, reason, at) SELECT id, 1, model, 1, challenger_version, 'u', 's', evidence, "
        "'reject', 'r', opened_at FROM incident"
    ),
    "promotions": (
        "INSERT INTO promotion (model, incident_id, kind, from_version, to_version, token, reason, actor, at, "
        "confirmed_at) SELECT model, id, 'promote', 1, challenger_version, -challenger_version, 'r', 'bench', "
        "opened_at, opened_at FROM incident WHERE id % 2 = 0"
    ),
    "messages": (
        "INSERT INTO alert_outbox (key, model, severity, text, blocks, created_at, sent_at) SELECT m.model || n, "
        "m.model, 'warning', 'a text', '[]', at, at FROM champion m, generate_series(1, :message_days * 3) AS n, "
        "LATERAL (SELECT CAST(:newest AS timestamptz) - n * interval '8 hours' AS at) AS t"
    ),
    "feedback": (
        "INSERT INTO feedback (model, request_id, score, received_at) SELECT m.model, 'old-' || n, 0.5, "
        "CAST(:newest AS timestamptz) - n * interval '1 hour' FROM champion m, generate_series(1, :windows) AS n"
    ),
    "shadow": (
        "INSERT INTO shadow_score (model, champion_version, request_id, previous_version, at, bytes, champion_bits, "
        "previous_bits) SELECT m.model, 1, 'old-' || n, 0, CAST(:newest AS timestamptz) - n * interval '1 hour', 9, 9, "
        "9 FROM champion m, generate_series(1, :windows) AS n"
    ),
    "versions": (
        "INSERT INTO drift_profile (model, version, revision, source, rows, encoding, content, created_at) "
        "SELECT m.model, 1 + n, 1, p.source, p.rows, p.encoding, p.content, CAST(:newest AS timestamptz) - n * "
        "interval '14 days' FROM champion m, generate_series(1, :days / 14) AS n, drift_profile p WHERE p.model = :of"
    ),
}
"""What a year leaves, made by the server from the fleet's newest window; each is one statement."""


@dataclass
class _Then(Loop):
    """A loop whose window 1 is the newest that had ended when it was made, whatever the clock says later."""

    newest: Window

    def window(self, number: int) -> Window:
        """Give window `number`."""
        return self.newest if number == 1 else self.newest.before(1 - number)


def traces(models: int, days: int, rows: int = 200) -> Iterator[Figure]:
    """Time each reader, in turns, on a fleet with a week behind it and on the same fleet with so many days.

    A week fills every view that people see, and what a window is judged with.
    """
    with fresh_loop() as base:
        young = _Then(base.db, base.home, judged_window(datetime.now(UTC)))
        one_judged_model(young, rows)
        names = clones(young, models, [MODEL])
        for name in names:
            young.ledger.note(name, "note", "begins", {}, actor="bench")
        old = _copied(young)
        began = time.perf_counter()
        _live(old, days)
        yield Figure(name="control.year.written", value=time.perf_counter() - began, unit="s")
        _live(young, min(days, WEEK))
        began = time.perf_counter()
        gone = sum(drop_old(old.db, _end(old)).values())
        yield Figure(name="control.year.tidied", value=time.perf_counter() - began, unit="s")
        yield Figure(name="control.year.deleted", value=gone, unit="rows")
        for loop in (young, old):
            _settled(loop)
        for name in _readers(old, names):
            yield from _compared(name, young, old, names)
        yield from _disk(old, models)
        old.db.dispose()


def _copied(loop: "_Then") -> "_Then":
    """Give the same fleet in another database."""
    loop.db.dispose()
    server = engine_for(loop.db.url.set(database="postgres").render_as_string(hide_password=False))
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as on:
        on.execute(text(f"CREATE DATABASE old TEMPLATE {loop.db.url.database}"))
    server.dispose()
    url = loop.db.url.set(database="old").render_as_string(hide_password=False)
    return _Then(engine_for(url), loop.home, loop.newest)


def _compared(name: str, young: Loop, old: Loop, names: list[str]) -> Iterator[Figure]:
    readers = {at: _readers(loop, names)[name] for at, loop in (("young", young), ("old", old))}
    seconds: dict[str, list[float]] = {at: [] for at in readers}
    for _ in range(RUNS):
        for at, loop in (("young", young), ("old", old)):
            seconds[at].append(_timed(loop, readers[at]))
    size = {at: _held(loop, readers[at]) for at, loop in (("young", young), ("old", old))}
    yield Figure(name=f"control.year.{name}_seconds", value=min(seconds["old"]), unit="s")
    turns = [old / young for young, old in zip(seconds["young"], seconds["old"], strict=True)]
    slower, larger = median(turns), size["old"] / max(size["young"], SLACK_BYTES)
    yield Figure(name=f"control.year.{name}_slower", value=slower, unit="x", gate=MOST, better="less")
    yield Figure(name=f"control.year.{name}_memory", value=larger, unit="x", gate=MOST, better="less")


def _readers(loop: Loop, names: list[str]) -> Mapping[str, Callable[[], object]]:
    """Give what is timed: each reader as its task, its page or its command calls it."""
    seen: dict[str, Any] = {"until": loop.until(1), "db": loop.db, "actor": "bench"}

    def sense() -> None:
        for_each(names[:SENSED], watch_drift.watch, **seen).require()
        for_each(names[:SENSED], judge_end.judge_end, **seen).require()

    def reconcile() -> None:
        now, memory = loop.until(1), {"awake": loop.until(1).isoformat()}
        find_due(db=loop.db, actor="bench", now=now)
        for_each(
            names, _look_at, db=loop.db, beats=heartbeats(loop.db), memory=memory, now=now, actor="bench"
        ).require()

    return {
        "sensing": sense,
        "reconcile": reconcile,
        "exporter": lambda: list(LoopCollector(loop.db).collect()),
        "page": lambda: read_overview(loop.db),
        "page_of_model": lambda: read_model(loop.db, names[-1]),
        "status": partial(read_status, loop.db),
    }


def _timed(loop: Loop, read: Callable[[], object]) -> float:
    _forget_newest(loop)
    return wall_seconds(read)


def _held(loop: Loop, read: Callable[[], object]) -> int:
    """Give the most that a reader holds in memory at once, in bytes."""
    _forget_newest(loop)
    return traced_bytes(read)


def _forget_newest(loop: Loop) -> None:
    """Take back what a window's judging left, so that the next run has all to do."""
    with loop.db.begin() as on:
        on.execute(text("DELETE FROM window_sketch WHERE window_end = :at"), {"at": _end(loop)})
        on.execute(text("DELETE FROM verdict WHERE window_end = :at"), {"at": _end(loop)})


def _end(loop: Loop) -> datetime:
    return loop.window(1).end


def _live(loop: Loop, days: int) -> None:
    """Write the traces of so many days; the newest window is judged once for what they are copied from."""
    seen: dict[str, Any] = {"until": loop.until(1), "db": loop.db, "actor": "bench"}
    watch_drift.watch(MODEL, **seen)
    windows = days * 24
    values: dict[str, Any] = {
        "of": MODEL, "newest": _end(loop), "length": loop.length, "days": days, "windows": windows,
        "events": windows // 4, "verdict_windows": round(24 * VERDICT_DAYS * days / 365),
        "message_days": round(MESSAGE_DAYS * days / 365),
    }  # fmt: skip
    with loop.db.begin() as on:
        on.execute(text("SET LOCAL statement_timeout = 0"))
        on.connection.driver_connection.limit_seconds = 3_600.0  # type: ignore[union-attr]  # a LimitedConnection
        on.execute(text("ALTER TABLE incident_event DISABLE TRIGGER USER"))
        for statement in _TRACES.values():
            on.execute(text(statement), {name: value for name, value in values.items() if f":{name}" in statement})
        on.execute(text("ALTER TABLE incident_event ENABLE TRIGGER USER"))
        on.execute(text("UPDATE history_head SET seq = seq + :events, hash = ''"), {"events": values["events"]})


def _settled(loop: Loop) -> None:
    """Let PostgreSQL know what there is, as its own upkeep does in the course of a year."""
    with loop.db.connect().execution_options(isolation_level="AUTOCOMMIT") as on:
        on.execute(text("SET statement_timeout = 0"))
        on.connection.driver_connection.limit_seconds = 3_600.0  # type: ignore[union-attr]  # a LimitedConnection
        on.execute(text("VACUUM ANALYZE"))
        on.execute(text("RESET statement_timeout"))
        on.invalidate()  # its limit is nobody else's


def _disk(loop: Loop, models: int) -> Iterator[Figure]:
    """Say what a model takes of the disk, and that nothing is there past its limit."""
    with loop.db.connect() as on:
        late = sum(
            on.scalar(select(func.count()).select_from(table).where(which)) or 0 for table, which in _past(_end(loop))
        )
        size = on.scalar(text("SELECT pg_database_size(current_database())")) or 0
    yield Figure(name="control.year.past_their_limit", value=late, unit="rows", gate=0, better="same")
    yield Figure(name="control.year.disk_each", value=size / models, unit="bytes")
