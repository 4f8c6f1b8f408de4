"""A job on this machine: one process at most, found again by whoever watches next, ended when nobody wants it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.incidents import State
from datasets_defs.core.settings import ROOT
from datasets_defs.store.artifacts import write_bytes
from ops.stack import component
from tests.training.jobs import DONE, INCIDENT, RESULT, Script, script
from tests.waiting import wait_for
from training.trainers import watch as watching
from training.trainers.contract import Job, JobResult, Phase, Trainer
from training.trainers.local import DetachedTrainer, running
from training.trainers.watch import is_wanted, watch

DB = create_engine("postgresql+psycopg://nobody:secret@127.0.0.1:9/nothing")
BEGIN = "import os, pathlib, subprocess, sys, time; print('begun', os.getpid(), flush=True); "
WAIT = "\nwhile not pathlib.Path('{go}').exists(): time.sleep(0.05)\n"
WATCHER = """
import sys
from sqlalchemy import create_engine
from tests.training.jobs import INCIDENT, script
from tests.training.trainers.test_local import DB
from training.trainers.local import DetachedTrainer
from training.trainers.watch import watch

watch(DetachedTrainer(DB), script(sys.argv[1]),
      hold=lambda: print("holds", flush=True), incident=lambda: INCIDENT)
"""


def begun_by(code: str) -> Script:
    """Make a job that first says that it has begun, and as which process."""
    return script(BEGIN + code)


@pytest.fixture
def endless(home: Path) -> Iterator[Script]:
    """A job that has a child, and goes on until the file `go` is there; then it leaves a result."""
    go = home / "go"
    job = begun_by(
        f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); {WAIT.format(go=go)}{DONE}"
    )
    yield job
    DetachedTrainer(DB).stop(job)


def begun(trainer: DetachedTrainer, job: Job) -> int:
    """Wait until the job says that it has begun; give its process."""
    lines: list[str] = []
    wait_for(lambda: lines.extend(trainer.said(job)) or any("begun" in line for line in lines))
    return int(next(line for line in lines if "begun" in line).split()[1])


def watched(trainer: Trainer, job: Job, hold: Callable[[], None] = lambda: None, incident=INCIDENT) -> JobResult:
    return watch(trainer, job, hold=hold, incident=lambda: incident)


def starts(home: Path) -> int:
    return (home / "training/m/incident-7-attempt-1.log").read_text().count("begun")


def test_one_process_however_often_it_is_asked_for(home: Path, endless: Script) -> None:
    """Submitted twice, by two who know nothing of each other, it runs once, and both see it run and end."""
    first, second = DetachedTrainer(DB), DetachedTrainer(DB)
    assert first.look(endless).phase is Phase.ABSENT
    first.submit(endless)
    pid = begun(first, endless)
    second.submit(endless)
    first.submit(endless)
    assert (first.look(endless).phase, second.look(endless).phase) == (Phase.RUNNING, Phase.RUNNING)
    assert running(home) == ["m/incident-7-attempt-1"]
    assert any(str(pid) in line for line in second.said(endless))
    first.stop(endless)
    assert (first.look(endless).phase, second.look(endless).phase) == (Phase.ENDED, Phase.ENDED)
    assert running(home) == []
    assert component.leftovers(home) == []  # its child neither
    assert starts(home) == 1


def test_how_it_ended_is_known_although_its_lock_was_free_before(home: Path) -> None:
    """A process lets go of its lock a moment before it says how it ended; the one who began it waits for that."""
    job = begun_by(
        "import os, signal, time; os.closerange(3, 64); time.sleep(0.5); os.kill(os.getpid(), signal.SIGKILL)"
    )
    trainer = DetachedTrainer(DB)
    trainer.submit(job)
    wait_for(lambda: not trainer.look(job).active)
    assert trainer.look(job).reason == "its process has ended by signal 9"
    assert running(home) == []


def test_who_watches_may_die(home: Path, endless: Script) -> None:
    """With its whole group killed by SIGKILL, the job lives, and who watches next takes its result: one process."""
    watcher = subprocess.Popen(
        [sys.executable, "-c", WATCHER, endless.code], stdout=subprocess.PIPE, text=True, start_new_session=True,
        cwd=ROOT,
    )  # fmt: skip
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == "holds\n"
    trainer = DetachedTrainer(DB)
    begun(trainer, endless)
    os.killpg(watcher.pid, signal.SIGKILL)
    watcher.wait()
    assert trainer.look(endless).phase is Phase.RUNNING

    assert watched(trainer, endless, hold=(home / "go").touch) == RESULT

    assert starts(home) == 1


def test_what_ended_while_nobody_watched(home: Path) -> None:
    """The result that stands is taken, and nothing is begun."""
    job = begun_by("raise SystemExit('never')")
    RESULT.save(job)
    assert watched(DetachedTrainer(DB), job) == RESULT
    assert not (home / "training").exists()


def test_a_job_that_dies_says_its_last_words(home: Path) -> None:
    """Without a result the error says how it ended and what it logged; the next try begins it again."""
    job = begun_by("sys.exit('the disk is gone')")
    for number in (1, 2):
        with pytest.raises(TransientError, match=r"(?s)exit code 1, and left no result.*the disk is gone"):
            watched(DetachedTrainer(DB), job)
        assert starts(home) == number


@pytest.mark.parametrize(
    ("now", "lives"), [(State.RETRAINING, True), (State.ESCALATED, False), (State.RESOLVED, False)]
)
def test_a_lost_claim(endless: Script, now: State, *, lives: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken over by another run the job goes on; with its incident ended by a person it is killed."""
    monkeypatch.setattr(watching, "HOLD_SECONDS", 0.0)
    trainer = DetachedTrainer(DB)
    held: list[int] = []

    def hold() -> None:
        held.append(1)
        if len(held) > 2:
            raise ContractError("another run took over")

    with pytest.raises(ContractError, match="took over"):
        watched(trainer, endless, hold, replace(INCIDENT, state=now))
    assert trainer.look(endless).active is lives


