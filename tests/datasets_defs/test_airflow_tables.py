"""Airflow's own tables stay bounded, on a real database of Airflow in PostgreSQL; the whole command fails there."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from datasets_defs.airflow_tables import TABLES, clean
from datasets_defs.core.errors import TransientError
from ops.stack.ports import free_port
from ops.stack.postgres import Cluster

NOW = datetime.now(UTC)
OLD, LONG_AGO = NOW - timedelta(days=100), NOW - timedelta(days=400)
BEFORE = NOW - timedelta(days=60)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PLAIN: dict[str, Any] = {"boolean": False, "integer": 1, "bigint": 1, "double precision": 1.0, "uuid": "uuid",
                         "bytea": b"", "json": "{}", "jsonb": "{}"}  # fmt: skip


def put(on: "psycopg.Connection[Any]", table: str, **values: Any) -> None:
    """Insert a row, with something plain in each column that must have a value."""
    needed = on.execute(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' "
        "AND table_name = %s AND is_nullable = 'NO' AND column_default IS NULL", (table,),
    ).fetchall()  # fmt: skip
    row: Mapping[str, Any] = {
        **{name: NOW if kind.startswith("timestamp") else PLAIN.get(kind, "x") for name, kind in needed},
        **values,
    }
    row = {name: str(uuid.uuid4()) if value == "uuid" else value for name, value in row.items()}
    names = sql.SQL(", ").join(map(sql.Identifier, row))
    marks = sql.SQL(", ").join([sql.Placeholder()] * len(row))
    on.execute(
        sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.Identifier(table), names, marks), list(row.values())
    )


def airflow(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
    command = [sys.executable, "-m", "airflow", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def url(cluster: Cluster) -> Iterator[str]:
    """A database that Airflow itself has made, with a DAG that was removed and one that runs."""
    cluster.ensure_databases(["of_airflow"])
    plain = cluster.url("of_airflow").replace("postgresql+psycopg://", "postgresql://")
    made = airflow(plain, "db", "migrate")
    assert made.returncode == 0, made.stderr[-2000:]
    with psycopg.connect(plain, autocommit=True) as on:
        put(on, "dag_bundle", name="dags")
        for dag, parsed in (("removed", OLD), ("at_work", NOW)):
            put(on, "dag", dag_id=dag, bundle_name="dags", last_parsed_time=parsed)
            put(
                on,
                "dag_version",
                id=(version := str(uuid.uuid4())),
                dag_id=dag,
                bundle_name="dags",
                created_at=LONG_AGO,
            )
            for number, began in enumerate((LONG_AGO, OLD, NOW - timedelta(days=2), NOW)):
                put(
                    on,
                    "dag_run",
                    id=10 * (dag == "removed") + number + 1,
                    dag_id=dag,
                    run_id=f"r{number}",
                    start_date=began,
                    run_after=began,
                    logical_date=None,
                    run_type="scheduled",
                    state="success",
                    clear_number=0,
                )
                put(
                    on,
                    "task_instance",
                    dag_id=dag,
                    run_id=f"r{number}",
                    task_id="t",
                    start_date=began,
                    map_index=-1,
                    dag_version_id=version,
                    state="success",
                    pool="default_pool",
                    queue="default",
                )
        for at in (LONG_AGO, OLD, NOW):
            put(on, "log", dttm=at, event="x")
    yield plain
    with psycopg.connect(plain.rsplit("/", 1)[0] + "/postgres", autocommit=True) as on:
        on.execute("DROP DATABASE of_airflow WITH (FORCE)")


def rows(url: str, table: str) -> int:
    with psycopg.connect(url) as on:
        (count,) = on.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone() or (0,)
        return int(count)


def test_old_runs_go_and_all_else_stays(url: str) -> None:
    """What `maintain` runs cleans, and again changes nothing; with the table `dag` Airflow's command still fails."""
    said = clean(url, before=BEFORE)
    assert (rows(url, "dag_run"), rows(url, "task_instance"), rows(url, "dag"), rows(url, "dag_version")) == (
        4,
        4,
        2,
        2,
    )
    assert int(said.split()[-3]) >= 6, said
    assert clean(url, before=BEFORE).endswith(": 0 rows went")
    with psycopg.connect(url) as on:
        assert on.execute("SELECT count(*) FROM log WHERE event = 'x'").fetchone() == (1,)
        tables = {name for (name,) in on.execute("SELECT tablename FROM pg_tables").fetchall()}
    assert set(TABLES) <= tables
    assert not any(name.startswith("_airflow_deleted") for name in tables)
    whole = airflow(url, "db", "clean", "--clean-before-timestamp", BEFORE.isoformat(), "--yes", "--skip-archive",
                    "--error-on-cleanup-failure", "--tables", "dag")  # fmt: skip
    assert whole.returncode != 0
    assert "task_instance_dag_version_id_fkey" in whole.stdout + whole.stderr


def test_a_database_that_is_away() -> None:
    """It is said with Airflow's words, and tried again the next day."""
    with pytest.raises(TransientError, match=r"(?s)exit code \d+: .*(refused|failed)"):
        clean(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing", before=BEFORE)
