"""Waits in the triggerer until new pairs lie in the source of a set."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from sqlalchemy import Engine

from datasets_defs.store.database import engine_for
from training.pairs.due import due_sets


class PairsTrigger(BaseTrigger):
    """Looks at the sources of some sets until one has new pairs, or a time has come.

    Listing an object store takes a while, so it is done in a thread: other triggers go on meanwhile.
    """

    def __init__(self, *, pair_sets: Sequence[str], until: str, poll_seconds: float) -> None:
        super().__init__()
        self.pair_sets, self.until, self.poll_seconds = list(pair_sets), until, poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give the class' path and the arguments that make it again in the triggerer."""
        return (
            f"{type(self).__module__}.{type(self).__name__}",
            {"pair_sets": self.pair_sets, "until": self.until, "poll_seconds": self.poll_seconds},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until a set is due; with none when the time has come, say so."""
        db = await _loop_database()
        try:
            while True:
                now = datetime.now(UTC)
                due = await asyncio.to_thread(due_sets, self.pair_sets, db, now)
                if due or now >= datetime.fromisoformat(self.until):
                    yield TriggerEvent({"due": due})
                    return
                await asyncio.sleep(self.poll_seconds)
        finally:
            db.dispose()


async def _loop_database() -> Engine:
    """Give the loop's database as a task gets it, inside the triggerer's event loop."""
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    hook = PostgresHook(connection=await PostgresHook.aget_connection("driftloop_db"))
    return engine_for(hook.sqlalchemy_url.render_as_string(hide_password=False))
