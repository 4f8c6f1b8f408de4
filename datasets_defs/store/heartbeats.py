"""Heartbeats: who was at work, and when last."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.plain import plain
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors

SENSORS = ("watch_drift", "watch_quality", "watch_gpu")
"""DAGs that beat once for each model they judged, as `SENSOR:MODEL`; every DAG beats as `dag:DAG` too."""


GPU_CAPACITY = "gpu_capacity"
"""Heartbeat of `watch_gpu` whose details hold `free` and `total`, numbers of GPUs, or null when not known."""


GPU_POOL = "gpu"
"""Airflow's pool of which each training takes a slot."""


TEXTS_POOL = "texts"
"""Airflow's pool of which each batch of `generate_texts` and each shard of `batch_inference` takes a slot."""
TEXTS_SLOTS = 2
"""Slots of that pool where we make it."""


GPU_PLACES = "gpu_places"
"""Heartbeat of `watch_gpu` whose details hold `slots`, what that pool was last seen to have."""


ALERTS_CURSOR = "alerts:cursor"
"""Heartbeat that remembers which events messages were made from; without it all would be told again."""


def beat(engine: Engine, component: str, details: dict[str, Any] | None = None) -> None:
    """Say that a component is alive, and what it wants known of itself."""
    values = {"component": component, "details": plain(details or {}), "at": func.now()}
    with database_errors("writing a heartbeat"), engine.begin() as on:
        on.execute(
            insert(tables.heartbeat).values(values).on_conflict_do_update(index_elements=["component"], set_=values)
        )


def heartbeats(engine: Engine) -> dict[str, tuple[datetime, dict[str, Any]]]:
    """Read when each component was last heard of, and what it said."""
    with database_errors("reading heartbeats"), engine.connect() as on:
        return {row.component: (row.at, row.details) for row in on.execute(select(tables.heartbeat))}


def heartbeat_of(engine: Engine, component: str) -> dict[str, Any] | None:
    """Read what one component said when it was last heard of; None: it never was."""
    query = select(tables.heartbeat.c.details).where(tables.heartbeat.c.component == component)
    with database_errors("reading a heartbeat"), engine.connect() as on:
        details: dict[str, Any] | None = on.scalar(query)
    return details


def training_places(engine: Engine, needs: Iterable[int]) -> int | None:
    """Read how many trainings may be at work at once; None: neither the pool nor a GPU was ever seen.

    They are the slots that the pool was last seen to have. Where it is kept by hand they are the GPUs that were seen,
    divided by what the greediest trainer needs.
    """
    beats = heartbeats(engine)
    slots = beats[GPU_PLACES][1].get("slots") if GPU_PLACES in beats else None
    if slots is not None:
        return int(slots)
    total = beats[GPU_CAPACITY][1].get("total") if GPU_CAPACITY in beats else None
    return None if total is None else max(1, int(total) // max([1, *needs]))
