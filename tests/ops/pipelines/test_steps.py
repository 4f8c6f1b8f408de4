"""The show's batch and training: what they write is what the pipelines read, and what they tell is what came of it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import SCHEDULED, State, attempt_name
from datasets_defs.core.requests import Request
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.evaluations import NewEvaluation, save_evaluation
from monitors.batch_inference import compare_input
from ops.demo.texts import MODEL
from ops.ingest.ingest import ingest
from ops.pipelines import batch_inference as batch_step
from ops.pipelines import train_on_schedule as train_step
from ops.pipelines.step import Stage
from serving import batch_inference
from tests.serving.generation.conftest import SPEC, World
from tests.serving.generation.simulated_api import completion, simulated_api
from training.search.tried import Tried, save_tried


class InThisProcess:
    """Runs the tasks of `batch_inference` one after the other, as its DAG does, in the place of a stack's Airflow."""

    def __init__(self, db: Engine) -> None:
        self.db = db

    def run(self, dag_id: str, form: Mapping[str, Any], *, seconds: float) -> dict[str, int]:
        """Run it for the form's model."""
        assert (dag_id, seconds) == ("batch_inference", batch_step.SECONDS)
        asked = Request.of(None, "somebody", form)
        runs = batch_inference.open_run(asked, "batch_inference:1", db=self.db, outside=World())
        assert isinstance(runs, list)
        for shard in batch_inference.list_shards(runs, db=self.db):
            batch_inference.ask_shard(shard, db=self.db, outside=World())
        compare_input(runs, db=self.db)
        batch_inference.finish(runs, db=self.db)
        return {"success": 8}


@pytest.fixture
def described(home: Path) -> Path:
    """The demo's model, with the sections that the show gives it."""
    content = {**SPEC, "name": MODEL, **batch_step.STEP.spec, **train_step.STEP.spec}
    (home / "models" / f"{MODEL}.yaml").write_text(yaml.safe_dump(content))
    return home


def test_the_shows_batch_completes_a_table(described: Path, engine: Engine):
    """Sixty passages are completed, the four bad rows are named, and the figures and samples are told."""
    file = described / "models" / f"{MODEL}.yaml"
    with simulated_api(lambda _: completion("and so on")) as api:
        content = yaml.safe_load(file.read_text())
        content["batch"]["api"] = {"url": api.url}
        file.write_text(yaml.safe_dump(content))
        told = batch_step.run(Stage(model=MODEL, db=engine, airflow=InThisProcess(engine)))
    assert (told.figures["rows"], told.figures["answered"]) == (64, 60)
    assert told.figures["faults"] == {"no_prompt": 2, "repeated_id": 1, "unreadable": 1}
    assert told.samples[0].endswith("→ and so on")
    assert Path(str(told.figures["look at"]).removeprefix("file://")).exists()


@pytest.mark.slow
def test_the_shows_log_can_be_trained_on(described: Path, engine: Engine):
    """Every row is read, within the champion's time, with a person's words; enough of them for the YAML's limit."""
    now = datetime.now(UTC)
    brought = ingest(
        engine, MODEL, train_step.write_log(described / "log.jsonl", since=now - timedelta(hours=1), now=now)
    )
    assert (brought.new, brought.feedback, brought.quarantined) == (160, 160, {})
    assert brought.oldest is not None
    assert now - timedelta(hours=1) < brought.oldest < now
    spec = ModelSpec.model_validate(yaml.safe_load((described / "models" / f"{MODEL}.yaml").read_text()))
    assert brought.new >= spec.retrain.min_documents
    assert spec.search is not None
    assert spec.search.count == len(train_step.RATES)


def test_the_show_tells_what_the_gate_said(described: Path, engine: Engine):
    """Each setting with its cost, the challenger, the gate's word and where the incident is; nothing judged is said."""
    ledger = Ledger(engine)
    ledger.change_champion(MODEL, expected=None, to=1, kind="bootstrap", reason="test", actor="test")
    incident, _ = ledger.open_incident(
        MODEL, signal=SCHEDULED, degraded_since=datetime.now(UTC), reason="asked for", evidence={}, actor="test"
    )  # fmt: skip
    with pytest.raises(ContractError, match="0 settings were tried, none judged"):
        train_step.what_came_of(incident, ledger)
    for number, (rate, bits) in enumerate(zip(train_step.RATES, (2.5, 2.25), strict=True)):
        tried = Tried(number=number, settings={"learning_rate": rate}, bits=bits)
        save_tried(tried, MODEL, attempt_name(incident.id, incident.attempt))
    save_evaluation(engine, NewEvaluation(
        incident_id=incident.id, attempt=incident.attempt, model=MODEL, champion_version=1, challenger_version=2,
        rows_uri="-", rows_sha256="-", scores={}, decision="reject", reason="no better",
    ))  # fmt: skip
    assert train_step.what_came_of(incident, ledger) == {
        "learning rate 0.001": "2.5000 bits per byte",
        "learning rate 0.003": "2.2500 bits per byte",
        "challenger": "version 2, from 1",
        "the gate": "reject: no better",
        "incident": f"{incident.id} is {State.OPEN}",
    }
