"""DAGs run whole, in this process, by `dag.test`: real Airflow, real PostgreSQL, Prometheus away."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import configure_mappers

from datasets_defs import fleet
from datasets_defs.core.incidents import State
from datasets_defs.core.settings import ROOT
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store.heartbeats import heartbeats
from datasets_defs.store.verdicts import newest_verdicts
from ops.stack.ports import free_port

SPEC = """
name: {name}
base_model: {{layers: 1, width: 16, heads: 2, vocabulary: 300, context: 64}}
training_text: builtin:python-docs
quality: [{{name: latency, promql: up, bad: 5}}]
gpu: [{{name: temperature, promql: up, bad: 90}}]
"""


@pytest.fixture(scope="session", autouse=True)
def airflow_database() -> None:
    """Airflow's own database, in this run's AIRFLOW_HOME; its models and API are imported before any thread runs."""
    airflow = Path(sys.executable).parent / "airflow"
    subprocess.run([airflow, "db", "migrate"], check=True, capture_output=True)
    from airflow import models
    from airflow.sdk.execution_time.supervisor import in_process_api_server

    models.import_all_models()
    configure_mappers()
    assert in_process_api_server().app is not None


@pytest.fixture
def run(home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch):
    """Give a function that runs one DAG whole and returns its tasks' states."""
    monkeypatch.setenv("AIRFLOW_CONN_DRIFTLOOP_DB", database_url.replace("postgresql+psycopg://", "postgres://"))
    monkeypatch.setenv("AIRFLOW_CONN_PROMETHEUS_DEFAULT", f"prometheus://127.0.0.1:{free_port()}?patience_seconds=1")
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", f"http://127.0.0.1:{free_port()}")
    for name in ("first", "second"):
        (home / "models" / f"{name}.yaml").write_text(SPEC.format(name=name))

    def run_dag(dag_id: str, form: dict[str, object] | None = None) -> dict[str, str]:
        from airflow.dag_processing.dagbag import DagBag

        bag = DagBag(str(ROOT / "dags" / f"{dag_id}.py"))
        assert not bag.import_errors
        dag = bag.dags[dag_id]
        for task in dag.tasks:
            task.retries = 0
        ended = dag.test(logical_date=None, run_conf=form)
        return {f"{ti.task_id}[{ti.map_index}]": str(ti.state) for ti in ended.get_task_instances()}

    return run_dag


def test_an_empty_log_is_no_data(run, engine: Engine):
    """Without a champion and without rows, every model is NO_DATA, nobody is woken, and no incident opens."""
    states = run("watch_drift")
    assert states == {"judge[0]": "skipped", "judge[1]": "skipped", "report[0]": "success", "report[1]": "success"}
    for model in ("first", "second"):
        conditions = {
            verdict.signal: str(verdict.condition) for verdict in newest_verdicts(engine, model, now=datetime.now(UTC))
        }
        assert conditions.get("drift") == "NO_DATA"
    assert Ledger(engine).open_incidents() == []


@pytest.mark.parametrize(("dag_id", "signal"), [("watch_quality", "quality:latency"), ("watch_gpu", "gpu:temperature")])
def test_prometheus_away_is_no_data(run, engine: Engine, dag_id: str, signal: str):
    """An unreachable Prometheus is NO_DATA for every model, no failure and no incident."""
    states = run(dag_id)
    assert "failed" not in states.values()
    for model in ("first", "second"):
        conditions = {
            verdict.signal: str(verdict.condition) for verdict in newest_verdicts(engine, model, now=datetime.now(UTC))
        }
        assert conditions[signal] == "NO_DATA"
    assert Ledger(engine).open_incidents() == []


def test_a_wrong_spec_stops_only_its_own_model(run, engine: Engine, home: Path):
    """One wrong YAML fails its own task; the model beside it is judged."""
    (home / "models" / "first.yaml").write_text("name: first\nbase_model: [")
    states = run("watch_drift")
    assert states == {"judge[0]": "failed", "judge[1]": "skipped", "report[0]": "failed", "report[1]": "success"}
    assert newest_verdicts(engine, "first", now=datetime.now(UTC)) == []
    assert newest_verdicts(engine, "second", now=datetime.now(UTC)) != []


