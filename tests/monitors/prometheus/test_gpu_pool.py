"""The pool `gpu`: its size, decided purely and set in a real Airflow."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine

from datasets_defs.airflow_api import AirflowApi
from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.store.heartbeats import GPU_CAPACITY, beat, training_places
from monitors.prometheus.gpu_pool import ensure, resize, size
from ops.stack.ports import free_port
from ops.stack.postgres import Cluster
from tests.airflow_server import PASSWORD, USER, airflow_server, temporary_home

HOUR = timedelta(hours=1)
MODEL = "name: {name}\nbase_model: {{}}\ntraining_text: builtin:python-docs\n"


@pytest.mark.parametrize(
    ("total", "needs", "slots"),
    [
        pytest.param(8, [], 8, id="one training a GPU"),
        pytest.param(8, [1, 4], 2, id="each may be the one that takes four"),
        pytest.param(7, [4], 1, id="three are left over"),
        pytest.param(2, [4], 1, id="a training that cannot run waits at its cluster"),
        pytest.param(0, [1], 1, id="on the CPU, one at a time"),
        pytest.param(3.0, [0, 0], 3, id="trainings that take none"),
    ],
)
def test_the_size_is_what_the_gpus_can_take(total: float, needs: list[int], slots: int):
    """A slot is one training of as many GPUs as the greediest model asks for; there is always one."""
    assert size({"total": total}, age=HOUR, patience=2 * HOUR, needs=needs).slots == slots


@pytest.mark.parametrize(
    ("seen", "age"),
    [
        pytest.param({"total": None}, HOUR, id="Prometheus could not tell"),
        pytest.param({"free": 3}, HOUR, id="of an earlier release"),
        pytest.param({"total": 3}, 3 * HOUR, id="nobody looked for three windows"),
        pytest.param({}, None, id="nobody ever looked"),
    ],
)
def test_what_is_not_known_changes_nothing(seen: dict, age: timedelta | None):
    """A missing or stale capacity is no capacity of zero."""
    assert size(seen, age=age, patience=2 * HOUR, needs=[1]).slots is None


@pytest.fixture(scope="module")
def airflow(cluster: Cluster) -> Iterator[AirflowApi]:
    """A real api-server."""
    cluster.ensure_databases(["pool_airflow"])
    with temporary_home() as folder, airflow_server(folder, cluster.url("pool_airflow"), {}) as server:
        yield AirflowApi(url=server.url, login=USER, password=PASSWORD)


def slots(airflow: AirflowApi) -> int:
    with airflow.session() as client:
        return client.get("/api/v2/pools/gpu").raise_for_status().json()["slots"]


def changes(airflow: AirflowApi) -> int:
    """Count what Airflow's audit log has on pools."""
    with airflow.session() as client:
        entries = client.get("/api/v2/eventLogs", params={"limit": 100}).raise_for_status().json()["event_logs"]
    return len([entry for entry in entries if entry["event"] in ("post_pool", "patch_pool")])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_airflow_follows_the_gpus(airflow: AirflowApi, home: Path, engine: Engine):
    """The pool is made once, follows the GPUs, is left alone when nothing changed or is known, and comes back."""
    (home / "models" / "one.yaml").write_text(MODEL.format(name="one"))
    now = datetime.now(UTC)

    def looked(**seen: float | None) -> str:
        beat(engine, GPU_CAPACITY, seen)
        return resize(db=engine, airflow=airflow, now=now)

    assert (ensure(airflow), ensure(airflow), slots(airflow)) == (1, 1, 1)
    assert training_places(engine, [1]) is None
    assert looked(free=2, total=4) == "pool gpu: 1 -> 4: 4 GPUs work, and a training takes up to 1: 4 at a time"
    assert (slots(airflow), training_places(engine, [1])) == (4, 4)
    made = changes(airflow)
    assert looked(free=0, total=4).startswith("pool gpu stays at 4")
    assert looked(free=None, total=None) == "pool gpu stays at 4: how many GPUs there are is not known"
    assert training_places(engine, [2]) == 4
    assert changes(airflow) == made
    (home / "models" / "two.yaml").write_text(
        MODEL.format(name="two") + "trainer: {kind: kubernetes, image: ours, gpus: 2}\n"
    )
    assert looked(free=0, total=4).startswith("pool gpu: 4 -> 2")
    with airflow.session() as client:
        client.delete("/api/v2/pools/gpu").raise_for_status()
    assert looked(free=0, total=0).startswith("pool gpu made with 1")
    assert (slots(airflow), training_places(engine, [1])) == (1, 1)


@pytest.mark.slow
def test_who_may_not_is_told_what_is_needed(airflow: AirflowApi):
    """A wrong password is wrong for good; the message has no password in it."""
    wrong = AirflowApi(url=airflow.url, login=USER, password="another-password")
    with pytest.raises(ContractError, match="airflow_api needs a user who may") as told:
        ensure(wrong)
    assert "another-password" not in f"{told.value!r} {wrong!r}"


@pytest.mark.slow
def test_a_token_is_enough(airflow: AirflowApi):
    """Without a login the password is a token, for Airflows whose users come from elsewhere."""
    login = httpx.post(
        f"{airflow.url}/auth/token", json={"username": USER, "password": PASSWORD}, trust_env=False, timeout=60
    )
    by_token = AirflowApi(url=airflow.url, login=None, password=login.raise_for_status().json()["access_token"])
    assert ensure(by_token) == slots(airflow)


def test_airflow_away_may_pass(engine: Engine):
    """An Airflow that does not answer is asked again later."""
    with pytest.raises(TransientError, match="does not answer"):
        resize(
            db=engine,
            airflow=AirflowApi(url=f"http://127.0.0.1:{free_port()}", login=USER, password=PASSWORD),
            now=datetime.now(UTC),
        )
