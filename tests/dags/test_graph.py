"""The DAG files: they load, stay thin, and together are the loop."""

import ast
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from datasets_defs.core.settings import ROOT

DAGS = sorted((ROOT / "dags").glob("*.py"))

EMITS = {
    "watch_drift": {"data_drifted"},
    "watch_quality": {"quality_degraded", "rollback_requested"},
    "watch_gpu": {"gpu_pressure"},
    "triage": {"retrain_requested", "rollback_requested", "scale_requested"},
    "retrain": {"challenger_registered"},
    "evaluate": {"challenger_accepted", "approval_requested"},
    "approve": {"challenger_accepted"},
    "promote": {"champion_changed"},
    "roll_out": {"challenger_accepted"},
    "roll_back": {"champion_changed"},
    "train_on_schedule": {"retrain_requested"},
    "prepare_pairs": {"pairs_prepared"},
    "reconcile": {
        "triage_due",
        "retrain_requested",
        "challenger_registered",
        "approval_requested",
        "challenger_accepted",
        "rollback_requested",
        "scale_requested",
        "texts_due",
    },
    "generate_texts": {"texts_published"},
    "batch_inference": {"batch_completed"},
}
CONSUMES = {
    "triage": {"data_drifted", "quality_degraded", "gpu_pressure", "triage_due"},
    "retrain": {"retrain_requested"},
    "roll_back": {"rollback_requested"},
    "scale_gpu": {"scale_requested"},
    "evaluate": {"challenger_registered"},
    "approve": {"approval_requested"},
    "promote": {"challenger_accepted"},
    "generate_texts": {"champion_changed", "texts_due"},
    "batch_inference": {"champion_changed"},
}
FOR_USERS = {"texts_published", "pairs_prepared", "batch_completed"}
"""Assets that nobody of ours listens to: they are for DAGs of the users."""


@pytest.fixture(scope="module")
def dags() -> dict:
    """Every DAG of the bundle by id, none with an import error."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(ROOT / "dags"), collect_dags=True)
    assert not bag.import_errors
    return bag.dags


def test_one_dag_a_file_named_as_the_file(dags: dict):
    """A DAG is found by the name of its file."""
    assert sorted(dags) == [path.stem for path in DAGS]


def test_who_emits_what(dags: dict):
    """The outlets of the tasks are the arrows of the loop's picture."""

    def outlets(task) -> list:
        return task.partial_kwargs.get("outlets", []) if task.is_mapped else task.outlets

    emits = {dag_id: {outlet.name for task in dag.tasks for outlet in outlets(task)} for dag_id, dag in dags.items()}
    assert {dag_id: names for dag_id, names in emits.items() if names} == EMITS


def test_who_is_woken_by_what(dags: dict):
    """The schedules are the other ends of these arrows."""

    def listened_to(asset) -> set[str]:
        return {asset.name} if hasattr(asset, "uri") else set().union(*map(listened_to, asset.objects))

    woken = {
        dag_id: listened_to(dag.timetable.asset_condition)
        for dag_id, dag in dags.items()
        if getattr(dag.timetable, "asset_condition", None)
    }
    assert {dag_id: names for dag_id, names in woken.items() if names} == CONSUMES


def test_every_wake_up_is_heard():
    """No Asset is rung that nobody listens to, and none is listened to that nobody rings."""
    assert set().union(*EMITS.values()) - FOR_USERS == set().union(*CONSUMES.values())


