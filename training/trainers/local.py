"""A job as a detached process of this machine, which lives on whatever becomes of Airflow.

The process holds a file's lock from before its first instruction until the kernel lets go of it at its end. The lock
says for sure whether a job runs, so no process id of somebody else is ever taken for it.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil
from sqlalchemy import Engine

from datasets_defs.core.settings import settings
from training.trainers.contract import Look, OnThisMachine, Phase
from training.trainers.kernel import killed_since, kills_for_memory
from training.trainers.locks import flocked

COMPONENT = "trainer"
"""What the stack knows a trainer by: it ends with the whole stack, and with no other component."""
JOB = "DRIFTLOOP_JOB"
"""Variable of the environment that names the job, in each of its processes."""
FOREIGN = ("AIRFLOW", "_AIRFLOW")
"""Variables of the task that are none of the trainer's business: Airflow's secrets among them."""
KEPT = 20
"""Logs of a model's newest jobs that are kept."""
MOST_LOG_BYTES = 4 * 2**20
"""A log that is longer when its job is begun again makes room for a new one."""
TAIL_BYTES = 2000
REAP_SECONDS = 2.0
"""How long an ended process may take to say how it ended."""


class DetachedTrainer:
    """Runs jobs as processes of their own session on this machine."""

    def __init__(self, db: Engine) -> None:
        self._url = db.url.render_as_string(hide_password=False)
        self._read: dict[str, int] = {}
        self._mine: list[subprocess.Popen[bytes]] = []

    def submit(self, job: OnThisMachine) -> None:
        """Start the job's process unless it runs."""
        path = job.file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as held:
            if not _locked(held):
                return
            end_all(job)  # workers that a killed trainer left
            _make_room(job)
            held.truncate(0)
            held.write(json.dumps(kills_for_memory()))  # so many before it began, whoever looks at its end
            held.flush()
            with _log(job).open("ab") as log:
                self._read[job.key] = log.tell()
                process = subprocess.Popen(
                    [sys.executable, *job.arguments],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=self._environment(job),
                    start_new_session=True, pass_fds=[held.fileno()],
                )  # fmt: skip
        self._mine.append(process)

    def look(self, job: OnThisMachine) -> Look:
        """Say whether the job's process runs."""
        for process in self._mine:
            process.poll()  # so that none stays behind as a zombie
        path = job.file
        if not path.exists():
            return Look(Phase.ABSENT, "it was never begun on this machine")
        with path.open() as file:
            if not flocked(file, fcntl.LOCK_SH):
                return Look(Phase.RUNNING, f"its process runs on this machine; log {_log(job)}")
        self._reap()
        return Look(Phase.ENDED, f"its process has ended{self._how()}", self._was_killed_for_memory(path))

    def stop(self, job: OnThisMachine) -> None:
        """Kill the job's processes, all of them, and wait until they are gone."""
        end_all(job)

    def said(self, job: OnThisMachine) -> list[str]:
        """Read the whole lines that the log has gained."""
        path = _log(job)
        if not path.exists():
            return []
        size = path.stat().st_size
        begin = self._read.get(job.key)
        with path.open("rb") as file:
            file.seek(max(0, size - TAIL_BYTES) if begin is None else begin)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._read[job.key] = size - (len(content) - len(whole))
        lines = whole.decode("utf-8", "replace").splitlines()
        return lines[1:] if begin is None and size > TAIL_BYTES else lines

    def facts(self, _: OnThisMachine) -> dict[str, str]:
        """Say nothing: the job is on this machine, too, and knows all."""
        return {}

    def _reap(self) -> None:
        """Wait until the process that this one began last says how it ended: its lock is free a moment before."""
        for process in self._mine[-1:]:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=REAP_SECONDS)

    def _was_killed_for_memory(self, path: Path) -> bool:
        """Say whether the kernel killed the process for memory, as far as this one began it and saw how it ended."""
        code = self._mine[-1].returncode if self._mine else None
        if code != -signal.SIGKILL:
            return False
        known = path.read_text()
        return killed_since(json.loads(known) if known else None)

    def _how(self) -> str:
        """Say how the process that this one began has ended, if it began it."""
        code = self._mine[-1].returncode if self._mine else None
        if code is None:
            return ""
        return f" by signal {-code}" if code < 0 else f" with exit code {code}"

    def _environment(self, job: OnThisMachine) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        return {
            **kept,
            "DRIFTLOOP_HOME": str(settings().home.resolve()),
            "DRIFTLOOP_DATABASE_URL": self._url,
            "DRIFTLOOP_COMPONENT": COMPONENT,
            JOB: job.key,
            "PYTHONUNBUFFERED": "1",
            "PYTHONSAFEPATH": "1",  # the home has a folder `training`, and may be where Airflow works
        }


def running(home: Path) -> list[str]:
    """Name the jobs whose processes run on this machine, `MODEL/NAME`."""
    jobs = []
    for path in sorted((home / "training").glob("*/*.job")):
        with path.open() as file:
            if not flocked(file, fcntl.LOCK_SH):
                jobs.append(f"{path.parent.name}/{path.stem}")
    return jobs


def _log(job: OnThisMachine) -> Path:
    return job.file.with_suffix(".log")


def _locked(held: IO[str]) -> bool:
    """Take a job's lock; one who only looks holds it for an instant, and is waited for."""
    for _ in range(20):
        if flocked(held, fcntl.LOCK_EX):
            return True
        time.sleep(0.02)
    return False


def end_all(job: OnThisMachine) -> None:
    """Kill every process of a job but this one, whoever began it, and wait until all are gone."""
    while processes := _processes(job):
        for process in processes:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(processes, timeout=1)


def _processes(job: OnThisMachine) -> list[psutil.Process]:
    home = str(settings().home.resolve())
    processes = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except (psutil.Error, OSError):  # gone meanwhile, or somebody else's
            continue
        if process.pid != os.getpid() and (environment.get(JOB), environment.get("DRIFTLOOP_HOME")) == (job.key, home):
            processes.append(process)
    return processes


def _make_room(job: OnThisMachine) -> None:
    """Put a long log aside, and forget those of jobs long past."""
    path = _log(job)
    if path.exists() and path.stat().st_size > MOST_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    logs = sorted(path.parent.glob("*.log"), key=lambda file: file.stat().st_mtime)
    for old in logs[:-KEPT]:
        for kind in (".log", ".log.1", ".job"):
            old.with_suffix(kind).unlink(missing_ok=True)
