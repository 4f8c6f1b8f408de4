"""The launcher of a group: what it asks torchrun for, what it hears, and that no worker outlives it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.settings import ROOT
from datasets_defs.spec.files import load
from datasets_defs.spec.model import ModelSpec
from tests.waiting import wait_for
from training.fit.plan import Progress
from training.trainers import launcher
from training.trainers.launcher import Work, join, launch, processes_of

WORKER = """
import os, sys, time
from pathlib import Path
from training.trainers.torchrun import on_the_leash
on_the_leash()
folder = Path(os.environ["DRIFTLOOP_WORK"])
(folder / f"worker-{os.environ['RANK']}").write_text(str(os.getpid()))
{then}
"""
PROGRESS = """
from training.trainers.launcher import say_progress
from training.fit.plan import Progress
say_progress(folder, Progress(step=1, steps=2, loss=3.5, elapsed_seconds=0.5))
"""
REFUSED = """
from training.trainers.launcher import say_refused
say_refused(folder, "the loss is nan")
while not (folder / "heard").exists():
    time.sleep(0.05)
sys.exit(1)
"""
LAUNCHER = """
import sys
from pathlib import Path
from tests.training.trainers import test_launcher as test

test.launcher._arguments = lambda *_: test.arguments(sys.argv[1])
test.launched(Path(sys.argv[2]))
"""


def spec(**trainer: Any) -> ModelSpec:
    return ModelSpec.model_validate(
        {"name": "m", "base_model": "b", "training_text": "t", "trainer": {"kind": "torchrun", **trainer}}
    )


def arguments(script: str) -> list[str]:
    return ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2", "--max-restarts", "0", script]


def launched(folder: Path, hold: Callable[[], None] = lambda: None, tell: Callable[[Progress], None] = print) -> object:
    work = Work(spec={}, parent=1, parent_sha256="", snapshot_uri="", plan={}, folder=str(folder), made="")
    return launch(work, spec(processes=2), threads=1, hold=hold, tell=tell)


def worker(tmp_path: Path, then: str) -> str:
    """Write a worker's program."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER.replace("{then}", then))
    return str(script)


def workers(folder: Path) -> list[int]:
    return [int(path.read_text() or 0) for path in folder.glob("worker-*")]


def test_who_meets_where() -> None:
    """One machine needs no address; of several, the first one's first process is the first of all."""
    assert processes_of(spec(processes=4).trainer) == (1, 4)
    assert "--standalone" in launcher._arguments(spec(processes=4))
    two = spec(processes=4, nodes=2, rendezvous="[fd00::1]:29400")
    assert processes_of(two.trainer) == (2, 4)
    assert two.gpus == 8
    said = " ".join(launcher._arguments(two, 1))
    assert said.startswith("--nnodes 2 --node-rank 1 --master-addr fd00::1 --master-port 29400 --nproc-per-node 4")
    for rank in (0, 2):
        with pytest.raises(ContractError, match=f"no place for a machine of rank {rank}"):
            join(two, rank)


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        ("{kind: torchrun, nodes: 2}", "field trainer: Value error, 2 nodes have to meet somewhere"),
        ("{kind: torchrun, processes: 0}", "field trainer.processes: Input should be greater than or equal to 1"),
        ("slurm", "does not match any of the expected tags: 'local', 'torchrun', 'kubernetes'"),
        ("{processes: 2}", "field trainer: Unable to extract tag using discriminator 'kind'"),
    ],
)
def test_what_a_yaml_may_not_say(tmp_path: Path, trainer: str, said: str) -> None:
    """A wrong section is named with its field."""
    path = tmp_path / "m.yaml"
    path.write_text(f"{{name: m, base_model: b, training_text: t, trainer: {trainer}}}")
    with pytest.raises(ContractError) as err:
        load(path)
    assert said in str(err.value)


@pytest.mark.slow
def test_a_group_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first process says is wrong for good is the launcher's word, too; what it told before was heard."""
    script = worker(tmp_path, PROGRESS + REFUSED)
    monkeypatch.setattr(launcher, "_arguments", lambda *_: arguments(script))
    told: list[Progress] = []

    def tell(progress: Progress) -> None:
        told.append(progress)
        (tmp_path / "group" / "heard").touch()

    with pytest.raises(ContractError, match="the loss is nan"):
        launched(tmp_path / "group", tell=tell)
    assert {(each.step, each.loss) for each in told} == {(1, 3.5)}


def test_a_group_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker killed ends all, and may go better next time."""
    script = worker(tmp_path, "os.kill(os.getpid(), 9) if os.environ['RANK'] == '1' else time.sleep(600)")
    monkeypatch.setattr(launcher, "_arguments", lambda *_: arguments(script))
    with pytest.raises(TransientError, match="a process of the group that trains m died"):
        launched(tmp_path / "group")
    assert not any(psutil.pid_exists(pid) for pid in workers(tmp_path / "group"))


@pytest.mark.slow
def test_a_launcher_that_loses_its_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The group is gone when the launcher stops."""
    script = worker(tmp_path, "time.sleep(600)")
    monkeypatch.setattr(launcher, "_arguments", lambda *_: arguments(script))
    monkeypatch.setattr(launcher, "HOLD_SECONDS", 0.0)
    group = tmp_path / "group"

    def hold() -> None:
        if len(workers(group)) == 2:
            raise TransientError("the lock is lost")

    with pytest.raises(TransientError, match="the lock is lost"):
        launched(group, hold=hold)
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in workers(group)))


@pytest.mark.slow
def test_a_launcher_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL of the launcher alone ends its agent and every worker."""
    command = [sys.executable, "-c", LAUNCHER, worker(tmp_path, "time.sleep(600)"), str(tmp_path / "group")]
    launcher = subprocess.Popen(command, cwd=ROOT)
    wait_for(lambda: len(workers(tmp_path / "group")) == 2 and all(workers(tmp_path / "group")))
    agent = [process.pid for process in psutil.Process(launcher.pid).children()]
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.wait()
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in [*agent, *workers(tmp_path / "group")]))
