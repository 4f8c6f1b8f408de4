"""A place for each training: held by the trainer, whatever becomes of the task that watched it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from datasets_defs.core.errors import TransientError
from datasets_defs.core.settings import ROOT, settings
from datasets_defs.spec.files import spec_of
from datasets_defs.store.database import engine_for
from datasets_defs.store.gpu_leases import leases
from datasets_defs.store.heartbeats import GPU_CAPACITY, GPU_PLACES, beat
from training.trainers import locks
from training.trainers.locks import BusyError, gpus_here, only_trainer, places_for

TRAINER = """
import sys, time
from datasets_defs.store.database import engine_for
from training.trainers.locks import only_trainer
with only_trainer(engine_for(sys.argv[1]), "first", places=1):
    print("at work", flush=True)
    time.sleep(600)
"""
TASK = """
import subprocess, sys
trainer = subprocess.Popen([sys.executable, *sys.argv[1:]], start_new_session=True, stdout=subprocess.PIPE, text=True)
print(trainer.stdout.readline(), trainer.pid, flush=True)
trainer.wait()
"""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LOCK_PATIENCE_SECONDS", 0)


def test_a_dead_task_frees_no_gpu(engine: Engine, home: Path) -> None:
    """While the job lives whose task was killed, no other model's training begins; once it ends, one does."""
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", TASK, "-c", TRAINER, url]
    task = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, text=True)
    assert task.stdout is not None
    assert task.stdout.readline() == "at work\n"
    trainer = int(task.stdout.readline())
    try:
        task.kill()
        task.wait()
        with pytest.raises(BusyError, match="no GPU is free for a training of second: 1 of 1 are at work"):
            with only_trainer(engine, "second", places=1):
                pass
        with only_trainer(engine, "second", places=2) as still_only:
            still_only()
    finally:
        os.kill(trainer, signal.SIGKILL)
    _await_end(engine)
    with only_trainer(engine, "second", places=1) as still_only:
        still_only()


def _await_end(engine: Engine) -> None:
    held = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as on:
        for _ in range(3_000):
            if on.scalar(held) == 0:
                return
            on.execute(text("SELECT pg_sleep(0.02)"))
    raise AssertionError("the killed trainer's locks are still held")


def test_a_training_leases_its_gpus(engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of two models see a GPU each, from the list that jobs lease from; a third is told to wait."""
    monkeypatch.setenv("DRIFTLOOP_GPU_DEVICES", "0,1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    settings.cache_clear()
    seen = []
    with only_trainer(engine, "first", gpus=1):
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
        with only_trainer(engine, "second", gpus=1) as still_only:
            seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
            still_only()
            with pytest.raises(BusyError, match="1 GPUs are not free for a training of third: `driftloop gpus` says"):
                with only_trainer(engine, "third", gpus=1):
                    pass
            held = [(each.device, each.holder, each.is_held) for each in leases(engine)]
            assert held == [("0", "training of first", True), ("1", "training of second", True)]
    assert seen == ["0", "1"]
    assert not any(each.is_held for each in leases(engine))


@pytest.mark.parametrize(
    ("trainer", "gpus"),
    [
        ("", 1),
        ("trainer: {kind: torchrun, processes: 2, nodes: 2, rendezvous: 'a:1'}", 2),
        ("trainer: {kind: command, run: [x], gpus: 2}", 2),
        ("trainer: {kind: kubernetes, image: ours, gpus: 8}", 0),
    ],
)
def test_how_many_gpus_of_this_machine(home: Path, monkeypatch: pytest.MonkeyPatch, trainer: str, gpus: int) -> None:
    """What runs here leases here; without a list of GPUs nothing is leased."""
    text = f"name: m\nbase_model: {{}}\ntraining_text: builtin:python-docs\n{trainer}\n"
    (home / "models" / "m.yaml").write_text(text)
    assert gpus_here(spec_of("m")) == 0
    monkeypatch.setenv("DRIFTLOOP_GPU_DEVICES", "0,1")
    settings.cache_clear()
    assert gpus_here(spec_of("m")) == gpus


def test_whoever_lost_the_place_stops(engine: Engine, database_url: str, home: Path) -> None:
    """A trainer whose connection broke holds no place any more, and its check before each write says so."""
    other = engine_for(database_url)
    with only_trainer(other, "first", places=1) as still_only:
        with engine.begin() as on:
            on.execute(text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"))
        _await_end(engine)
        with only_trainer(engine, "second", places=1):
            with pytest.raises(TransientError, match="lost, so this one stops"):
                still_only()
    other.dispose()


def test_a_place_is_given_back(engine: Engine, home: Path) -> None:
    """One training after the other holds the same place; a connection that is used again holds none."""
    for model in ("first", "second", "first"):
        with only_trainer(engine, model, places=1) as still_only:
            still_only()
    with engine.connect() as on:
        assert on.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")) == 0


def test_how_many_places_there_are(engine: Engine, home: Path) -> None:
    """As the pool was last seen, or the GPUs where nobody reads the pool; where a cluster gives them out, no limit."""
    yaml = "name: {0}\nbase_model: {{}}\ntraining_text: builtin:python-docs\n{1}"
    for name, trainer in (("here", ""), ("there", "trainer: {kind: kubernetes, image: ours}\n")):
        (home / "models" / f"{name}.yaml").write_text(yaml.format(name, trainer))
    assert places_for(spec_of("here"), engine) is None
    beat(engine, GPU_CAPACITY, {"free": None, "total": None})
    assert places_for(spec_of("here"), engine) is None
    beat(engine, GPU_CAPACITY, {"free": 0, "total": 3})
    assert places_for(spec_of("here"), engine) == 3
    beat(engine, GPU_PLACES, {"slots": 4})
    assert [places_for(spec_of(name), engine) for name in ("here", "there")] == [4, None]
