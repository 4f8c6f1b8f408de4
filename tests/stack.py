"""A whole stack with a home of its own, for tests that run the loop under a real scheduler."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

from datasets_defs.core.settings import ROOT

_SHORT = "-c statement_timeout=5s"
DRIFTLOOP = Path(sys.executable).parent / "driftloop"


@dataclass
class Stack:
    """A home of its own and the commands on it."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("DRIFTLOOP_", "AIRFLOW_"))}
        self.environment = {**clean, "DRIFTLOOP_HOME": str(self.home), "COLUMNS": "160"}
        self.environment["DRIFTLOOP_MODELS_DIR"] = str(self.home / "models")

    def command(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [DRIFTLOOP, *arguments],
            env=self.environment, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    def setting(self, name: str) -> str | None:
        """Read what the stack wrote for its commands, if it has yet."""
        path = self.home / "driftloop.env"
        lines = path.read_text().splitlines() if path.exists() else []
        return next((line.partition("=")[2].strip("'\"") for line in lines if line.startswith(f"{name}=")), None)

    def ask(self, query: str) -> list[tuple]:
        """Ask the loop's database; while it is away, the answer is empty."""
        url = self.setting("DRIFTLOOP_DATABASE_URL")
        if url is None:
            return []
        try:
            with psycopg.connect(
                url.replace("postgresql+psycopg://", "postgresql://"), connect_timeout=3, options=_SHORT
            ) as on:
                return on.execute(query).fetchall()
        except psycopg.Error:
            return []

    def trainer(self) -> int | None:
        """Find a trainer: the local process whose connection holds a trainer's advisory lock."""
        rows = self.ask(
            "SELECT a.client_port FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
            "WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database() "
            "AND l.classid::bigint = hashtext('driftloop trainer')::bigint & 4294967295"
        )
        ports = {row[0] for row in rows}
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port in ports and connection.pid:
                return connection.pid
        return None

    def processes(self) -> list[psutil.Process]:
        """Give the processes that belong to this home."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("DRIFTLOOP_HOME") == str(self.home):
                    found.append(process)
            except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return found


def empty_stack() -> Stack:
    """Give a stack with an empty home, without models, where every user may enter; whoever asks ends it."""
    home = Path(tempfile.mkdtemp(prefix="driftloop-test-loop-"))
    home.chmod(0o755)  # for a root user PostgreSQL runs as another one, who has to get in
    (home / "models").mkdir()
    return Stack(home)


@contextmanager
def new_stack() -> Iterator[Stack]:
    """Give a stack with an empty home and the shipped model; whatever runs in it at the end is stopped."""
    stack = empty_stack()
    shipped = (ROOT / "models" / "docs-writer.yaml").read_text()
    (stack.home / "models" / "docs-writer.yaml").write_text(shipped.replace("train_seconds: 45", "train_seconds: 30"))
    try:
        yield stack
    finally:
        stack.command("down")
        shutil.rmtree(stack.home, ignore_errors=True)
