"""Waits in the triggerer until a GPU job has ended or is lost, and passes its words on to the task's log."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.sdk import BaseHook
from airflow.triggers.base import BaseTrigger, TriggerEvent
from sqlalchemy import URL, Engine

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.store.database import engine_for
from datasets_defs.store.gpu_leases import machine
from training.jobs.job import GPUJob, folder_of
from training.jobs.standing import JobLook, JobStanding, look
from training.trainers.local import DetachedTrainer


class GPUJobTrigger(BaseTrigger):
    """Looks at one job. It holds the job's key and no more; killed and made again, it goes on looking."""

    def __init__(self, *, key: str, poll_seconds: float) -> None:
        super().__init__()
        self.key = key
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give the class' path and the arguments that make it again in the triggerer."""
        path = f"{type(self).__module__}.{type(self).__name__}"
        return path, {"key": self.key, "poll_seconds": self.poll_seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until the job works no more. PostgreSQL being away is waited out."""
        log_reader: DetachedTrainer | None = None
        told = ""
        while True:
            try:
                db = await _loop_database()
                log_reader = log_reader or DetachedTrainer(db)
                seen = await asyncio.to_thread(self._look, db)
            except TransientError as err:
                self.log.warning("%s; looking again in %s s", err, self.poll_seconds)
                await asyncio.sleep(self.poll_seconds)
                continue
            except ContractError as err:
                yield TriggerEvent({"standing": JobStanding.LOST.value, "message": str(err)})
                return
            if seen.row.message != told:
                self.log.info("%s: %s", self.key, told := seen.row.message)
            for line in await asyncio.to_thread(words, log_reader, seen):
                self.log.info("%s", line)
            if seen.standing is not JobStanding.AT_WORK:
                yield TriggerEvent({"standing": seen.standing.value, "message": seen.row.message})
                return
            await asyncio.sleep(self.poll_seconds)

    def _look(self, db: Engine) -> JobLook:
        try:
            job_look = look(self.key, db)
        finally:
            db.dispose()
        if job_look is None:
            raise ContractError(f"GPU job {self.key} is not in the database any more; clear the task")
        return job_look


def words(reader: DetachedTrainer, seen: JobLook) -> list[str]:
    """Give the lines that the job's log has gained, where it is on this machine."""
    if seen.row.machine != machine() or not (folder_of(seen.row.key) / "job.json").exists():
        return []
    return reader.said(GPUJob.load(folder_of(seen.row.key)))


async def _loop_database() -> Engine:
    """Give the loop's database as the Connection `driftloop_db` names it, inside the triggerer's event loop."""
    connection = await BaseHook.aget_connection("driftloop_db")
    url = URL.create(
        "postgresql+psycopg", username=connection.login or None, password=connection.password or None,
        host=connection.host or None, port=connection.port, database=connection.schema or None,
        query=connection.extra_dejson.get("sqlalchemy_query", {}),
    )  # fmt: skip
    return engine_for(url.render_as_string(hide_password=False))
