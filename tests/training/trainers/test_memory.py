"""A trainer that the kernel ends since memory is short: its own ending, at the first time, for whoever watches."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasets_defs.core.errors import TransientError
from tests.training.jobs import script
from tests.training.trainers.test_local import DB, watched
from training.trainers import kernel
from training.trainers.contract import Ending, JobResult
from training.trainers.kernel import killed_since, kills_for_memory
from training.trainers.local import DetachedTrainer

GROUPS = Path("/sys/fs/cgroup/memory")
DIE = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
EAT = """
import os, pathlib
(pathlib.Path('{group}') / 'cgroup.procs').write_text(str(os.getpid()))
kept = []
while True:
    kept.append(bytearray(os.urandom(1 << 20)))
"""


@pytest.fixture
def limited() -> Iterator[Path]:
    """A group of processes that may take 64 MiB, where this machine lets us make one."""
    group = GROUPS / f"driftloop-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(64 << 20))
    except OSError:
        pytest.skip("no control group can be made here")
    yield group
    group.rmdir()


def test_the_kernel_kills_it(home: Path, limited: Path) -> None:
    """A process that really takes more than it may is killed by Linux, and its job ends as short of memory."""
    before = kills_for_memory()
    result = watched(DetachedTrainer(DB), job := script(EAT.format(group=limited)))
    assert killed_since(before)
    assert result.ending is Ending.OUT_OF_MEMORY
    assert "by signal 9: the kernel killed it" in result.message
    assert "`retrain.gradient_checkpointing: true`" in result.message
    assert JobResult.of(job) == result


def test_a_kill_of_somebody_else(home: Path) -> None:
    """Killed while the kernel killed nothing for memory, it is tried again as before."""
    with pytest.raises(TransientError, match="by signal 9, and left no result"):
        watched(DetachedTrainer(DB), script(DIE))


def test_a_kernel_that_counts(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a simulated counter that rises while the job runs, the kill counts as the kernel's; an error does not."""
    counter = tmp_path / "vmstat"
    counter.write_text("nr_free_pages 9\noom_kill 4\n")
    monkeypatch.setattr(kernel, "COUNTERS", counter)
    rise = f"import pathlib; pathlib.Path({str(counter)!r}).write_text('oom_kill 5'); "
    with pytest.raises(TransientError, match="exit code 3"):
        watched(DetachedTrainer(DB), script(rise + "raise SystemExit(3)"))
    counter.write_text("oom_kill 4\n")
    assert watched(DetachedTrainer(DB), script(rise + DIE)).ending is Ending.OUT_OF_MEMORY


def test_a_kernel_that_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is counted nobody can tell, and nothing is concluded."""
    monkeypatch.setattr(kernel, "COUNTERS", tmp_path / "none")
    assert kills_for_memory() is None
    assert not killed_since(None)
    assert not killed_since(3)
