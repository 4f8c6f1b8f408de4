"""Jobs of `GPUJobOperator` in PostgreSQL: what they wait for, how far they are, and how they ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Engine, func, null, select, update
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.plain import clean_text, plain
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors

MOST_WORDS = 4_000
"""Characters of a message that are kept."""


class JobState(StrEnum):
    """Where a job stands. One whose process died still stands where it was, and is heard of no more."""

    WAITING = "waiting"
    """For GPUs, or for the fleet's budget."""
    RUNNING = "running"
    ENDED = "ended"
    """Well or not: its exit code says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One row of `gpu_job`."""

    key: str
    job: str
    machine: str
    gpus: int
    attempt: int
    state: JobState
    devices: list[str] | None
    progress: dict[str, float] | None
    message: str
    exit_code: int | None
    """None: it was never begun, or has not ended."""
    result: Any
    submitted_at: datetime
    begun_at: datetime | None
    beat_at: datetime
    ended_at: datetime | None
    taken_at: datetime | None
    silent_seconds: float
    """Since it was last heard of, by the database's clock."""


def read_job(db: Engine, key: str) -> JobRow | None:
    """Read a job; None: it was never submitted.

    Raises:
        TransientError: PostgreSQL is away.
    """
    jobs = _read(db, tables.gpu_job.c.key == key)
    return jobs[0] if jobs else None


def jobs_at_work(db: Engine) -> list[JobRow]:
    """Read the jobs that wait or run, oldest first; also such as died without a word."""
    return _read(db, tables.gpu_job.c.state != JobState.ENDED)


def begin_job(db: Engine, key: str, *, job: str, machine: str, gpus: int) -> int:
    """Write down that a process of a job is to begin; give the number of the attempt, which fences out earlier ones."""
    table = tables.gpu_job
    anew = {
        "job": job, "machine": machine, "gpus": gpus, "state": JobState.WAITING, "devices": null(), "progress": null(),
        "result": null(), "message": "it begins", "exit_code": None, "submitted_at": func.now(), "begun_at": None,
        "beat_at": func.now(), "ended_at": None, "taken_at": None,
    }  # fmt: skip
    statement = insert(table).values(key=key, attempt=1, **anew)
    again = statement.on_conflict_do_update(index_elements=["key"], set_={**anew, "attempt": table.c.attempt + 1})
    with database_errors("beginning a GPU job"), db.begin() as on:
        return int(on.execute(again.returning(table.c.attempt)).scalar_one())


def tell_job(
    db: Engine,
    key: str,
    attempt: int,
    *,
    message: str | None = None,
    devices: Sequence[str] | None = None,
    progress: Mapping[str, float] | None = None,
) -> bool:
    """Say that an attempt is alive, and what is new; with `devices` it has its GPUs and runs. False: it is not wanted.

    Raises:
        TransientError: PostgreSQL is away.
    """
    values: dict[str, Any] = {"beat_at": func.clock_timestamp()}
    if message is not None:
        values["message"] = clean_text(message)[:MOST_WORDS]
    if devices is not None:
        values |= {"state": JobState.RUNNING, "devices": list(devices), "begun_at": func.clock_timestamp()}
    if progress is not None:
        values["progress"] = plain(dict(progress))
    return _write(db, key, attempt, values)


def end_job(db: Engine, key: str, attempt: int, *, code: int | None, message: str, result: Any = None) -> bool:
    """Write down how an attempt ended, the first time it is said; False: it had ended, or another has begun."""
    return _write(
        db, key, attempt,
        {
            "state": JobState.ENDED, "exit_code": code, "message": clean_text(message)[:MOST_WORDS],
            "result": null() if result is None else plain(result),
            "beat_at": func.clock_timestamp(), "ended_at": func.clock_timestamp(),
        },
    )  # fmt: skip


def take_job(db: Engine, key: str, attempt: int) -> None:
    """Write down that a task took an attempt's result; run again afterwards, the job begins anew."""
    table = tables.gpu_job
    which = (table.c.key == key, table.c.attempt == attempt, table.c.state == JobState.ENDED)
    with database_errors("taking a GPU job's result"), db.begin() as on:
        on.execute(update(table).where(*which).values(taken_at=func.now()))


def _write(db: Engine, key: str, attempt: int, values: Mapping[str, Any]) -> bool:
    table = tables.gpu_job
    which = (table.c.key == key, table.c.attempt == attempt, table.c.state != JobState.ENDED)
    with database_errors("writing how a GPU job stands"), db.begin() as on:
        return on.execute(update(table).where(*which).values(values)).rowcount > 0


def _read(db: Engine, which: Any) -> list[JobRow]:
    table = tables.gpu_job
    silent = func.extract("epoch", func.clock_timestamp() - table.c.beat_at).label("silent_seconds")
    with database_errors("reading GPU jobs"), db.connect() as on:
        rows = on.execute(select(table, silent).where(which).order_by(table.c.submitted_at, table.c.key))
        return [
            JobRow(**{**row._mapping, "state": JobState(row.state), "silent_seconds": float(row.silent_seconds)})
            for row in rows
        ]
