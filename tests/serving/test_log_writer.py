"""The inference log's writer against a real PostgreSQL that is stopped and started under it."""

import shutil
import tempfile
import threading
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import psycopg
import pytest

from datasets_defs.core.errors import TransientError
from datasets_defs.core.windows import Window
from datasets_defs.store import inference_log
from datasets_defs.store.database import engine_for
from datasets_defs.store.inference_log import Inference
from datasets_defs.store.schema import migrate
from ops.stack.ports import free_port
from ops.stack.postgres import Cluster
from serving.log_writer import LogWriter

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
DAY = Window(datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC))


def row(number, **changes):
    return Inference(model="writer", request_id=f"r{number}", at=AT, prompt=f"prompt {number}", **changes)


class Sink:
    """An append that keeps what it is given, can be away, and can refuse some rows."""

    def __init__(self):
        self.rows, self.batches, self.dropped, self.away, self.bad = [], [], [], False, set()
        self.tries = 0

    def __call__(self, rows):
        self.tries += 1
        if self.away:
            raise TransientError("PostgreSQL is not reachable")
        if bad := [row.request_id for row in rows if row.request_id in self.bad]:
            raise psycopg.DataError(f"invalid value in {bad}")
        self.batches.append(len(rows))
        self.rows += rows
        return len(rows)

    def writer(self, **options):
        """Start a writer that writes here."""
        writer = LogWriter(self, wrote=lambda _: None, dropped=self.dropped.append, **options)
        writer.start()
        return writer


@pytest.fixture
def sink():
    return Sink()


def test_batches(sink, wait_until):
    """Rows are written in order, in batches of at most the given size."""
    writer = sink.writer(batch=10, interval=0.05)
    for number in range(25):
        writer.put(row(number))
    wait_until(lambda: len(sink.rows) == 25)
    writer.close()
    assert [r.request_id for r in sink.rows] == [f"r{n}" for n in range(25)]
    assert max(sink.batches) <= 10


def test_a_row_that_cannot_be_written_down(engine):
    """A row nested too deeply for JSON is dropped and counted; the writer lives, and the others are in the log."""
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    dropped = []
    writer = LogWriter(partial(inference_log.append, engine), wrote=lambda _: None, dropped=dropped.append)
    for each in (row(1), row(2, messages=deep), row(3)):
        writer.put(each)
    writer.start()
    writer.close()
    kept = inference_log.read_window(engine, "writer", DAY, limit=9)
    assert sorted(each["request_id"] for each in kept) == ["r1", "r3"]
    assert ([each.request_id for each in dropped], writer.lost) == (["r2"], 1)


def test_long_texts_fill_the_queue_sooner(sink):
    """The queue is bounded in characters, too: a conversation counts twice, and one row always fits."""
    writer = LogWriter(sink, wrote=lambda _: None, dropped=sink.dropped.append, capacity_chars=100)
    for number, length in enumerate((90, 9, 2)):
        writer.put(row(number, completion="x" * (length - len(f"prompt {number}"))))
    assert (writer.waiting, [each.request_id for each in sink.dropped]) == (2, ["r2"])
    writer.put(row(4, messages=[]))
    assert writer.lost == 2
    writer.start()
    writer.close()
    writer = LogWriter(sink, wrote=lambda _: None, dropped=sink.dropped.append, capacity_chars=100)
    writer.put(row(5, completion="x" * 1000))
    assert writer.waiting == 1


def test_flushed_at_shutdown(sink):
    """Closing writes what waits, without waiting for the interval."""
    writer = sink.writer(interval=3600)
    writer.put(row(1))
    writer.close()
    assert [r.request_id for r in sink.rows] == ["r1"]


def test_overflow(sink, wait_until):
    """While the database is away the newest rows beyond the capacity are dropped and counted; the kept are written."""
    sink.away = True
    writer = sink.writer(capacity=5, batch=3, interval=0.02, max_wait=0.05)
    for number in range(8):
        writer.put(row(number))
    wait_until(lambda: writer.problem)
    assert [r.request_id for r in sink.dropped] == ["r5", "r6", "r7"]
    sink.away = False
    wait_until(lambda: len(sink.rows) == 5)
    writer.close()
    assert writer.problem is None


