"""The examples of the how-to guides as Airflow reads and runs them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, true
from sqlalchemy.orm import configure_mappers

from datasets_defs.core.settings import ROOT
from datasets_defs.store.gpu_jobs import _read

pytestmark = pytest.mark.slow  # minutes: `make test-all` runs it

EXAMPLES = ROOT / "docs/examples"


@pytest.fixture(scope="module", autouse=True)
def airflow_database() -> None:
    """Airflow's own database, in this run's AIRFLOW_HOME."""
    subprocess.run([Path(sys.executable).parent / "airflow", "db", "migrate"], check=True, capture_output=True)
    from airflow import models

    models.import_all_models()
    configure_mappers()


def bag(name: str) -> dict[str, object]:
    from airflow.dag_processing.dagbag import DagBag

    found = DagBag(str(EXAMPLES / f"{name}.py"))
    assert found.import_errors == {}
    return found.dags


def test_the_sensors_dag_can_be_copied() -> None:
    """Airflow reads it: a sensor that waits in the triggerer, then the task that adds GPUs."""
    (dag,) = bag("scale_on_pressure").values()
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
        "pressure": {"add_gpus"}, "add_gpus": set(),
    }  # fmt: skip
    assert dag.get_task("pressure").deferrable


def test_gpu_jobs_run_whole(engine: Engine, home: Path) -> None:
    """Both tasks run under Airflow, deferred; the second is two processes of torchrun on both GPUs."""
    folder = home / "dags"
    folder.mkdir()
    shutil.copy(EXAMPLES / "gpu_jobs.py", folder)
    airflow = Path(sys.executable).parent / "airflow"
    done = subprocess.run(
        [airflow, "dags", "test", "gpu_jobs"],
        env={**os.environ, "AIRFLOW__CORE__DAGS_FOLDER": str(folder), "PYTHONPATH": str(ROOT)},
        cwd=home, capture_output=True, text=True, check=False,
    )  # fmt: skip
    jobs = {row.job: row for row in _read(engine, true())}
    assert set(jobs) == {"gpu_jobs.embed", "gpu_jobs.count"}, done.stdout[-3000:] + done.stderr[-3000:]
    assert jobs["gpu_jobs.count"].result == {"rows": 900, "gpus": "0,1", "processes": "2"}
    first = jobs["gpu_jobs.embed"]
    assert (first.result, first.progress) == (900, {"step": 900, "steps": 1000})
    assert done.returncode == 0
