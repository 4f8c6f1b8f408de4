"""The user's program of a GPU job: started with its GPUs and what it is told, watched, and ended with its watcher."""

import json
import logging
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets_defs.core.errors import ContractError
from datasets_defs.store.gpu_leases import Lease
from training.jobs.job import GPUJob
from training.own.ending import Ended, meaning_of
from training.own.numbers import numbers_in
from training.trainers.local import JOB, end_all

FOREIGN = ("AIRFLOW", "_AIRFLOW", "DRIFTLOOP_", "MLFLOW_", "PYTHONSAFEPATH")
"""Variables that are none of the program's business: addresses and passwords among them."""
BEAT_SECONDS = 5.0
POLL_SECONDS = 0.25
END_SECONDS = 10.0
LAST_LINES, MOST_LINE_BYTES, MOST_LOG_BYTES = 30, 16 * 2**10, 32 * 2**20
MOST_NUMBERS = 50
MOST_RETURN_BYTES = 48 * 2**10
"""Of what it returns: it goes through Airflow's database."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramEnd:
    """How a program ended."""

    code: int
    """As `subprocess` gives it: negative for a signal."""
    seconds: float
    message: str
    result: Any = None


class Program:
    """One run of the user's program, whose words become the job's log."""

    def __init__(self, job: GPUJob, lease: Lease) -> None:
        self._job = job
        self._lines: queue.Queue[str | None] = queue.Queue(maxsize=1000)
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._written = 0
        self.progress: dict[str, float] = {}
        """The numbers that it said last, by name."""
        job.checkpoints.mkdir(parents=True, exist_ok=True)
        job.returns.unlink(missing_ok=True)
        directory = Path(job.directory) if job.directory else job.folder
        environment = _environment(job, lease)
        _require(job.command[0], directory, environment)
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "training.own.guard", *job.command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=environment, cwd=directory, pass_fds=lease.files,
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return time.monotonic() - self._began

    def watch(self, beat: Callable[[Mapping[str, float]], None]) -> ProgramEnd:
        """Wait for its end; `beat` is called every few seconds with its newest numbers, and may raise to end it."""
        heard = -BEAT_SECONDS
        try:
            while not (self._pass_on() and self._process.poll() is not None):
                if self.seconds > self._job.max_seconds:
                    return self._beyond()
                if self._process.poll() is not None:
                    self.end()  # its guard has ended, and something of it still writes
                if time.monotonic() - heard >= BEAT_SECONDS:
                    beat(self.progress)
                    heard = time.monotonic()
        finally:
            seconds = self.seconds
            self.end()
        code = self._process.returncode
        why = meaning_of(Ended(code=code, stopped=None, last=tuple(self._last))).reason
        return ProgramEnd(code=code, seconds=seconds, message=why, result=_returned(self._job) if not code else None)

    def end(self) -> None:
        """End it and all that it began, and wait until it is gone."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()  # the guard's leash
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        end_all(self._job)  # what left its group, or lost its guard

    def _beyond(self) -> ProgramEnd:
        self.end()
        message = f"it did not end within its max_time ({self._job.max_seconds:g} s) and was ended"
        return ProgramEnd(code=self._process.returncode or 1, seconds=self.seconds, message=message)

    def _pass_on(self) -> bool:
        """Take the lines that wait, or one that comes within a moment; say whether it will write no more."""
        with suppress(queue.Empty):
            line = self._lines.get(timeout=POLL_SECONDS)
            while line is not None:
                self._take(line)
                line = self._lines.get_nowait()
            self._lines.put(None)  # it stays over, whoever asks
            return True
        return False

    def _take(self, line: str) -> None:
        if (numbers := numbers_in(line)) is not None:
            merged = {**self.progress, **numbers}
            self.progress = dict(list(merged.items())[:MOST_NUMBERS])
        elif line.strip():
            self._last.append(line.rstrip())
        self._written += len(line)
        if self._written <= MOST_LOG_BYTES:
            sys.stdout.write(f"{line.rstrip()}\n")
            sys.stdout.flush()

    def _read(self) -> None:
        if self._process.stdout is not None:
            for line in iter(lambda: self._process.stdout.readline(MOST_LINE_BYTES), b""):  # type: ignore[union-attr]
                self._lines.put(line.decode("utf-8", "replace"))
        self._lines.put(None)


def _environment(job: GPUJob, lease: Lease) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {
        **kept,
        "PYTHONUNBUFFERED": "1",
        **job.environment,
        **lease.environment,
        JOB: job.key,
        "DRIFTLOOP_HOME": os.environ["DRIFTLOOP_HOME"],  # beside the key: by both its processes are found
        "DRIFTLOOP_GPUS": str(job.gpus),
        "DRIFTLOOP_CHECKPOINTS": str(job.checkpoints),
        "DRIFTLOOP_RETURN": str(job.returns),
    }


def _require(name: str, directory: Path, environment: Mapping[str, str]) -> None:
    if not directory.is_dir():
        raise ContractError(f"directory {directory} is no folder on this machine; name one that is there")
    there = directory / name if os.sep in name else None
    if (there is not None and os.access(there, os.X_OK)) or shutil.which(name, path=environment.get("PATH")):
        return
    where = f"in {directory}" if there is not None else f"on the PATH ({environment.get('PATH', 'which is empty')})"
    raise ContractError(f"there is no program {name} {where}; write its full path into `command`")


def _returned(job: GPUJob) -> Any:
    """Read what the program left for the tasks that follow; nothing where that is no JSON, or far too much."""
    if not job.returns.exists():
        return None
    if job.returns.stat().st_size > MOST_RETURN_BYTES:
        log.warning("%s is longer than %d bytes and is not passed on; pass a path", job.returns, MOST_RETURN_BYTES)
        return None
    try:
        return json.loads(job.returns.read_text())
    except ValueError as err:
        log.warning("%s is no JSON (%s) and is not passed on", job.returns, err)
        return None
