"""*Mark success* and *Mark failed* on each task of each DAG, by the code of Airflow's API, amid a run of `dag.test`.

An incident stands where it stood, no task ends in a traceback, and `reconcile` rings for the incident again.
"""

import re
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from datasets_defs.core.incidents import State
from datasets_defs.core.settings import ROOT
from datasets_defs.ledger.ledger import Ledger
from ops.verify.reading import broken_invariants
from tests.dags.test_approve import woken_by
from tests.dags.test_by_hand import WOKEN
from tests.dags.test_dag_runs import airflow_database, run  # noqa: F401 fixtures
from training.reconcile import find_due

Run = Callable[..., dict[str, str]]
TASKS = {
    "approve": ("ask",),
    "batch_inference": ("open_run", "finish"),
    "compare_champions": ("on_probation",),
    "deliver_alerts": ("deliver",),
    "evaluate": ("judge", "request_approval", "write_cards"),
    "generate_texts": ("complete_prompts", "plan", "publish_accepted"),
    "maintain": ("tidy", "tidy_files"),
    "prepare_pairs": ("wait_for_pairs",),
    "promote": ("change_champion", "write_cards"),
    "reconcile": ("ring_again", "mend_copies", "end_capacity", "ring_texts"),
    "retrain": ("train",),
    "roll_back": ("restore",),
    "roll_out": ("judge", "take_step"),
    "scale_gpu": ("ask",),
    "train_on_schedule": ("order", "hand_over"),
    "triage": ("decide",),
    "watch_drift": ("judge", "report"),
    "watch_gpu": ("judge", "size_pool"),
    "watch_quality": ("judge", "judge_end"),
}
"""Of each DAG the tasks that a person marks before they run."""
QUICK = {("triage", "decide", "failed"), ("promote", "change_champion", "success")}
CASES = [
    pytest.param(dag_id, task, mark, marks=() if (dag_id, task, mark) in QUICK else pytest.mark.slow)
    for dag_id, tasks in TASKS.items()
    for task in tasks
    for mark in ("failed", "success")
]


def press(ti, mark: str) -> None:
    """Change a task's state as the page does."""
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.datamodels.task_instances import PatchTaskInstanceBody
    from airflow.api_fastapi.core_api.routes.public.task_instances import patch_task_instance
    from airflow.models.dagbag import DBDagBag
    from airflow.utils.session import create_session

    with create_session() as session:
        patch_task_instance(
            ti.dag_id, ti.run_id, ti.task_id, DBDagBag(), PatchTaskInstanceBody(new_state=mark),
            SimpleAuthManagerUser(username="ann", role="admin"), session, map_index=ti.map_index, update_mask=None,
        )  # fmt: skip


@pytest.mark.parametrize(("dag_id", "task_id", "mark"), CASES)
def test_a_mark_moves_no_incident(
    run: Run,  # noqa: F811
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    dag_id: str,
    task_id: str,
    mark: str,
):
    """The other tasks of the run do nothing, or what is due without it; who comes next finds the incident as it was."""
    from airflow.sdk.definitions import dag as running

    ledger, asked = Ledger(engine), []
    incident, _ = ledger.open_incident(
        "first", signal="drift", degraded_since=datetime.now(UTC), reason="half drifted", evidence={}, actor="t"
    )
    really = running._run_task

    def unless_marked(*, ti, task, run_triggerer=False):
        if ti.task_id != task_id:
            return really(ti=ti, task=task, run_triggerer=run_triggerer)
        asked.append(ti.task_id)
        return press(ti, mark)

    monkeypatch.setattr(running, "_run_task", unless_marked)
    with woken_by(str(ledger.ring(incident.id))) if dag_id in WOKEN else nullcontext():
        states = run(dag_id, {"model": "first"} if dag_id == "train_on_schedule" else None)
    assert asked, f"{task_id} was never due: {states}"
    others = {name: state for name, state in states.items() if not name.startswith(f"{task_id}[")}
    assert "failed" not in others.values(), states
    assert {state for name, state in states.items() if name.startswith(f"{task_id}[")} == {mark}
    after = ledger.incident(incident.id)
    assert (after.state, after.claimed_by) == (State.OPEN, None)
    assert broken_invariants(engine)[1] == []
    later = datetime.now(UTC) + timedelta(hours=2)
    assert find_due(db=engine, actor="reconcile", now=later, ended=lambda _: True)


def test_every_dag_is_in_the_table_of_the_buttons():
    """The guide says of each DAG what *Trigger* does; each one's tasks are marked here."""
    found = {path.stem for path in (ROOT / "dags").glob("*.py")}
    table = (ROOT / "docs/how-to/airflow.md").read_text().partition("| DAG |")[2].partition("\n\n")[0]
    named = {name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert found == named == set(TASKS)