def test_loading_the_bundle_imports_nothing_heavy():
    """The dag-processor parses the bundle without torch, transformers, mlflow, evidently or pandas."""
    program = (
        "import sys\n"
        "from airflow.dag_processing.dagbag import DagBag\n"
        f"bag = DagBag({str(ROOT / 'dags')!r})\n"
        "assert not bag.import_errors, bag.import_errors\n"
        "heavy = {'torch', 'transformers', 'mlflow', 'evidently', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.parametrize("path", DAGS, ids=lambda path: path.stem)
def test_a_dag_file_is_thin(path: Path):
    """A task is at most a few lines: imports, one call, one event; no branches, no SQL, no figures."""
    tree = ast.parse(path.read_text())
    assert len(path.read_text().splitlines()) <= 80
    tasks = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and any("task" in ast.unparse(d) for d in node.decorator_list)
    ]
    assert tasks
    for task in tasks:
        assert len(task.body) <= 5
        assert not [node for node in ast.walk(task) if isinstance(node, ast.If | ast.For | ast.While | ast.Try)]


@pytest.mark.parametrize("path", DAGS, ids=lambda path: path.stem)
def test_a_dag_explains_itself(path: Path, dags: dict):
    """The module's docstring is the DAG's page in the UI."""
    assert (dags[path.stem].doc_md or "").lstrip().startswith("# ")


def test_every_scheduled_dag_is_watched(dags: dict):
    """The dead man's switch knows each DAG that runs by the clock; what runs by Assets has no hour to be late."""
    from airflow.sdk import CronTriggerTimetable

    from datasets_defs.store.heartbeats import SENSORS
    from monitors.exporter_reading import scheduled

    clocked = {dag_id for dag_id, dag in dags.items() if isinstance(dag.timetable, CronTriggerTimetable)}
    assert clocked == {*SENSORS, *scheduled()}


def test_every_task_has_a_limit(dags: dict):
    """No task may hang for good; those that score for long or watch a trainer have a longer limit."""
    limits = {}
    for dag in dags.values():
        for task in dag.tasks:
            given = task.partial_kwargs if task.is_mapped else vars(task)
            limits[f"{dag.dag_id}.{task.task_id}"] = given["execution_timeout"]
    longer = {name: limit for name, limit in limits.items() if limit != timedelta(hours=1)}
    assert longer == {
        "batch_inference.ask_shard": timedelta(hours=24),
        "evaluate.judge": timedelta(hours=24),
        "generate_texts.ask": timedelta(hours=24),
        "generate_texts.complete_prompts": timedelta(hours=24),
        "compare_champions.score": timedelta(hours=24),
        "retrain.train": timedelta(days=14),
        "train_on_schedule.try_setting": timedelta(days=14),
    }


def test_every_dag_beats(dags: dict):
    """Each task's good end, with or without anything to do, is a heartbeat of its DAG."""
    from datasets_defs.assets import heard_of

    for dag in dags.values():
        for task in dag.tasks:
            given = task.partial_kwargs if task.is_mapped else vars(task)
            for moment in ("on_success_callback", "on_skipped_callback"):
                called = given[moment]
                assert heard_of in (called if isinstance(called, list | tuple) else [called]), (
                    dag.dag_id,
                    task.task_id,
                )


def test_trainings_take_a_slot_each(dags: dict):
    """What trains waits for the pool that is sized by the GPUs; nothing else takes its slots."""
    pools = {(dag.dag_id, task.task_id): task.pool for dag in dags.values() for task in dag.tasks}
    trains = [("retrain", "train"), ("train_on_schedule", "try_setting")]
    assert sorted(where for where, pool in pools.items() if pool == "gpu") == trains


@pytest.mark.slow
def test_trainings_may_have_a_queue_of_their_own():
    """DRIFTLOOP_TRAINING_QUEUE names it; without it they are in the executor's default queue."""
    program = (
        "from airflow.dag_processing.dagbag import DagBag\n"
        f"bag = DagBag({str(ROOT / 'dags' / 'retrain.py')!r})\n"
        "print('queue:', bag.dags['retrain'].get_task('train').queue)\n"
    )

    def queue(**variables: str) -> str:
        result = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program],
            env={**os.environ, **variables}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return result.stdout.rpartition("queue: ")[2].strip()

    assert queue() == "default"
    assert queue(DRIFTLOOP_TRAINING_QUEUE="gpus") == "gpus"
