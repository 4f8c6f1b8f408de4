"""Real parts for the tests: one PostgreSQL server for the run, a fresh database for each test that asks."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# before anything imports Airflow: a home and a database of its own
os.environ.update(
    DO_NOT_TRACK="1",
    MLFLOW_DISABLE_TELEMETRY="true",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_OFFLINE="1",
    AIRFLOW_HOME=os.environ.get("DRIFTLOOP_TEST_AIRFLOW_HOME") or tempfile.mkdtemp(prefix="driftloop-test-airflow-"),
    AIRFLOW__CORE__DAGS_FOLDER=str(Path(__file__).parent.parent / "dags"),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__UNIT_TEST_MODE="False",
)
# an empty one: what a stack in this checkout (`make demo`) wrote into its own file is not for the tests
os.environ["DRIFTLOOP_HOME"] = str(Path(os.environ["AIRFLOW_HOME"]) / "driftloop")

import hypothesis
import psycopg
import pytest
from sqlalchemy import Engine, make_url

from datasets_defs.core.settings import settings
from datasets_defs.store.database import engine_for
from datasets_defs.store.schema import migrate
from ops.stack.ports import free_port
from ops.stack.postgres import LOOP_ROLE, USER, Cluster
from tests.durations import recorded

hypothesis.settings.register_profile("driftloop", deadline=None)  # how long an example takes is the machine's affair
hypothesis.settings.load_profile("driftloop")


def pytest_unconfigure() -> None:
    """Leave no Airflow home behind; one that was named from outside stays."""
    if not os.environ.get("DRIFTLOOP_TEST_AIRFLOW_HOME"):
        shutil.rmtree(os.environ["AIRFLOW_HOME"], ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is recorded to take long as slow, and begin with the whole chain.

    That takes longest, so the other process has done the rest when it ends.
    """
    long = recorded()
    for item in items:
        if item.nodeid in long:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: "integration" not in item.path.parts)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running PostgreSQL of this run's own, outside any private folder so that an unprivileged user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="driftloop-test-pg-"))
    folder.chmod(0o755)
    server = Cluster(folder / "data", free_port(), "test")
    server.create()
    server.start()
    try:
        _hurry(server)
        yield server
    finally:
        server.stop(immediate=True)
        shutil.rmtree(folder, ignore_errors=True)


def _hurry(server: Cluster) -> None:
    """Save what only a machine that loses its power needs, and the thousands of hashes of each login.

    What is committed outlives a crash of the server, which some tests cause.
    """
    with psycopg.connect(server.url("postgres").replace("+psycopg", ""), autocommit=True) as on:
        for setting in ("fsync = off", "full_page_writes = off", "scram_iterations = 1"):
            on.execute(f"ALTER SYSTEM SET {setting}")
        on.execute("SELECT pg_reload_conf()")
    with psycopg.connect(server.url("postgres").replace("+psycopg", ""), autocommit=True) as on:
        on.execute(f"ALTER ROLE {USER} PASSWORD '{server.password}'")


@pytest.fixture(scope="session")
def migrated(cluster: Cluster) -> str:
    """The name of a database with the loop's schema, to be copied."""
    cluster.ensure_databases(["migrated"])
    cluster.ensure_role(LOOP_ROLE, "loop")
    migrate(cluster.url("migrated"), LOOP_ROLE)
    return "migrated"


@pytest.fixture
def database_url(cluster: Cluster, migrated: str) -> Iterator[str]:
    """The address of a fresh database with the loop's schema, as the loop's own role: it cannot rewrite the history."""
    with fresh_database(cluster, migrated) as url:
        yield url


@contextmanager
def fresh_database(cluster: Cluster, migrated: str) -> Iterator[str]:
    """Make a database with the loop's schema, give its address as the loop's role has it, and drop it at the end."""
    name = f"t_{secrets.token_hex(4)}"
    server = cluster.url("postgres").replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(server, autocommit=True) as on:
        on.execute(f"CREATE DATABASE {name} TEMPLATE {migrated}")
    yield cluster.url_of(LOOP_ROLE, "loop", name)
    with psycopg.connect(server, autocommit=True) as on:
        on.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on a fresh database with the loop's schema, as the loop's own role."""
    engine = engine_for(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def owner(cluster: Cluster, database_url: str) -> Iterator[Engine]:
    """An engine on the same database as its owner, who can do what the loop must not: move dates, tamper."""
    engine = engine_for(cluster.url(str(make_url(database_url).database)))
    yield engine
    engine.dispose()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home (state, artifacts) and models folder for one test, as settings see them."""
    monkeypatch.setenv("DRIFTLOOP_HOME", str(tmp_path))
    monkeypatch.setenv("DRIFTLOOP_ARTIFACT_ROOT", f"file://{tmp_path}/artifacts")
    monkeypatch.setenv("DRIFTLOOP_MODELS_DIR", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()
