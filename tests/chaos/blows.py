"""Blows to what all share: an open reader, a locked table, a silent server, slow loads and a full disk."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
from sqlalchemy import make_url

from datasets_defs.core.faults import SLOW_AT
from ops.stack.layout import Layout
from ops.stack.postgres import Cluster
from tests.chaos.plan import LOAD_SECONDS, Action, Kind
from tests.disks import fill
from tests.stack import Stack

DISK_BYTES = 256 * 2**20
"""Size of the artifacts' own disk, where one may be mounted."""


class Blows:
    """Strikes one stack, and takes each blow back when its time is over."""

    def __init__(self, stack: Stack, pid: Callable[[str], int | None]) -> None:
        self.stack, self._pid = stack, pid
        self._under_way: list[tuple[float, Action, Callable[[], None]]] = []
        self._slow = stack.home / "slow-at"
        self._disk = stack.home / "artifacts"
        self._mounted = False
        stack.environment[SLOW_AT] = str(self._slow)

    def prepare(self) -> str:
        """Give the artifacts a disk of their own, where that is allowed; say what was done."""
        self._disk.mkdir(mode=0o700, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", str(self._disk)]
        self._mounted = os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0
        return "the artifacts have a small disk" if self._mounted else "no disk may be mounted: none is filled"

    def end(self) -> None:
        """Take the disk away; what is on it goes with it."""
        if self._mounted:
            subprocess.run(["umount", "-l", str(self._disk)], check=False)

    def strike(self, action: Action) -> str:
        """Do it now; give what was done."""
        try:
            undo = self._strikes()[action.kind](action)
        except (psycopg.Error, psutil.Error, OSError) as err:
            return f"{action}: {str(err).strip().splitlines()[0]}"
        if undo is None:
            return f"{action}: it cannot be done now"
        self._under_way.append((time.monotonic() + action.seconds, action, undo))
        return str(action)

    def look(self) -> list[str]:
        """Take back what has lasted long enough; give what was taken back."""
        now = time.monotonic()
        return [self._undone(each) for each in [each for each in self._under_way if each[0] <= now]]

    def release(self) -> None:
        """Take everything back."""
        for each in [*self._under_way]:
            self._undone(each)

    def silences(self, victim: str) -> bool:
        """Say whether a server is kept from answering by one of these."""
        kinds = (Kind.SILENCE, Kind.LOCK)
        at = {action.victim if action.kind is Kind.SILENCE else "postgres" for _, action, _ in self._under_way
              if action.kind in kinds}  # fmt: skip
        return victim in at

    def _undone(self, each: tuple[float, Action, Callable[[], None]]) -> str:
        self._under_way.remove(each)
        try:
            each[2]()
        except (psycopg.Error, psutil.Error, OSError) as err:
            return f"over: {each[1].kind} {each[1].victim} ({str(err).strip().splitlines()[0]})"
        return f"over: {each[1].kind} {each[1].victim}"

    def _strikes(self) -> dict[Kind, Callable[[Action], Callable[[], None] | None]]:
        return {
            Kind.READ: lambda action: self._in_transaction(f"SELECT count(*) FROM {action.victim}"),
            Kind.LOCK: lambda action: self._in_transaction(f"LOCK TABLE {action.victim} IN ACCESS EXCLUSIVE MODE"),
            Kind.SILENCE: lambda action: self._silenced(action.victim),
            Kind.SLOW: lambda _: self._slowed(),
            Kind.FULL: lambda _: self._filled(),
        }

    def _in_transaction(self, statement: str) -> Callable[[], None]:
        """Run a statement as the database's owner, and leave its transaction open."""
        layout = Layout(self.stack.home)
        loop = make_url(str(self.stack.setting("DRIFTLOOP_DATABASE_URL")))
        cluster = Cluster(layout.home / "postgres", loop.port or 5432, layout.load_credentials().postgres_password)
        url = cluster.url(str(loop.database)).replace("+psycopg", "")
        on = psycopg.connect(url, connect_timeout=3, options="-c lock_timeout=10s -c statement_timeout=20s")
        try:
            on.execute(statement)
        except psycopg.Error:
            on.close()
            raise
        return on.close

    def _silenced(self, component: str) -> Callable[[], None] | None:
        """Stop a server's processes: the kernel goes on accepting connections for them, and nobody answers."""
        pid = self._pid(component)
        if pid is None:
            return None
        main = psutil.Process(pid)
        family = [main, *main.children(recursive=True)]
        for process in family:
            process.suspend()

        def resume() -> None:
            for process in family:
                if process.is_running():
                    process.resume()

        return resume

    def _slowed(self) -> Callable[[], None]:
        self._slow.write_text(f"serving.load {LOAD_SECONDS}")
        return lambda: self._slow.unlink(missing_ok=True)

    def _filled(self) -> Callable[[], None] | None:
        if not self._mounted:
            return None
        taken: Path = fill(self._disk)
        return lambda: taken.unlink(missing_ok=True)
