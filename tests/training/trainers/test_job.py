"""The trainer's own process with real PostgreSQL, MLflow and a tiny model: killed, orphaned, unwanted, or several."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.incidents import Incident, State
from datasets_defs.core.settings import ROOT, settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from tests.training import test_steps as steps
from tests.waiting import wait_for
from training import retrain
from training.data.snapshot import stored
from training.fit.fine_tune import fine_tune
from training.fit.threads import threads_for
from training.model.language_model import LanguageModel
from training.registry.fetch import fetch
from training.registry.registry import Registry
from training.trainers.contract import Job
from training.trainers.local import DetachedTrainer
from training.trainers.locks import only_trainer
from training.trainers.making import plan_of

db = steps.db
pytestmark = pytest.mark.slow
WATCHER = """
import sys
from datasets_defs.store.database import engine_for
from training import retrain
retrain.retrain(sys.argv[1], db=engine_for(sys.argv[2]), actor="retrain:1")
"""


@pytest.fixture
def incident(db: Engine, home: Path) -> Iterator[Incident]:
    """An incident whose challenger trains for a while, with a checkpoint after every step."""
    ask_for(home, "retrain: {", "retrain: {checkpoint_seconds: 1.0e-9, ")
    ask_for(home, "max_seconds: 40", "max_seconds: 600")
    opened = steps.open_incident(db)
    yield opened
    DetachedTrainer(db).stop(job_of(db, opened))


def ask_for(home: Path, old: str, new: str) -> None:
    path = home / "models" / f"{steps.MODEL}.yaml"
    path.write_text(path.read_text().replace(old, new))


def job_of(db: Engine, incident: Incident) -> Job:
    return Job(model=incident.model, incident_id=incident.id, attempt=1)


def watcher(db: Engine, incident: Incident) -> "subprocess.Popen[bytes]":
    """Start the step in a process group of its own, as Airflow would."""
    command = [sys.executable, "-c", WATCHER, steps.ring(db, incident), db.url.render_as_string(hide_password=False)]
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True)


def log_of(home: Path, incident: Incident) -> str:
    path = home / "training" / incident.model / f"incident-{incident.id}-attempt-1.log"
    return path.read_text() if path.exists() else ""


def is_training(home: Path, incident: Incident) -> bool:
    folder = home / "training" / incident.model
    return any(int(path.name[5:]) >= 3 for path in folder.glob("incident-*/checkpoints/*/step-*"))


def processes(home: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        if environment.get("DRIFTLOOP_COMPONENT") == "trainer" and environment.get("DRIFTLOOP_HOME") == str(home):
            found.append(process)
    return found


def main_of(home: Path) -> psutil.Process:
    """Give the process that holds the locks."""
    (found,) = [process for process in processes(home) if "training.trainers.job" in process.cmdline()]
    return found


def free(db: Engine, incident: Incident) -> None:
    """Take the claim of a run that is known to be dead, as `reconcile` does."""
    ledger = Ledger(db)
    ledger.release(ledger.incident(incident.id), actor="reconcile:1", reason="its run has ended")


def is_one_training(db: Engine, incident: Incident) -> None:
    """Check that one version came of it, with the curve of a training that nobody disturbed."""
    registry = Registry(settings().mlflow_url)
    versions = [int(each.version) for each in registry._client.search_model_versions(f"name='{incident.model}'")]
    assert sorted(versions) == [1, 2]
    tags = registry.tags(incident.model, 2)
    assert (tags["incident"], tags["attempt"]) == (str(incident.id), "1")
    run = registry._client.get_model_version(incident.model, "2").run_id
    curve = [point.value for point in registry._client.get_metric_history(run, "loss")]
    spec, snapshot = spec_of(incident.model), stored(tags["snapshot_uri"])
    assert snapshot is not None
    texts, epochs = snapshot.mixture(spec.retrain)
    model = LanguageModel.load(fetch(db, registry, incident.model, 1))
    plan = replace(plan_of(spec, epochs), checkpoint_seconds=1000)
    torch.set_num_threads(threads_for(1))
    undisturbed = fine_tune(model, texts, plan, settings().home / "again").curve.losses
    torch.set_num_threads(1)
    assert curve == (undisturbed if spec.trainer.kind == "local" else pytest.approx(undisturbed, rel=1e-5))


def test_the_watching_task_is_killed(db: Engine, home: Path, incident: Incident) -> None:
    """The trainer lives on; a new run finds it, and takes its one version; no other trainer was ever begun."""
    first = watcher(db, incident)
    wait_for(lambda: is_training(home, incident))
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    trainer = main_of(home)
    free(db, incident)

    outcome = retrain.retrain(steps.ring(db, incident), db=db, actor="retrain:2")

    assert outcome.ring is not None, outcome.reason
    assert Ledger(db).incident(incident.id).challenger_version == 2
    assert log_of(home, incident).count("begins as process") == 1
    assert f"begins as process {trainer.pid}" in log_of(home, incident)
    assert processes(home) == []
    is_one_training(db, incident)


def test_it_ends_while_nobody_watches(db: Engine, home: Path, incident: Incident) -> None:
    """What it registered is there when the next run looks, which trains nothing."""
    first = watcher(db, incident)
    wait_for(lambda: is_training(home, incident))
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    wait_for(lambda: processes(home) == [])
    free(db, incident)
    assert retrain.retrain(steps.ring(db, incident), db=db, actor="retrain:2").ring is not None
    assert log_of(home, incident).count("begins as process") == 1


def test_the_trainer_is_killed(db: Engine, home: Path, incident: Incident) -> None:
    """The step fails for now with its last words; its next try goes on from the checkpoint to the very same curve."""
    killer = threading.Thread(target=lambda: (wait_for(lambda: is_training(home, incident)), main_of(home).kill()))
    killer.start()
    with pytest.raises(TransientError, match=r"(?s)by signal 9, and left no result.*begins as process"):
        retrain.retrain(steps.ring(db, incident), db=db, actor="retrain:1")
    killer.join()

    assert retrain.retrain(steps.ring(db, incident), db=db, actor="retrain:1").ring is not None

    assert "resumed at step" in log_of(home, incident)
    is_one_training(db, incident)


@pytest.mark.parametrize(("model", "words"), [("", "another trainer of"), ("another", "no GPU is free")])
def test_it_waits_for_another_trainer(db: Engine, home: Path, incident: Incident, model: str, words: str) -> None:
    """A training by hand, the same job on another machine, or another model's on the one GPU is waited for."""
    with only_trainer(db, model or incident.model, places=1):
        first = watcher(db, incident)
        wait_for(lambda: words in log_of(home, incident))
        assert first.poll() is None
    assert first.wait(200) == 0
    assert log_of(home, incident).count("begins as process") == 1
    assert Ledger(db).incident(incident.id).challenger_version == 2


