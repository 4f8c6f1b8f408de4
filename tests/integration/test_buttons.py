"""Airflow's buttons as its UI presses them, by the API of a real Airflow: each ends well, and the ledger is whole."""

from collections.abc import Iterator
from typing import Any

import pytest

from ops.stack.wake import own_airflow
from ops.verify.reading import broken_invariants
from tests.integration.airflow import Airflow, airflow_of_its_own, wait_until

MODELS = ["chosen", "waiting"]
MARKED = {"success": "done", "failed": "undone"}
"""A model for each mark."""

pytestmark = [pytest.mark.chain, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def airflow() -> Iterator[Airflow]:
    """One Airflow for all buttons."""
    with pytest.MonkeyPatch.context() as patch, airflow_of_its_own(patch, [*MODELS, *MARKED.values()]) as found:
        yield found


def press(method: str, path: str, content: dict[str, Any] | None = None) -> Any:
    """Ask as the page does; anything but success is the button's failure."""
    with own_airflow().session() as client:
        return client.request(method, f"/api/v2/{path}", json=content).raise_for_status().json()


def trigger(airflow: Airflow, form: dict[str, Any], key: str | None = None) -> str:
    """Press *Trigger* of triage, and wait until the run ended; give its id."""
    content = {"logical_date": None, "conf": form, "partition_key": key}
    run_id: str = press("POST", "dags/triage/dagRuns", content)["dag_run_id"]
    ended(airflow, run_id)
    return run_id


def ended(airflow: Airflow, run_id: str) -> None:
    """Wait until a run ended."""
    state = f"SELECT state FROM dag_run WHERE run_id = '{run_id}'"
    wait_until(lambda: airflow.ask_airflow(state) in ("success", "failed"), f"the end of {run_id}")


def states(run_id: str) -> dict[str, str]:
    """Give the states of a run's tasks."""
    tasks = press("GET", f"dags/triage/dagRuns/{run_id}/taskInstances")["task_instances"]
    assert all(task["try_number"] <= 1 or task["state"] != "failed" for task in tasks)
    return {task["task_id"]: task["state"] for task in tasks}


def test_trigger(airflow: Airflow) -> None:
    """With nothing due, and with a key that is none, a run skips; with a model it takes up that model's incident.

    Cleared afterwards the run decides nothing twice; a task marked as failed or as done moves no incident.
    """
    wait_until(lambda: airflow.ask_airflow("SELECT count(*) FROM dag WHERE dag_id = 'triage'"), "the DAG is there")
    for form, key in (({}, None), ({"model": "chosen"}, None), ({}, "nonsense")):
        assert set(states(trigger(airflow, form, key)).values()) == {"skipped"}
    press("PATCH", "dags/reconcile", {"is_paused": True})
    for model in MODELS:
        airflow.break_data(model)
    run_id = trigger(airflow, {"model": "chosen", "reason": "the feed is broken"})
    assert states(run_id)["decide"] == "success"
    assert "failed" not in states(run_id).values()
    assert (airflow.moves("chosen"), airflow.moves("waiting")) == ([("open", "quarantined")], [])
    notes = [event.reason for event in airflow.ledger.events("chosen") if event.kind == "note"]
    assert notes == ["asked for by airflow:driftloop: the feed is broken"]
    press("POST", "dags/triage/clearTaskInstances", {"dag_run_id": run_id, "dry_run": False, "only_failed": False})
    ended(airflow, run_id)
    assert "failed" not in states(run_id).values()
    for mark in ("failed", "success"):
        press("PATCH", f"dags/triage/dagRuns/{run_id}/taskInstances/decide", {"new_state": mark})
        ended(airflow, run_id)
    assert airflow.moves("chosen") == [("open", "quarantined")]
    assert airflow.moves("waiting") == []
    assert all(airflow.ledger.verify(model) == [] for model in MODELS)
    assert [said for said in broken_invariants(airflow.db)[1] if "waiting" not in said] == []


@pytest.mark.parametrize("mark", MARKED)
def test_what_was_marked_is_rung_again(airflow: Airflow, mark: str) -> None:
    """A task that a person marked before it ran moves no incident; reconcile rings, and the incident is taken up."""
    model = MARKED[mark]
    for dag in ("reconcile", "triage"):
        press("PATCH", f"dags/{dag}", {"is_paused": True})
    incident = airflow.break_data(model)
    run_id: str = press("POST", "dags/triage/dagRuns", {"logical_date": None, "conf": {"model": model}})["dag_run_id"]
    press("PATCH", f"dags/triage/dagRuns/{run_id}/taskInstances/decide", {"new_state": mark})
    press("PATCH", "dags/triage", {"is_paused": False})
    ended(airflow, run_id)
    assert states(run_id)["decide"] == mark
    assert airflow.moves(model) == []
    press("PATCH", "dags/reconcile", {"is_paused": False})
    wait_until(lambda: airflow.moves(model) == [("open", "quarantined")], f"somebody takes up incident {incident.id}")
    assert airflow.ledger.verify(model) == []


def test_a_model_that_is_none(airflow: Airflow) -> None:
    """The form takes the models that there are, and says so to a caller who names another."""
    with own_airflow().session() as client:
        answer = client.post("/api/v2/dags/triage/dagRuns", json={"logical_date": None, "conf": {"model": "nobody"}})
    assert answer.status_code == 400
    assert "nobody" in answer.text
