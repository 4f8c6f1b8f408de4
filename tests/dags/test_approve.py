"""A person is asked in Airflow: `approve` run whole by `dag.test`, its form answered by the code of Airflow's API."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert, select, text

from datasets_defs.core.incidents import Incident, State, Wake, due
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store import tables
from tests.dags.test_dag_runs import airflow_database, run  # noqa: F401 fixtures
from tests.waiting import wait_for
from training import approve

MODEL = "first"
LIMIT_SECONDS = 240


def accepted(engine: Engine, home) -> Incident:
    """Bring a challenger to where a person is asked."""
    path = home / "models" / f"{MODEL}.yaml"
    path.write_text(path.read_text() + "promotion: approve\napproval_windows: 4\n")
    ledger = Ledger(engine)
    ledger.change_champion(MODEL, expected=None, to=1, kind="bootstrap", reason="first", actor="t")
    incident, _ = ledger.open_incident(
        MODEL, signal="loss", degraded_since=datetime.now(UTC), reason="r", evidence={}, actor="t"
    )
    for state in (State.RETRAINING, State.EVALUATING):
        incident = ledger.move(incident, state, actor="t", reason="r", challenger_version=2)
    with engine.begin() as on:
        on.execute(
            insert(tables.evaluation).values(
                incident_id=incident.id, attempt=0, model=MODEL, champion_version=1, challenger_version=2, rows_uri="u",
                rows_sha256="s", scores={"recent": {"low": -0.08}}, decision="accept", reason="gains 5.0% on new rows",
            )
        )  # fmt: skip
    return ledger.move(incident, State.APPROVING, actor="t", reason="accepted")


@contextmanager
def woken_by(key: str) -> Iterator[None]:
    """Give the runs that begin meanwhile this partition key, as the scheduler gives it."""
    from airflow.models.dagrun import DagRun

    def give(_mapper, _connection, target) -> None:
        target.partition_key = key

    event.listen(DagRun, "before_insert", give)
    try:
        yield
    finally:
        event.remove(DagRun, "before_insert", give)


class Person(threading.Thread):
    """Reads the form once it is shown, and answers it as the page under "Required Actions" does.

    It answers while `dag.test` waits, as a scheduler always does: what is answered as `dag.test` still writes the task
    down would be written over.
    """

    def __init__(self, choice: str, before=lambda: None) -> None:
        super().__init__(daemon=True)
        self.choice, self.before, self.form, self.failure = choice, before, None, None
        self.is_waited_for = threading.Event()

    def pause(self, seconds: float, wait=time.sleep) -> None:
        """Wait in the place of `time.sleep`, and note that somebody waits for this person."""
        if threading.current_thread() is not self:
            self.is_waited_for.set()
        wait(seconds)

    def run(self) -> None:
        try:
            self._answer()
        except Exception as err:  # noqa: BLE001 the test shows it
            self.failure = err

    def _answer(self) -> None:
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
        from airflow.api_fastapi.core_api.datamodels.hitl import UpdateHITLDetailPayload
        from airflow.api_fastapi.core_api.routes.public.hitl import update_hitl_detail
        from airflow.models.hitl import HITLDetail
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        def shown() -> tuple[dict[str, Any], dict[str, Any], int] | None:
            with create_session() as session:
                query = select(HITLDetail, TaskInstance).join(TaskInstance, TaskInstance.id == HITLDetail.ti_id)
                waiting = query.where(HITLDetail.responded_at.is_(None), TaskInstance.state == "awaiting_input")
                if (found := session.execute(waiting).first()) is None:
                    return None
                detail, ti = found
                form = {"subject": detail.subject, "body": detail.body, "defaults": detail.defaults}
                return form, {"dag_id": ti.dag_id, "dag_run_id": ti.run_id, "task_id": ti.task_id}, ti.map_index

        answer = wait_for(shown, "a form is shown", seconds=LIMIT_SECONDS, every=0.3)
        assert answer is not None
        self.form, where, index = answer
        self.is_waited_for.clear()
        assert self.is_waited_for.wait(LIMIT_SECONDS)
        self.before()
        with create_session() as session:
            update_hitl_detail(
                **where,
                map_index=index,
                update_hitl_detail_payload=UpdateHITLDetailPayload(chosen_options=[self.choice]),
                user=SimpleAuthManagerUser(username="ann", role="admin"),
                session=session,
            )


def asked(run, ledger: Ledger, incident: Incident, person: Person) -> dict[str, str]:  # noqa: F811
    """Run the DAG for an incident while a person is there."""
    person.start()
    with woken_by(str(ledger.ring(incident.id))), pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", person.pause)
        states = run("approve")
    person.join(LIMIT_SECONDS)
    assert person.failure is None
    return states


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choice", "state", "approved", "recorded"),
    [("Approve", State.APPROVING, True, "success"), ("Reject", State.REJECTED, False, "skipped")],
)
def test_the_form_decides(run, engine: Engine, home, choice: str, state: State, approved, recorded: str):  # noqa: F811
    """The evidence stands in the form; the answer in the ledger, with who gave it; a yes wakes promotion."""
    incident, ledger = accepted(engine, home), Ledger(engine)
    person = Person(choice)
    states = asked(run, ledger, incident, person)
    assert states == {"ask[-1]": "success", "answer[0]": "success", "record[-1]": recorded}
    assert person.form["subject"] == "first: may version 2 replace the champion?"
    assert "gains 5.0% on new rows" in person.form["body"]
    assert f"driftloop incident show {incident.id}" in person.form["body"]
    assert person.form["defaults"] == ["Reject"]
    after = ledger.incident(incident.id)
    assert (after.state, after.approved, after.claimed_by) == (state, approved, None)
    newest = ledger.events(MODEL)[-1]
    assert newest.actor == "airflow:ann"
    assert "by airflow:ann: answered in Airflow" in newest.reason


def test_the_first_answer_counts(run, engine: Engine, home):  # noqa: F811
    """A command's no while the form is open stands; the form's yes after it changes nothing and is told so."""
    incident, ledger = accepted(engine, home), Ledger(engine)
    person = Person("Approve", lambda: approve.answer(MODEL, False, who="cli:bob", reason="not today", db=engine))
    states = asked(run, ledger, incident, person)
    assert states["record[-1]"] == "skipped"
    after = ledger.incident(incident.id)
    assert (after.state, after.approved) == (State.REJECTED, False)
    assert ledger.events(MODEL)[-1].reason == "challenger version 2 refused by cli:bob: not today"


def test_nobody_is_asked_twice(run, engine: Engine, home):  # noqa: F811
    """While a run asks, a second wake-up shows no form and nothing is due; if that run dies, it is."""
    incident, ledger = accepted(engine, home), Ledger(engine)
    key = str(ledger.ring(incident.id))
    form = approve.questions(key, db=engine, actor="approve:1")
    assert form[0]["response_timeout"] <= timedelta(hours=4)
    assert approve.questions(key, db=engine, actor="approve:2") == []
    assert len(approve.questions(key, db=engine, actor="approve:1")) == 1
    now = ledger.incident(incident.id)
    later = datetime.now(UTC) + timedelta(hours=1)
    assert due(now, later, timedelta(minutes=10)) is None
    with woken_by(key):
        assert run("approve") == {"ask[-1]": "success", "answer[-1]": "skipped", "record[-1]": "skipped"}
    with engine.begin() as on:
        on.execute(text("UPDATE incident SET claimed_by = NULL, lease_until = NULL"))
    assert due(ledger.incident(incident.id), later, timedelta(minutes=10)).wake is Wake.APPROVE


def test_silence_is_a_no_of_nobody(run, engine: Engine, home):  # noqa: F811
    """At the deadline Airflow takes the default, which nobody gave; a late answer to an older question is none."""
    incident, ledger = accepted(engine, home), Ledger(engine)
    key = str(ledger.ring(incident.id))
    assert approve.questions(key, db=engine, actor="approve:1")
    yes = [{"chosen_options": ["Approve"], "responded_by_user": {"id": "1", "name": "ann"}}]
    late = approve.record(key, yes, db=engine, actor="approve:0")
    assert late.ring is None
    assert "airflow:ann answered too late" in late.reason
    with engine.begin() as on:
        on.execute(text("UPDATE incident SET updated_at = updated_at - interval '4 hours'"))
    said = approve.record(
        key, [{"chosen_options": ["Reject"], "responded_by_user": None}], db=engine, actor="approve:1"
    )
    assert (said.ring, ledger.incident(incident.id).state) == (None, State.REJECTED)
    assert "nobody answered in time" in said.reason
