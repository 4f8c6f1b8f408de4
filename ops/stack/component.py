"""`python -m ops.stack.component NAME`: clear away what an earlier incarnation left, then become the component.

A component that is killed leaves its children: Airflow's local workers ignore SIGTERM and hold ports and tasks. They
are found by their environment, which every child inherits, wherever it was started from and whatever group it is in.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import psutil

from ops.stack.layout import Layout

GENTLY_SECONDS = 30
"""How long PostgreSQL gets for an orderly end; everything else is killed at once."""
GENTLE = {"postgres": signal.SIGINT}
"""Components that are asked to end before they are killed, with the signal that asks."""


def leftovers(home: Path, component: str | None = None) -> list[psutil.Process]:
    """Find the processes of a stack, or of one of its components, by the environment they were started with."""
    processes = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            environment = process.environ()
        except (psutil.Error, OSError):  # gone meanwhile, or somebody else's
            continue
        name = environment.get("DRIFTLOOP_COMPONENT")
        if name and environment.get("DRIFTLOOP_HOME") == str(home) and component in (None, name):
            processes.append(process)
    return processes


def end(home: Path, component: str | None = None) -> int:
    """End the processes of a stack, or of one of its components, and wait until they are gone; give their number."""
    ended: set[int] = set()
    deadline = time.monotonic() + GENTLY_SECONDS
    while remaining := leftovers(home, component):
        known = {process.pid for process in remaining}
        for process in remaining:
            _signal(process, known, first=process.pid not in ended, patient=time.monotonic() < deadline)
        ended |= known
        psutil.wait_procs(remaining, timeout=0.2)
    return len(ended)


def _signal(process: psutil.Process, known: set[int], *, first: bool, patient: bool) -> None:
    try:
        gentle = GENTLE.get(process.environ().get("DRIFTLOOP_COMPONENT", ""))
        if gentle is None or not patient:
            process.kill()
        elif first and process.ppid() not in known:  # to PostgreSQL's own children SIGINT means something else
            process.send_signal(gentle)
    except psutil.NoSuchProcess:
        pass


def disown_stale_pid(file: Path) -> None:
    """Make a `postmaster.pid` of a server that is gone harmless when its process id now belongs to another program.

    PostgreSQL would take that program for itself and never start: likely after a reboot, and in containers, which
    count from 1. It takes its own id for a stale one, and still looks whether the old shared memory is in use.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        if str(file.parent) in psutil.Process(int(lines[0])).cmdline():
            return  # the server itself, by whatever hand it was started
    except (FileNotFoundError, ValueError, IndexError, psutil.Error):  # PostgreSQL sees to these itself
        return
    with file.open("r+", encoding="utf-8") as content:  # in place: it stays its owner's
        content.write("".join([f"{os.getpid()}\n", *lines[1:]]))
        content.truncate()


def main(name: str) -> None:
    """Become the component `name` of the stack in `DRIFTLOOP_HOME`."""
    home = Path(os.environ["DRIFTLOOP_HOME"])
    end(home, name)
    if name == "postgres":
        disown_stale_pid(home / "postgres" / "postmaster.pid")
    definition = json.loads(Layout(home).components.read_text(encoding="utf-8"))[name]
    command: list[str] = definition["command"]
    os.chdir("/" if name == "postgres" else home)
    os.execvpe(command[0], command, {**os.environ, **definition["environment"]})  # noqa: S606 the component itself


if __name__ == "__main__":
    main(sys.argv[1])
