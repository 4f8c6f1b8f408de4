"""`python -m training.jobs.runner FOLDER`: the process of a GPU job.

It is no part of Airflow's task: it waits for GPUs and the budget, runs the user's program while the job is wanted, and
writes down how that ended, in PostgreSQL and beside its log. Whoever watches may die.
"""

import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.store.artifacts import write_bytes
from datasets_defs.store.database import database_errors, engine
from datasets_defs.store.gpu_charges import charge, settle
from datasets_defs.store.gpu_jobs import end_job, tell_job
from datasets_defs.store.gpu_leases import Lease, hold_again, lease
from training.jobs.job import GPUJob
from training.jobs.program import Program, ProgramEnd

log = logging.getLogger(__name__)
WAIT_SECONDS = 2.0
"""Between two looks at what is waited for."""
AWAY_SECONDS = 600.0
"""How long a job that has ended tries to say so while PostgreSQL is away; its file says it, too."""


class _UnwantedError(Exception):
    """Somebody stopped the job, or another attempt of it has begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """How an attempt ended, as its file keeps it."""

    attempt: int
    code: int | None
    """None: the program was never begun."""
    message: str
    seconds: float = 0.0
    result: Any = None

    def save(self, job: GPUJob) -> None:
        """Write it whole or not at all."""
        write_bytes(str(job.folder / "ended.json"), json.dumps(asdict(self)).encode())

    def tell(self, db: Engine, job: GPUJob) -> None:
        """Write it into the database and settle what the job cost; the first time counts.

        Raises:
            TransientError: PostgreSQL is away.
        """
        if job.gpus:
            settle(db, job.charged, self.seconds)
        end_job(db, job.key, self.attempt, code=self.code, message=self.message, result=self.result)


def ended(job: GPUJob) -> JobEnd | None:
    """Read how this attempt of a job ended; None: it has not, or without a word."""
    path = job.folder / "ended.json"
    try:
        end = JobEnd(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return end if end.attempt == job.attempt else None


def run(job: GPUJob, db: Engine) -> JobEnd:
    """Wait for what the job needs, run its program, and say how it ended.

    Raises:
        _UnwantedError: the job is not wanted any more; nothing is written.
    """
    give_up = time.monotonic() + job.queue_seconds
    try:
        _pay(job, db, give_up)
        with _gpus(job, db, give_up) as (on, leased):
            _tell(job, db, devices=leased.devices, message=f"runs on {', '.join(leased.devices) or 'no GPU'}")
            done = _watched(Program(job, leased), job, db, on, leased)
    except ContractError as err:
        return JobEnd(attempt=job.attempt, code=None, message=str(err))
    return JobEnd(attempt=job.attempt, code=done.code, message=done.message, seconds=done.seconds, result=done.result)


def _watched(program: Program, job: GPUJob, db: Engine, on: Connection, leased: Lease) -> ProgramEnd:
    def beat(progress: Mapping[str, float]) -> None:
        _tell(job, db, progress=progress)
        try:
            hold_again(on, leased.devices)
        except TransientError as err:
            log.warning("%s; the file's locks keep the GPUs meanwhile", err)

    done = program.watch(beat)
    _tell(job, db, progress=program.progress)
    return done


def _pay(job: GPUJob, db: Engine, give_up: float) -> None:
    """Take the job's GPU-hours from the fleet's budget, once it has them."""
    while job.gpus:
        try:
            with database_errors("taking GPU-hours from the budget"), db.begin() as on:
                decision = charge(on, job.charged)
        except TransientError as err:
            log.warning("%s", err)
            decision = None
        if decision is not None and decision.go:
            return
        if decision is not None and decision.not_before is None:
            raise ContractError(f"{decision.reason}; raise DRIFTLOOP_GPU_HOURS_PER_WEEK, or shorten max_time")
        _wait(job, db, decision.reason if decision else "PostgreSQL is away", give_up)


@contextmanager
def _gpus(job: GPUJob, db: Engine, give_up: float) -> Iterator[tuple[Connection, Lease]]:
    """Wait for the job's GPUs and hold them."""
    while True:
        with database_errors("leasing GPUs"), db.connect() as opened:
            on = opened.execution_options(isolation_level="AUTOCOMMIT")
            with lease(on, job.gpus, holder=job.key) as leased:
                if leased is not None:
                    yield on, leased
                    return
        _wait(job, db, f"{job.gpus} GPUs are not free; `driftloop gpus` says who has them", give_up)


def _wait(job: GPUJob, db: Engine, why: str, give_up: float) -> None:
    if time.monotonic() > give_up:
        raise ContractError(f"it waited for its queue_time ({job.queue_seconds:g} s) in vain: {why}")
    log.info("%s: %s", job.name, why)
    _tell(job, db, message=why)
    time.sleep(WAIT_SECONDS)


def _tell(job: GPUJob, db: Engine, **news: Any) -> None:
    """Say that the job is alive; a database that is away for now stops nothing.

    Raises:
        _UnwantedError: the job is not wanted any more.
    """
    try:
        wanted = tell_job(db, job.key, job.attempt, **news)
    except TransientError as err:
        log.warning("%s; the job goes on", err)
        return
    if not wanted:
        raise _UnwantedError(f"{job.key}: attempt {job.attempt} is not wanted any more")


def _tell_end(end: JobEnd, job: GPUJob, db: Engine) -> None:
    give_up = time.monotonic() + AWAY_SECONDS
    while True:
        try:
            end.tell(db, job)
        except TransientError as err:
            if time.monotonic() > give_up:
                raise
            log.warning("%s; it is told again", err)
            time.sleep(WAIT_SECONDS)
        else:
            return


def main(arguments: list[str]) -> int:
    """Run a job to its end; 0 when it is known how it ended."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stdout)
    job, db = GPUJob.load(Path(arguments[0])), engine()
    try:
        end = run(job, db)
    except _UnwantedError as err:
        log.info("%s", err)
        return 1
    except TransientError as err:
        log.error("%s: the next try of the task begins it again", err)  # noqa: TRY400 the message says it all
        return 1
    end.save(job)
    log.info("%s: %s", job.name, end.message)
    _tell_end(end, job, db)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
