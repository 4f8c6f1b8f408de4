"""`batch_inference` run whole by Airflow: our own server on a real port, real PostgreSQL, and a kill in its middle."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine

from datasets_defs.core.faults import KILL_AT
from datasets_defs.core.settings import ROOT, settings
from datasets_defs.store.artifacts import read_rows
from datasets_defs.store.batch_runs import batch_runs
from tests.dags.test_dag_runs import SPEC, airflow_database, run  # noqa: F401 fixtures
from tests.serving.conftest import Running, run_server, shelf  # noqa: F401 fixtures

pytestmark = pytest.mark.slow  # minutes: `make test-all` runs it

KILLED = """
from airflow.dag_processing.dagbag import DagBag
dag = DagBag({path!r}).dags["batch_inference"]
for task in dag.tasks:
    task.retries = 0
dag.test(logical_date=None, run_conf={{"model": "first"}})
"""


def events() -> list[str]:
    """Give the keys under which `batch_completed` was rung, oldest first."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        query = (
            select(AssetEvent.partition_key)
            .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
            .where(AssetModel.name == "batch_completed")
            .order_by(AssetEvent.id)
        )
        return list(session.scalars(query))


@pytest.fixture
def served(
    run_server: Callable[..., Running],  # noqa: F811
    engine: Engine,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Running:
    """The model `first` behind our own server, with twelve rows of which one is bad, in shards of four."""
    server = run_server(engine, ("first",))
    server.promote(1, None, "first")
    monkeypatch.setenv("DRIFTLOOP_SERVING_URL", server.url)
    settings.cache_clear()
    rows = [{"id": at, "prompt": f"row {at:02d}"} for at in range(11)]
    (home / "rows.jsonl").write_text("\n".join([*map(json.dumps, rows), "{broken"]))
    return server


def described(home: Path) -> None:
    """Write the YAML, over the one that the fixture `run` wrote."""
    section = {
        "input": {"file": str(home / "rows.jsonl")},
        "id": "id",
        "max_tokens": 20,
        "pace": {"batch_prompts": 4},
    }
    (home / "models" / "first.yaml").write_text(SPEC.format(name="first") + "batch: " + json.dumps(section))


def test_killed_in_its_middle_nothing_is_asked_twice(run, served: Running, engine: Engine, home: Path):  # noqa: F811
    """A run is killed after its first shard; the next run goes on with it, to the event, and asks each row once."""
    described(home)
    before = len(events())
    killed = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED.format(path=str(ROOT / "dags" / "batch_inference.py"))],
        cwd=ROOT, env={**os.environ, KILL_AT: "batch_inference.written"}, timeout=250, capture_output=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert events()[before:] == []
    states = Counter(
        f"{name.partition('[')[0]} {state}" for name, state in run("batch_inference", {"model": "first"}).items()
    )
    assert states == {
        "open_run success": 1, "list_shards success": 1, "ask_shard success": 3, "compare_input success": 1,
        "finish success": 1,
    }  # fmt: skip
    assert events()[before:] == ["first|batch|1"]
    seen = Counter(each["prompt"] for each in served.shelf.versions[1].seen)
    assert seen == {f"row {at:02d}": 1 for at in range(11)}
    (done,) = batch_runs(engine, "first")
    rows = [row for shard in range(3) for row in read_rows(f"{done.output}/part-{shard:05d}.parquet")]
    assert [(row["id"], row["completion"], row["version"]) for row in rows[:11]] == [
        (str(at), f"v1:row {at:02d}", 1) for at in range(11)
    ]
    assert (rows[11]["fault"], done.figures["answered"], done.figures["faults"]) == (
        "unreadable",
        11,
        {"unreadable": 1},
    )
    assert done.figures["input"]["condition"] == "NO_DATA"  # the version has no reference yet
    assert done.finished_at is not None


def test_without_the_section_every_task_skips(run):  # noqa: F811
    """Nothing is opened, nothing fails, and nobody is woken."""
    before = len(events())
    states = run("batch_inference", {"model": "first"})
    assert states["open_run[-1]"] == "skipped"
    assert "failed" not in states.values()
    assert events()[before:] == []
