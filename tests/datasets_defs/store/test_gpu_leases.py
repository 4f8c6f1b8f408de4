"""GPUs of a machine, each in one pair of hands: real processes, killed; real PostgreSQL, its connections cut."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from pydantic import ValidationError
from sqlalchemy import Connection, Engine, text

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import ROOT, Settings, settings
from datasets_defs.store.database import engine_for
from datasets_defs.store.gpu_leases import Lease, hold_again, lease, leases, machine
from tests.waiting import wait_for

HOLDER = """
import subprocess, sys, time
from datasets_defs.store.database import engine_for
from datasets_defs.store.gpu_leases import lease
on = engine_for(sys.argv[1]).connect().execution_options(isolation_level="AUTOCOMMIT")
with lease(on, 1, holder="the holder") as held:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], pass_fds=held.files)
    print(child.pid, ",".join(held.devices), flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _two_gpus(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLOOP_GPU_DEVICES", "0, GPU-5f2a")
    settings.cache_clear()


@contextmanager
def asked(db: Engine, count: int, holder: str = "t") -> Iterator[tuple[Connection, Lease | None]]:
    with db.connect() as opened:
        on = opened.execution_options(isolation_level="AUTOCOMMIT")
        with lease(on, count, holder=holder) as held:
            yield on, held


def devices(db: Engine, count: int = 1) -> tuple[str, ...] | None:
    """Take so many, say which, and give them back."""
    with asked(db, count) as (_, held):
        return held.devices if held is not None else None


def test_each_gpu_is_in_one_pair_of_hands(engine: Engine) -> None:
    """Two who ask have one each, a third has none, one who asks for both waits for both, and all is given back."""
    with asked(engine, 1, "first") as (_, first), asked(engine, 1, "second") as (_, second):
        assert first is not None
        assert second is not None
        assert (first.devices, second.devices) == (("0",), ("GPU-5f2a",))
        assert second.environment["CUDA_VISIBLE_DEVICES"] == "GPU-5f2a"
        assert devices(engine) is None
        held = [(each.machine, each.device, each.holder, each.is_held) for each in leases(engine)]
        assert held == [(machine(), "0", "first", True), (machine(), "GPU-5f2a", "second", True)]
    with asked(engine, 1), asked(engine, 2) as (_, both):
        assert both is None
        assert devices(engine) == ("GPU-5f2a",)  # who got nothing holds nothing
    assert devices(engine, 2) == ("0", "GPU-5f2a")
    assert [each.is_held for each in leases(engine)] == [False, False]


def test_a_dead_holder_frees_its_gpu_and_a_living_child_does_not(engine: Engine, database_url: str) -> None:
    """After kill -9 of the holder its program, which has the GPU's memory, keeps it; the last process frees it."""
    command = [sys.executable, "-c", HOLDER, database_url]
    holder = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    child, device = holder.stdout.readline().split()
    try:
        assert device == "0"
        assert devices(engine) == ("GPU-5f2a",)
        holder.kill()
        holder.wait()
        wait_for(lambda: not leases(engine)[0].is_held, "PostgreSQL lets go of the dead holder's lock")
        assert devices(engine) == ("GPU-5f2a",)
    finally:
        os.kill(int(child), signal.SIGKILL)
    wait_for(lambda: devices(engine) == ("0",), "the last process of the holder has ended")


def test_a_lost_connection_loses_no_gpu(engine: Engine, database_url: str) -> None:
    """PostgreSQL forgets the lock with the connection; the file's lock keeps the GPU until the lock is taken again."""
    other = engine_for(database_url)
    with asked(other, 1) as (on, held):
        assert held is not None
        with engine.begin() as cut:
            cut.execute(text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"))
        wait_for(lambda: not leases(engine)[0].is_held)
        assert devices(engine) == ("GPU-5f2a",)
        hold_again(on, held.devices)
        hold_again(on, held.devices)
        assert [each.is_held for each in leases(engine)] == [True, False]
    assert devices(engine) == ("0",)
    other.dispose()


def test_more_than_there_are(engine: Engine) -> None:
    """Who asks for more GPUs than the machine lists is told so at once, with the setting's name."""
    with pytest.raises(ContractError, match=r"3 GPUs are asked for, and DRIFTLOOP_GPU_DEVICES lists 2"):
        with asked(engine, 3):
            pass
    with ExitStack() as stack:
        (_, nothing) = stack.enter_context(asked(engine, 0))
        assert nothing is not None
        assert nothing.environment["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize("given", ["0,0", "0,,1", ","])
def test_devices_that_are_no_list(given: str) -> None:
    """An id that stands twice, or none between two commas, is refused when the settings are read."""
    with pytest.raises(ValidationError, match="does not name each GPU once"):
        Settings(gpu_devices=given)
