"""Runs DAGs of the stack from outside, as a person would by the form, and waits for their end."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from datasets_defs.airflow_api import AirflowApi
from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.waiting import wait_until

ENDED = ("success", "failed")


class DagRuns:
    """The stack's DAGs."""

    def __init__(self, api: AirflowApi) -> None:
        self._api = api

    def run(self, dag_id: str, form: Mapping[str, Any], *, seconds: float) -> dict[str, int]:
        """Run a DAG with a form's values until it has ended well; give how many tasks ended in which state.

        Raises:
            ContractError: the run failed; names the tasks.
            TransientError: Airflow is away, or the run has not ended in time.
        """
        run_id = self.start(dag_id, form, seconds=seconds)
        runs = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"
        state = wait_until(
            lambda: self._ended(runs),
            seconds=seconds,
            every=1,
            forgive=(httpx.HTTPError,),
            complain=lambda last: TransientError(
                f"run {run_id} of {dag_id} has not ended after {seconds:.0f} s {last or ''}"
            ),
        )
        tasks = self._tasks(runs)
        if state != "success":
            failed = sorted({task["task_id"] for task in tasks if task["state"] == "failed"})
            raise ContractError(
                f"run {run_id} of {dag_id} failed in {', '.join(failed) or 'no task'}; see its log in Airflow"
            )
        states = [str(task["state"]) for task in tasks]
        return {name: states.count(name) for name in sorted(set(states))}

    def start(self, dag_id: str, form: Mapping[str, Any], *, seconds: float) -> str:
        """Trigger a DAG with a form's values, once the dag-processor has read its file; give the run's id.

        Raises:
            TransientError: Airflow is away, or does not know the DAG in time.
        """

        def triggered() -> str:
            with self._api.session() as client:
                body = {"logical_date": None, "conf": dict(form)}
                answer = client.post(f"/api/v2/dags/{dag_id}/dagRuns", json=body)
                return str(answer.raise_for_status().json()["dag_run_id"])

        return wait_until(
            triggered,
            seconds=seconds,
            every=1,
            forgive=(httpx.HTTPError,),
            complain=lambda last: TransientError(f"{dag_id} cannot be triggered: {last}"),
        )

    def has_failed(self, dag_id: str, run_id: str) -> bool:
        """Say whether a run has ended badly; while Airflow is away, that it has not."""
        try:
            return self._ended(f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}") == "failed"
        except httpx.HTTPError:
            return False

    def _ended(self, runs: str) -> str:
        with self._api.session() as client:
            state = str(client.get(runs).raise_for_status().json()["state"])
        return state if state in ENDED else ""

    def _tasks(self, runs: str) -> list[dict[str, Any]]:
        with self._api.session() as client:
            answer = client.get(f"{runs}/taskInstances", params={"limit": 1000})
            tasks: list[dict[str, Any]] = answer.raise_for_status().json()["task_instances"]
        return tasks