def test_close_has_a_limit(sink):
    """With the database away closing gives up after its limit and counts the rest as dropped."""
    sink.away = True
    writer = sink.writer(interval=0.02, max_wait=0.05)
    for number in range(3):
        writer.put(row(number))
    writer.close(limit=0.3)
    assert len(sink.dropped) == 3


def test_one_bad_row(sink, wait_until):
    """A row that the database refuses is dropped and counted alone; the others of its batch are written."""
    sink.bad = {"r3"}
    writer = sink.writer(batch=10, interval=0.02)
    for number in range(6):
        writer.put(row(number))
    wait_until(lambda: len(sink.rows) == 5)
    writer.close()
    assert [r.request_id for r in sink.dropped] == ["r3"]


def test_put_from_many_threads(sink, wait_until):
    """Rows put by several threads at once are all written once."""
    writer = sink.writer(batch=50, interval=0.01)
    threads = [threading.Thread(target=lambda t=t: [writer.put(row(f"{t}-{n}")) for n in range(200)]) for t in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(sink.rows) == 800)
    writer.close()
    assert len({r.request_id for r in sink.rows}) == 800


@pytest.fixture
def own_cluster():
    """A PostgreSQL that a test may stop."""
    folder = Path(tempfile.mkdtemp(prefix="driftloop-test-log-"))
    folder.chmod(0o755)
    server = Cluster(folder / "data", free_port(), "test")
    server.create()
    server.start()
    yield server
    if server.answers():
        server.stop(immediate=True)
    shutil.rmtree(folder, ignore_errors=True)


def test_postgres_stops_and_starts(own_cluster, run_server, wait_until):
    """PostgreSQL crashes under load: requests go on being answered, and every row is in the log when it is back."""
    own_cluster.ensure_databases(["loop"])
    migrate(own_cluster.url("loop"))
    engine = engine_for(own_cluster.url("loop"))
    running = run_server(engine)
    running.service.log._max_wait = 0.5
    running.promote(1, None)
    wait_until(lambda: running.service.models["writer"].version == 1)

    def ask(count):
        body = {"model": "writer", "prompt": "hello"}
        return {httpx.post(f"{running.url}/v1/completions", json=body, timeout=20).status_code for _ in range(count)}

    assert ask(10) == {200}
    own_cluster.stop(immediate=True)
    assert ask(10) == {200}
    wait_until(lambda: running.service.log.problem)
    wait_until(lambda: "not reachable" in httpx.get(f"{running.url}/healthz", timeout=20).json()["database"])
    assert httpx.get(f"{running.url}/healthz", timeout=20).status_code == 200
    feedback = httpx.post(f"{running.url}/v1/feedback", json={"model": "writer", "request_id": "r", "score": 1})
    assert feedback.status_code == 503
    own_cluster.start()
    assert ask(10) == {200}

    today = Window.last_complete(datetime.now(UTC), DAY.length)
    both = Window(today.start, today.end + DAY.length)
    wait_until(lambda: running.service.log.waiting == 0)
    assert inference_log.count_rows(engine, "writer", both) == 30
    wait_until(lambda: httpx.get(f"{running.url}/healthz", timeout=20).json()["database"] == "ok")
    engine.dispose()


def test_real_append(engine):
    """A batch written twice, as after an answer that was lost, stands in the log once."""
    append = partial(inference_log.append, engine)
    for _ in range(2):
        writer = LogWriter(append, wrote=lambda _: None, dropped=lambda _: None, interval=0.05)
        writer.start()
        for number in range(20):
            writer.put(row(number, attributes={"n": number}))
        writer.close()
        assert writer.waiting == 0
    assert inference_log.count_rows(engine, "writer", DAY) == 20
