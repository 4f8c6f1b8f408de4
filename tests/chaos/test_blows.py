"""Each blow strikes for real, and is taken back whole."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine, text

from datasets_defs.core.errors import TransientError
from datasets_defs.core.faults import SLOW_AT
from datasets_defs.core.waiting import wait_until
from datasets_defs.store.database import database_errors
from ops.stack.layout import Credentials, Layout
from ops.stack.postgres import Cluster
from tests.chaos.blows import Blows
from tests.chaos.plan import LOAD_SECONDS, Action, Kind
from tests.stack import Stack


@pytest.fixture
def sleeper() -> Iterator[psutil.Process]:
    """A process that stands for a server."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield psutil.Process(process.pid)
    process.kill()
    process.wait()


@pytest.fixture
def blows(tmp_path: Path, cluster: Cluster, database_url: str, sleeper: psutil.Process) -> Iterator[Blows]:
    """Blows to a stack whose database is the test's."""
    secrets = dict.fromkeys(Credentials.__dataclass_fields__, "x") | {"postgres_password": cluster.password}
    layout = Layout(tmp_path)
    layout.credentials.write_text(json.dumps(asdict(Credentials(**secrets))))
    layout.settings.write_text(f"DRIFTLOOP_DATABASE_URL={database_url}\n")
    found = Blows(Stack(tmp_path), lambda _: sleeper.pid)
    found.prepare()
    yield found
    found.release()
    found.end()


def action(kind: Kind, victim: str) -> Action:
    return Action(0.0, kind, victim, seconds=600.0)


def test_a_locked_table_is_waited_for(blows: Blows, engine: Engine) -> None:
    """Nobody reads a table that somebody holds; afterwards everybody does."""
    assert blows.strike(action(Kind.LOCK, "incident")) == "exclusive lock on incident for 600 s"
    assert blows.silences("postgres")

    def read() -> int:
        with database_errors("reading"), engine.begin() as on:
            on.execute(text("SET LOCAL lock_timeout = '100ms'"))
            return int(on.scalar(text("SELECT count(*) FROM incident")) or 0)

    with pytest.raises(TransientError, match="too long"):
        read()
    blows.release()
    assert (read(), blows.silences("postgres")) == (0, False)


def test_a_reader_keeps_its_transaction_open(blows: Blows, engine: Engine) -> None:
    """Its lock on the table stays until it is taken back."""
    held = text("SELECT count(*) FROM pg_locks WHERE relation = 'inference'::regclass AND mode = 'AccessShareLock'")
    blows.strike(action(Kind.READ, "inference"))
    with engine.connect() as on:
        assert on.scalar(held) == 1
    blows.release()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as on:
        for _ in range(1_000):
            if on.scalar(held) == 0:
                return
            on.execute(text("SELECT pg_sleep(0.01)"))
    raise AssertionError("the reader is still there")


def test_a_silent_server_lives_on(blows: Blows, sleeper: psutil.Process) -> None:
    """It is stopped and not ended, and goes on afterwards."""
    blows.strike(action(Kind.SILENCE, "mlflow"))
    wait_until(lambda: sleeper.status() == "stopped", seconds=30, complain=lambda _: AssertionError("not stopped"))
    assert (blows.silences("mlflow"), blows.silences("postgres")) == (True, False)
    blows.release()
    wait_until(lambda: sleeper.status() != "stopped", seconds=30, complain=lambda _: AssertionError("still stopped"))


def test_loads_are_slow_while_a_file_says_so(blows: Blows) -> None:
    """The stack's processes know the file by the environment that they are started with."""
    file = Path(blows.stack.environment[SLOW_AT])
    blows.strike(action(Kind.SLOW, "serving"))
    assert file.read_text() == f"serving.load {LOAD_SECONDS}"
    blows.release()
    assert not file.exists()


def test_a_full_disk_has_space_again(blows: Blows) -> None:
    """Nothing can be written below the artifacts' folder for a while, where a disk may be mounted there."""
    folder = blows.stack.home / "artifacts"
    if "cannot" in blows.strike(action(Kind.FULL, "artifacts")):
        pytest.skip("mounting a small disk needs root")
    with pytest.raises(OSError, match="No space left"):
        (folder / "more").write_bytes(b"x" * 65_536)
    blows.release()
    assert (folder / "more").write_bytes(b"x" * 65_536) == 65_536
