"""Beginning a GPU job once, and how it stands: what its row says, and whether its process lives."""

from dataclasses import dataclass, replace
from enum import StrEnum

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.store.gpu_charges import settle
from datasets_defs.store.gpu_jobs import JobRow, JobState, begin_job, end_job, jobs_at_work, read_job
from datasets_defs.store.gpu_leases import devices_here, machine
from training.jobs.job import GPUJob, folder_of
from training.jobs.runner import ended
from training.trainers.local import DetachedTrainer

SILENT_SECONDS = 120.0
"""A job of another machine that was not heard of for so long is lost; of this machine the kernel says it at once."""


class JobStanding(StrEnum):
    """How a job stands for who watches it."""

    AT_WORK = "at_work"
    """It waits or runs."""
    ENDED = "ended"
    """Its row says how."""
    LOST = "lost"
    """Its process died without a word, or its machine did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLook:
    """How a job stands, with its row."""

    standing: JobStanding
    row: JobRow


def submit(job: GPUJob, db: Engine) -> JobRow:
    """Have a job's process begun unless it is at work, or has ended and nobody took its result; give its row.

    Killed anywhere and run again, it begins one. A job whose process died begins anew, with its checkpoints.

    Raises:
        ContractError: this machine cannot run it.
        TransientError: PostgreSQL is away.
    """
    devices_here(job.gpus)
    job_look = look(job.key, db)
    if job_look is not None and job_look.standing is JobStanding.AT_WORK:
        return job_look.row
    if job_look is not None and job_look.standing is JobStanding.ENDED and job_look.row.taken_at is None:
        return job_look.row
    if job_look is not None and job_look.standing is JobStanding.LOST:
        _settle_lost(job, job_look.row, db)
    attempt = begin_job(db, job.key, job=job.name, machine=machine(), gpus=job.gpus)
    begun = replace(job, attempt=attempt)
    begun.save()
    place = DetachedTrainer(db)
    place.stop(begun)  # what an attempt before this one left: it may still be about to end
    place.submit(begun)
    row = read_job(db, job.key)
    if row is None:
        raise ContractError(f"GPU job {job.key} was removed from the database as it began; clear the task")
    return row


def look(key: str, db: Engine) -> JobLook | None:
    """Say how a job stands; None: it was never submitted.

    Raises:
        TransientError: PostgreSQL is away.
    """
    row = read_job(db, key)
    if row is None or row.state is JobState.ENDED:
        return None if row is None else JobLook(standing=JobStanding.ENDED, row=row)
    if row.machine != machine():
        is_lost = row.silent_seconds > SILENT_SECONDS
        return JobLook(standing=JobStanding.LOST if is_lost else JobStanding.AT_WORK, row=row)
    return _look_here(row, db)


def stop(key: str, db: Engine, *, who: str) -> bool:
    """End a job that waits or runs, here at once and elsewhere within seconds; False: it does neither.

    Raises:
        TransientError: PostgreSQL is away.
    """
    row = read_job(db, key)
    if row is None or not end_job(db, key, row.attempt, code=None, message=f"{who} stopped it"):
        return False
    if row.machine == machine() and (folder_of(key) / "job.json").exists():
        job = GPUJob.load(folder_of(key))
        DetachedTrainer(db).stop(job)
        _settle_lost(job, row, db)
    return True


def at_work(db: Engine) -> list[JobRow]:
    """Give the jobs that wait or run; such as died without a word are left out."""
    looks = [look(row.key, db) for row in jobs_at_work(db)]
    return [job_look.row for job_look in looks if job_look is not None and job_look.standing is JobStanding.AT_WORK]


def _look_here(row: JobRow, db: Engine) -> JobLook:
    """Look at a job of this machine: the kernel knows whether its process lives, and its file how it ended."""
    folder = folder_of(row.key)
    if not (folder / "job.json").exists():
        return JobLook(standing=JobStanding.LOST, row=row)
    job = GPUJob.load(folder)
    if job.attempt == row.attempt and DetachedTrainer(db).look(job).active:
        return JobLook(standing=JobStanding.AT_WORK, row=row)
    end = ended(job) if job.attempt == row.attempt else None
    if end is not None:
        end.tell(db, job)  # its process died before the database heard of it
    now = read_job(db, row.key)  # it may have ended between the two looks
    if now is not None and now.state is JobState.ENDED:
        return JobLook(standing=JobStanding.ENDED, row=now)
    return JobLook(standing=JobStanding.LOST, row=row)


def _settle_lost(job: GPUJob, row: JobRow, db: Engine) -> None:
    """Let the budget keep what a job that died used, as far as it was heard of."""
    if job.gpus and row.begun_at is not None:
        seconds = max(0.0, (row.beat_at - row.begun_at).total_seconds())
        settle(db, replace(job, attempt=row.attempt).charged, seconds)
    elif job.gpus:
        settle(db, replace(job, attempt=row.attempt).charged, 0.0)
