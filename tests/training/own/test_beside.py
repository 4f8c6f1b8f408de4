"""A command in the container beside ours, as the pod runs it: `/bin/sh`, two pipes, and whatever dies when."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.settings import ROOT
from datasets_defs.spec.trainers import CommandTrainer
from tests.waiting import wait_for
from training.own.beside import WRAPPER, CommandBeside, lay_out, release
from training.own.given import Given
from training.own.run import Remembered, run

Shell = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    lay_out(tmp_path / "talk")
    return tmp_path / "talk"


@pytest.fixture
def shell(talk: Path, tmp_path: Path) -> Iterator[Shell]:
    """Begin the team's container with a few lines of Python, as the pod's description does."""
    begun: list[subprocess.Popen[bytes]] = []
    (tmp_path / "checkpoints").mkdir()

    def begin(code: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", f"import os, pathlib, subprocess, sys, time\n{code}", str(tmp_path)]
        begun.append(subprocess.Popen(["/bin/sh", "-c", WRAPPER, "train", str(talk), *command], start_new_session=True))
        return begun[-1]

    yield begin
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ran(talk: Path, *, silent_seconds: float | None = None, hold: Callable[[], None] = lambda: None) -> Remembered:
    return ran_in(talk.parent, hold, silent_seconds)


def ran_in(folder: Path, hold: Callable[[], None] = lambda: None, silent_seconds: float | None = None) -> Remembered:
    given = Given(
        data=folder, champion=folder, output=folder / "output", checkpoints=folder / "checkpoints",
        seed=1, gpus=0, max_seconds=60,
    )  # fmt: skip
    trainer = CommandTrainer(kind="command", run=("train",), silent_seconds=silent_seconds)
    return run(
        trainer, given, folder, name="m|7|1", hold=hold, tell=lambda _: None,
        begin=lambda: CommandBeside(folder / "talk", hold),
    )  # fmt: skip


def test_its_lines_are_heard_and_its_end_is_known(talk: Path, shell: Shell):
    """JSON lines are curves, as of a child, and exit code 0 is a good end of both."""
    process = shell("print('{\"step\": 3, \"loss\": 2.5}'); print('on the other output', file=sys.stderr)")
    state = ran(talk)
    assert (state.is_done, state.curves["loss"][0][:2]) == (True, (3, 2.5))
    assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("code", "error", "words", "ends"),
    [
        ("sys.exit('the data is odd')", ContractError, r"exit code 1\. It said last: .*the data is odd", 1),
        ("sys.exit(75)", TransientError, "asked to be run again", 75),
        ("os.kill(os.getpid(), 9)", TransientError, "killed by SIGKILL, and goes on from its checkpoints", 137),
        ("sys.exit(-1)", ContractError, "exit code 255", 255),
        ("raise RuntimeError('CUDA out of memory')", ContractError, "ran out of GPU memory", 1),
    ],
)
def test_each_ending_means_what_a_child_s_does(
    talk: Path, shell: Shell, code: str, error: type[Exception], words: str, ends: int
):
    """The container ends with the command's code, and the loop says what it says of a command on its machine."""
    process = shell(code)
    with pytest.raises(error, match=words):
        ran(talk)
    assert process.wait(10) == ends


def test_a_container_that_is_killed_says_nothing_and_is_heard_all_the_same(talk: Path, shell: Shell):
    """With SIGKILL for all of its processes no exit code is written: the pipe's end says it; twice calls a person."""
    process = shell("pathlib.Path(sys.argv[1], 'up').touch(); time.sleep(600)")

    def hold() -> None:
        if (talk.parent / "up").exists():
            os.killpg(process.pid, signal.SIGKILL)

    with pytest.raises(TransientError, match="killed by SIGKILL, and goes on"):
        ran(talk, hold=hold)
    for name in ("go", "up"):
        (talk.parent / "up" if name == "up" else talk / name).unlink()
    process = shell("pathlib.Path(sys.argv[1], 'up').touch(); time.sleep(600)")
    with pytest.raises(ContractError, match="killed by SIGKILL 2 times without a new checkpoint"):
        ran(talk, hold=hold)


def test_what_goes_beyond_a_limit_is_ended_with_all_it_began(talk: Path, shell: Shell):
    """A command that hangs is ended over the leash, and so are its children."""
    child = "[sys.executable, '-c', 'import time; time.sleep(600)', sys.argv[1]]"
    process = shell(f"subprocess.Popen({child}); time.sleep(600)")
    with pytest.raises(ContractError, match=r"wrote no line for trainer\.silent_seconds"):
        ran(talk, silent_seconds=1)
    process.wait(10)
    assert processes_of(talk) == []


BASE = """
import sys
from pathlib import Path
from tests.training.own.test_beside import ran_in
ran_in(Path(sys.argv[1]))
"""


def test_the_command_ends_with_our_container(talk: Path, shell: Shell):
    """Our container killed by SIGKILL takes the command along; the next pod is the only one that trains."""
    process = shell("pathlib.Path(sys.argv[1], 'up').touch(); time.sleep(600)")
    base = subprocess.Popen([sys.executable, "-c", BASE, str(talk.parent)], cwd=ROOT)
    wait_for((talk.parent / "up").exists)
    base.kill()
    base.wait()
    process.wait(10)
    assert processes_of(talk) == []


def test_it_hears_that_it_is_to_stop(talk: Path, shell: Shell):
    """SIGTERM of a drained node reaches the command, which may save its state and ask to be run again."""
    process = shell(
        "import signal; signal.signal(15, lambda *_: sys.exit(75))\n"
        "pathlib.Path(sys.argv[1], 'up').touch(); time.sleep(600)"
    )

    def hold() -> None:
        if (talk.parent / "up").exists():
            os.kill(process.pid, signal.SIGTERM)

    with pytest.raises(TransientError, match="asked to be run again"):
        ran(talk, hold=hold)
    assert process.wait(10) == 75


def test_where_nothing_is_to_be_done_it_ends(talk: Path, shell: Shell):
    """The version stands registered, or somebody ended the incident: the command never begins."""
    process = shell("pathlib.Path(sys.argv[1], 'up').touch()")
    release(talk)
    assert process.wait(10) == 0
    assert not (talk.parent / "up").exists()


def processes_of(talk: Path) -> list[list[str]]:
    """Name what still runs of the team's container."""
    found = []
    for each in psutil.process_iter():
        try:
            line = each.cmdline()
        except psutil.Error:
            continue
        if str(talk.parent) in " ".join(line) and each.pid != os.getpid() and each.status() != psutil.STATUS_ZOMBIE:
            found.append(line)
    return found