def test_a_wrong_spec_stops_no_model_of_its_group(run, engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch):
    """In a fleet the tasks are no more than the groups; a wrong YAML fails its group's, and the others are judged."""
    groups = 3
    monkeypatch.setattr(fleet, "MOST_GROUPS", groups)
    names = [f"fleet-{number:02}" for number in range(2 * groups)]
    for name in ("first", "second"):
        (home / "models" / f"{name}.yaml").unlink()
    for name in names:
        (home / "models" / f"{name}.yaml").write_text(SPEC.format(name=name))
    (home / "models" / f"{names[0]}.yaml").write_text(f"name: {names[0]}\nbase_model: [")
    states = run("watch_drift")
    assert states == {
        f"{task}[{group}]": "failed" if group == 0 else fine
        for task, fine in (("judge", "skipped"), ("report", "success"))
        for group in range(groups)
    }
    judged = {name for name in names if newest_verdicts(engine, name, now=datetime.now(UTC))}
    assert judged == set(names[1:])


def test_maintain_makes_partitions(run, engine: Engine):
    """After a day's upkeep today's partition and the next ones are there."""
    states = run("maintain")
    assert {state for task, state in states.items() if not task.startswith("tidy_airflow")} == {"success"}
    assert {state for task, state in states.items() if task.startswith("tidy_airflow")} <= {"success", "skipped"}
    with engine.connect() as on:
        names = on.scalars(text("SELECT inhrelid::regclass::text FROM pg_inherits")).all()
    assert f"inference_{datetime.now(UTC):%Y%m%d}" in names
    assert len(names) >= 4


def test_messages_wait_while_slack_is_not_configured(run, engine: Engine):
    """Without a Slack connection an event becomes one waiting message, however often the DAG runs."""
    os.environ.pop("AIRFLOW_CONN_SLACK_DEFAULT", None)
    Ledger(engine).open_incident(
        "first", signal="drift", degraded_since=datetime.now(UTC), reason="half drifted", evidence={}, actor="t"
    )
    for _ in range(2):
        assert set(run("deliver_alerts").values()) == {"success"}
    with engine.connect() as on:
        assert on.execute(text("SELECT count(*), count(sent_at) FROM alert_outbox")).one() == (1, 0)


RECONCILED = {
    "mend_copies[-1]": "success",
    "ring_texts[-1]": "skipped",
    "end_capacity[-1]": "success",
    "take_offer[-1]": "skipped",
}
"""What the other tasks of `reconcile` come to."""


def test_reconcile_rings_for_what_nobody_does(run, engine: Engine):
    """An open incident that nobody answers is rung again under a new key; MLflow being away does not stop that."""
    ledger = Ledger(engine)
    incident, _ = ledger.open_incident(
        "first", signal="drift", degraded_since=datetime.now(UTC), reason="half drifted", evidence={}, actor="t"
    )
    assert run("reconcile") == {**RECONCILED, "ring_again[-1]": "success"}
    assert ledger.incident(incident.id).rings == 1


def test_reconcile_is_silent_when_nothing_is_due(run, engine: Engine):
    """Without an open incident nobody is woken."""
    assert run("reconcile") == {**RECONCILED, "ring_again[-1]": "skipped"}


def test_a_dag_is_heard_of_when_it_had_nothing_to_do(run, engine: Engine):
    """A skipped run is work done: it leaves the DAG's heartbeat, with the run that it came from."""
    run("reconcile")
    at, said = heartbeats(engine)["dag:reconcile"]
    assert (datetime.now(UTC) - at).total_seconds() < 300
    assert said["task"] in {"mend_copies", "end_capacity"}  # whichever ended last: neither waits for the other


def test_reconcile_asks_airflow_for_the_dead(run, engine: Engine):
    """A run that Airflow knows to have ended holds its incident no longer; one that it does not know does."""
    ledger, lease = Ledger(engine), timedelta(hours=1)
    run("maintain")  # a run that has ended
    with engine.connect() as on:
        run_id = on.scalar(text("SELECT details ->> 'run' FROM heartbeat WHERE component = 'dag:maintain'"))
    for model, holder in (("first", f"maintain:{run_id}"), ("second", "maintain:unheard_of")):
        incident, _ = ledger.open_incident(
            model, signal="drift", degraded_since=datetime.now(UTC), reason="r", evidence={}, actor="t"
        )
        take = {"frm": {State.OPEN}, "to": State.RETRAINING, "lease": lease, "reason": "due"}
        assert ledger.claim(ledger.ring(incident.id), actor=holder, **take).incident is not None
    run("reconcile")
    holders = {incident.model: incident.claimed_by for incident in ledger.open_incidents()}
    assert holders == {"first": None, "second": "maintain:unheard_of"}
