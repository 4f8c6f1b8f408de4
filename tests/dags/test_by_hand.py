"""A person at Airflow's buttons: each DAG that an event wakes, triggered without one, with a form, or with nonsense."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from datasets_defs.core.incidents import Action, State
from datasets_defs.core.settings import ROOT
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store.verdicts import newest_verdicts
from monitors.triage import ring_for
from ops.verify.reading import broken_invariants
from tests.dags.test_approve import woken_by
from tests.dags.test_dag_runs import airflow_database, run  # noqa: F401 fixtures
from training.approve import record

WOKEN = (
    "approve",
    "batch_inference",
    "evaluate",
    "generate_texts",
    "promote",
    "retrain",
    "roll_back",
    "scale_gpu",
    "triage",
)
NOTHING = {"skipped"}
ALWAYS_RUN = {"batch_inference": {"skipped", "success"}, "generate_texts": {"skipped", "success"}}
"""Of DAGs whose last tasks look whether anything was left over, and find nothing."""


@pytest.mark.slow
@pytest.mark.parametrize("dag_id", WOKEN)
def test_with_nothing_to_do_it_skips(run, engine: Engine, dag_id: str):  # noqa: F811
    """Without a key, with a model that nothing is due for, and with a key that is none: no failure, no trace.

    That is *Trigger* with an empty and a filled form, and *Create event* or *Materialize* on the Asset before it.
    """
    nothing = ALWAYS_RUN.get(dag_id, NOTHING)
    assert set(run(dag_id).values()) <= nothing
    assert set(run(dag_id, {"model": "first", "reason": "to try it"}).values()) <= nothing
    with woken_by("first|4711|1" if dag_id < "p" else "docs-writer"):
        assert set(run(dag_id).values()) <= nothing
    ledger = Ledger(engine)
    assert (ledger.events("first"), ledger.events("second")) == ([], [])
    assert broken_invariants(engine)[1] == []


def test_a_person_takes_an_incident_up(run, engine: Engine):  # noqa: F811
    """Triggered with a model, triage decides on that model's incident, and the history says who asked and why."""
    ledger = Ledger(engine)
    for model in ("first", "second"):
        ledger.open_incident(
            model, signal="data", degraded_since=datetime.now(UTC), reason="half is gone", evidence={}, actor="t"
        )
    states = run("triage", {"model": "second", "reason": "the feed is broken"})
    assert states["decide[-1]"] == "success"
    assert "failed" not in states.values()
    assert [event.kind for event in ledger.events("first")] == ["opened"]
    note = next(event for event in ledger.events("second") if event.kind == "note")
    assert note.reason == "asked for by airflow:dag_test: the feed is broken"


def test_a_rollback_by_hand_goes_back_once(run, engine: Engine):  # noqa: F811
    """Triggered for a model without a former champion, a rollback is refused in words; nothing changed its place."""
    ledger = Ledger(engine)
    ledger.change_champion("first", expected=None, to=1, kind="bootstrap", reason="first", actor="t")
    assert run("roll_back", {"model": "first", "reason": "answers in French"}) == {"restore[-1]": "skipped"}
    champion = ledger.champion("first")
    assert champion is not None
    assert (champion.version, champion.token) == (1, 1)


def test_a_sensor_judges_the_chosen_model(run, engine: Engine):  # noqa: F811
    """With a model in its form a sensor judges that one alone."""
    states = run("watch_gpu", {"model": "second"})
    assert "failed" not in states.values()
    judged = [model for model in ("first", "second") if newest_verdicts(engine, model, now=datetime.now(UTC))]
    assert judged == ["second"]


@pytest.mark.parametrize("path", sorted((ROOT / "dags").glob("*.py")), ids=lambda path: path.stem)
def test_the_ui_says_what_a_dag_is(path):
    """Every DAG has a description of one sentence, an owner with a link, and, if a person may trigger it, a form."""
    from airflow.dag_processing.dagbag import DagBag

    dag = DagBag(str(path)).dags[path.stem]
    assert dag.description is not None
    assert dag.description.endswith(".")
    assert len(dag.description) > 20
    assert dag.owner == "driftloop"
    assert dag.owner_links["driftloop"].startswith("https://")
    asked = {*WOKEN, "train_on_schedule", "watch_drift", "watch_gpu", "watch_quality"}
    assert ({"model", "reason"} <= set(dag.params)) is (path.stem in asked)


def test_an_unclaimed_incident_stays_so_when_a_task_is_marked(engine: Engine):
    """A task that comes after one which a person marked does nothing, in words: there is no decision, and no answer."""
    ledger = Ledger(engine)
    incident, _ = ledger.open_incident(
        "first", signal="data", degraded_since=datetime.now(UTC), reason="r", evidence={}, actor="t"
    )
    assert "marked by hand" in ring_for(None, Action.RETRAIN, db=engine).reason
    assert "no form was answered" in record(str(ledger.ring(incident.id)), [], db=engine, actor="approve:1").reason
    assert ledger.incident(incident.id).state is State.OPEN
