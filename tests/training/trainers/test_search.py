"""A search on the real parts: settings tried one by one, killed in the middle, the best one made the challenger."""

import threading
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from sqlalchemy import Engine, select

from datasets_defs.core.errors import TransientError
from datasets_defs.core.incidents import State, attempt_name
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store import tables
from datasets_defs.store.artifacts import exists
from tests.training import test_steps as steps
from tests.waiting import wait_for
from training import evaluate, retrain
from training.data.snapshot import Snapshot
from training.registry.manifest import KEY
from training.registry.registry import Registry
from training.registry.trial_runs import PARENT
from training.search.tried import all_tried, model_url
from training.train_on_schedule import hand_over, order, settings_to_try, try_setting
from training.trainers.local import JOB

pytestmark = pytest.mark.slow  # minutes: `make test-all` runs it

db, serving = steps.db, steps.serving
RUN = "train_on_schedule.tiny:1"


@pytest.fixture
def searching(db: Engine, owner: Engine, home) -> Engine:
    """The model of the loop's tests, due, with three settings to try: one is good, one learns nothing, one diverges."""
    path = home / "models" / f"{steps.MODEL}.yaml"
    text = path.read_text().replace("max_seconds: 40", "max_seconds: 25, checkpoint_seconds: 1")
    text = text.replace("data: {", "data: {validation_share: 0.15, ")
    path.write_text(f"{text}search: {{grid: {{learning_rate: [1.0e-9, 3.0e-3, 1.0e+9]}}}}\n")
    with owner.begin() as on:
        on.execute(tables.champion.update().values(since=datetime.now(UTC) - timedelta(days=7)))
    return db


def trainers(key: str) -> list[psutil.Process]:
    """Find the processes that work on a job."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(JOB) == key:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def tell_whether_dead(db: Engine, trial: dict, said: list) -> None:
    try:
        said.append(try_setting(trial, db=db, actor=RUN))
    except TransientError as err:
        said.append(err)


def shown_and_paid(db: Engine, incident: int, tried: list) -> None:
    """Check what MLflow shows, what the budget paid, and that no trial's model is left."""
    model = steps.MODEL
    registry = Registry(settings().mlflow_url)
    facts = registry.facts(model, 2)
    assert float(facts.params["learning_rate"]) == 3e-3
    assert facts.params["search.best"] == "1"
    assert registry.versions(model) == [2, 1]
    parent = registry._run(model, f"{model}|{incident}|1")
    experiment = registry._client.get_run(parent).info.experiment_id
    nested = registry._client.search_runs([experiment], f"tags.`{PARENT}` = '{parent}'")
    assert sorted(run.data.tags[KEY] for run in nested) == [
        f"{model}|{incident}|1|trial-{number}" for number in range(3)
    ]
    assert not exists(f"{model_url(model, attempt_name(incident, 1), 1)}/config.json")
    with db.connect() as on:
        key = f"{model}|{incident}|1"
        paid = on.execute(select(tables.gpu_charge).where(tables.gpu_charge.c.key == key)).one()
    assert paid.settled
    assert paid.gpu_hours == pytest.approx(sum(each.seconds for each in tried) / 3600, abs=1e-6)


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("serving")
def test_killed_in_the_middle_nothing_is_tried_twice(searching: Engine):
    """A trainer killed goes on, settings that nobody tried are tried by the challenger's own job, the best one wins."""
    ledger, model = Ledger(searching), steps.MODEL
    ordered = order(model, why="weekly", db=searching, actor=RUN)
    assert ordered.ring is not None, ordered.reason
    trials = settings_to_try(str(ordered.ring), db=searching, actor=RUN)
    incident = ledger.open_of(model)
    assert [trial["number"] for trial in trials] == [0, 1, 2]
    assert (incident.state, incident.claimed_by) == (State.RETRAINING, RUN)
    charge = tables.gpu_charge.c
    with searching.connect() as on:
        charged = on.execute(select(charge.gpu_hours).where(charge.key == f"{model}|{incident.id}|1")).scalar_one()
    assert charged == pytest.approx(3 * 25 / 3600)

    said: list = []
    key = f"{model}|{incident.id}|1|trial-1"
    watching = threading.Thread(target=tell_whether_dead, args=(searching, trials[1], said))
    watching.start()
    folder = settings().home / "training" / model
    wait_for(lambda: list(folder.glob("*/trial-1/checkpoints/*")), seconds=200)
    for process in trainers(key):
        process.kill()
    watching.join(120)
    assert isinstance(said[0], TransientError), said
    assert all_tried(model, attempt_name(incident.id, 1), 3) == []
    assert "bits per byte of the validation texts" in try_setting(trials[1], db=searching, actor=RUN)
    (first,) = all_tried(model, attempt_name(incident.id, 1), 3)
    assert try_setting(trials[1], db=searching, actor=RUN).startswith("setting 1, learning_rate 0.003")
    assert trainers(key) == []

    woken = hand_over(str(ordered.ring), db=searching, actor=RUN)
    assert "in the hands" in try_setting(trials[0], db=searching, actor=RUN)
    trained = retrain.retrain(str(woken.ring), db=searching, actor="retrain:1")
    assert trained.ring is not None, trained.reason
    tried = all_tried(model, attempt_name(incident.id, 1), 3)
    assert [each.number for each in tried] == [0, 1, 2]
    assert tried[1] == first
    assert tried[0].bits > tried[1].bits
    assert tried[2].bits is None or tried[2].bits > tried[1].bits

    shown_and_paid(searching, incident.id, tried)
    facts = Registry(settings().mlflow_url).facts(model, 2)
    snapshot = Snapshot.of(facts.tags["snapshot_uri"], facts.tags["snapshot_sha256"])
    validated = {row["request_id"] for row in snapshot.rows("validation")}
    assert validated
    assert validated.isdisjoint(row["request_id"] for row in snapshot.rows("holdout", "train"))
    judged = evaluate.evaluate(str(trained.ring), db=searching, actor="evaluate:1")
    assert "challenger version 2: accept" in judged.reason