def test_a_person_ends_the_incident(db: Engine, home: Path, incident: Incident) -> None:
    """The trainer stops by itself, with nobody to tell it; and no version comes of it."""
    first = watcher(db, incident)
    wait_for(lambda: is_training(home, incident))
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    ledger = Ledger(db)
    ledger.move(ledger.incident(incident.id), State.ESCALATED, actor="cli:ann", reason="enough")
    wait_for(lambda: processes(home) == [])
    assert "stops" in log_of(home, incident)
    assert Registry(settings().mlflow_url).find(incident.model, job_of(db, incident).key) is None


def test_a_person_ends_the_incident_while_it_is_watched(db: Engine, home: Path, incident: Incident) -> None:
    """Who watches stops the trainer, and says what happened."""

    def end() -> None:
        wait_for(lambda: is_training(home, incident))
        ledger = Ledger(db)
        ledger.move(ledger.incident(incident.id), State.ESCALATED, actor="cli:ann", reason="enough")

    person = threading.Thread(target=end)
    person.start()
    with pytest.raises(ContractError, match=r"is escalated .*must stop"):
        retrain.retrain(steps.ring(db, incident), db=db, actor="retrain:1")
    person.join()
    assert processes(home) == []


@pytest.mark.parametrize("sharding", ["none", "full"])
def test_several_processes(db: Engine, home: Path, incident: Incident, sharding: str) -> None:
    """Killed, the launcher takes its workers along; the next group goes on, and learns what one process does."""
    ask_for(home, "promotion:", f"trainer: {{kind: torchrun, processes: 2, sharding: {sharding}}}\npromotion:")
    first = watcher(db, incident)
    wait_for(lambda: is_training(home, incident))
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert len(processes(home)) >= 4  # launcher, agent, two workers
    main_of(home).kill()
    wait_for(lambda: processes(home) == [])
    free(db, incident)

    outcome = retrain.retrain(steps.ring(db, incident), db=db, actor="retrain:2")

    assert outcome.ring is not None, outcome.reason
    assert "resumed at step" in log_of(home, incident)
    assert processes(home) == []
    is_one_training(db, incident)


def test_two_machines(db: Engine, home: Path, incident: Incident) -> None:
    """A second machine joins with its command and leaves with the training's end."""
    from ops.stack.ports import free_port

    port = free_port()
    ask_for(home, "promotion:", f"trainer: {{kind: torchrun, nodes: 2, rendezvous: '127.0.0.1:{port}'}}\npromotion:")
    command = [Path(sys.executable).parent / "driftloop", "trainer-node", incident.model, "--rank", "1", "--once"]
    other = subprocess.Popen(command, start_new_session=True)
    try:
        assert retrain.retrain(steps.ring(db, incident), db=db, actor="retrain:1").ring is not None
        assert other.wait(60) == 0
    finally:
        if other.poll() is None:
            os.killpg(other.pid, signal.SIGKILL)
    is_one_training(db, incident)