def test_only_its_own_attempt_is_wanted() -> None:
    """A job is wanted while its incident retrains at that attempt and has no challenger."""
    job = Job.of(INCIDENT)
    assert is_wanted(INCIDENT, job)
    for change in ({"attempt": 2}, {"state": State.OPEN}, {"challenger_version": 3}):
        assert not is_wanted(replace(INCIDENT, **change), job)


def test_it_ends_with_the_stack_and_not_with_a_component(home: Path, endless: Script) -> None:
    """What clears away after a scheduler leaves trainers alone; what ends the stack ends them."""
    trainer = DetachedTrainer(DB)
    trainer.submit(endless)
    begun(trainer, endless)
    component.end(home, "scheduler")
    assert trainer.look(endless).phase is Phase.RUNNING
    component.end(home)
    assert trainer.look(endless).phase is Phase.ENDED


def test_what_it_inherits(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the loop's settings and its own database, and nothing of Airflow's secrets."""
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", "http://there")
    code = "print([os.environ.get(n) for n in ('DRIFTLOOP_DATABASE_URL', 'DRIFTLOOP_MLFLOW_URL')], flush=True); "
    job = begun_by(code + "print('airflow:', [n for n in os.environ if 'AIRFLOW' in n], flush=True); " + DONE)
    assert watched(DetachedTrainer(DB), job) == RESULT
    said = (home / "training/m/incident-7-attempt-1.log").read_text()
    assert "'postgresql+psycopg://nobody:secret@127.0.0.1:9/nothing', 'http://there'" in said
    assert "airflow: []" in said


def test_a_damaged_result(home: Path) -> None:
    """A result that says nothing is named with what to do."""
    job = Job.of(INCIDENT)
    write_bytes(job.result_url, b"{}")
    with pytest.raises(ContractError, match=r"damaged.*remove it"):
        JobResult.of(job)
