"""Airflow's pool `gpu`: as many trainings at once as the GPUs that are there can take."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
from sqlalchemy import Engine

from datasets_defs.airflow_api import AirflowApi
from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.settings import settings
from datasets_defs.spec.files import load_all
from datasets_defs.store.heartbeats import GPU_CAPACITY, GPU_PLACES, GPU_POOL, beat, heartbeats

DESCRIPTION = "Trainings at once; driftloop sizes it by the GPUs that watch_gpu sees"
POOLS = "/api/v2/pools"


@dataclass(frozen=True, slots=True)
class Size:
    """How many slots the pool should have."""

    slots: int | None
    """None: nothing says that it should change."""
    reason: str


def size(seen: Mapping[str, Any], *, age: timedelta | None, patience: timedelta, needs: Sequence[int]) -> Size:
    """Decide the pool's size by what was seen `age` ago; a slot is one training, of as many GPUs as the greediest has.

    `needs` are the GPUs that each model's trainer asks for. Without any GPU one training at a time runs on the CPU.
    """
    total = seen.get("total")
    if age is None or total is None:
        return Size(None, "how many GPUs there are is not known")
    if age > patience:
        return Size(None, f"how many GPUs there are was last seen {age.total_seconds():.0f} s ago")
    per_training = max([1, *needs])
    slots = max(1, int(total) // per_training)
    return Size(slots, f"{int(total)} GPUs work, and a training takes up to {per_training}: {slots} at a time")


def resize(*, db: Engine, airflow: AirflowApi, now: datetime) -> str:
    """Bring the pool to the size that the newest capacity allows, making it where it is missing; say what was done.

    Trainers take a place each by the size that is seen here: a task that dies frees its slot, and its trainer goes on.

    Raises:
        ContractError: Airflow does not let this user change pools.
        TransientError: Airflow or PostgreSQL is away.
    """
    at, seen = heartbeats(db).get(GPU_CAPACITY, (None, {}))
    needs = [spec.gpus for spec in load_all()[0].values()]
    wanted = size(seen, age=None if at is None else now - at, patience=2 * settings().window_length, needs=needs)
    with _airflow(airflow) as client:
        there = _slots(client)
        if there is None:
            made = _make(client, wanted.slots or 1)
            beat(db, GPU_PLACES, {"slots": made})
            return f"pool {GPU_POOL} made with {made}: {wanted.reason}"
        if wanted.slots is None or wanted.slots == there:
            beat(db, GPU_PLACES, {"slots": there})
            return f"pool {GPU_POOL} stays at {there}: {wanted.reason}"
        # the mask says what changes; Airflow 3.3 wants the body whole all the same
        change = {"pool": GPU_POOL, "slots": wanted.slots, "include_deferred": False}
        client.patch(f"{POOLS}/{GPU_POOL}", params={"update_mask": "slots"}, json=change).raise_for_status()
        beat(db, GPU_PLACES, {"slots": wanted.slots})
    return f"pool {GPU_POOL}: {there} -> {wanted.slots}: {wanted.reason}"


def ensure(airflow: AirflowApi) -> int:
    """Make the pool with one slot unless it is there, and give its slots; without it Airflow schedules no training.

    Raises:
        ContractError: Airflow does not let this user make pools.
        TransientError: Airflow is away.
    """
    with _airflow(airflow) as client:
        return _slots(client) or _make(client, 1)


def _slots(client: httpx.Client) -> int | None:
    answer = client.get(f"{POOLS}/{GPU_POOL}")
    if answer.status_code == httpx.codes.NOT_FOUND:
        return None
    return int(answer.raise_for_status().json()["slots"])


def _make(client: httpx.Client, slots: int) -> int:
    """Make the pool; somebody who was faster is as good."""
    pool = {"name": GPU_POOL, "slots": slots, "description": DESCRIPTION, "include_deferred": False}
    answer = client.post(POOLS, json=pool)
    if answer.status_code != httpx.codes.CONFLICT:
        answer.raise_for_status()
    return slots


@contextmanager
def _airflow(airflow: AirflowApi) -> Iterator[httpx.Client]:
    """Give a client; say in our words what is wrong."""
    doing = f"the pool {GPU_POOL} in Airflow at {airflow.url}"
    try:
        with airflow.session() as client:
            yield client
    except httpx.HTTPStatusError as err:
        code = err.response.status_code
        if code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise ContractError(
                f"{doing}: user {airflow.login!r} is refused ({code}); the Connection airflow_api needs a user who may "
                "read, add and edit pools"
            ) from err
        raise TransientError(f"{doing}: it answered {code}") from err
    except (httpx.HTTPError, json.JSONDecodeError, KeyError) as err:
        raise TransientError(f"{doing}: it does not answer ({err!r})") from err
