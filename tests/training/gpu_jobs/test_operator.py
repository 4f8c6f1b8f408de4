"""`GPUJobOperator` on this machine: real processes, killed with -9 on either side, and real PostgreSQL."""

import asyncio
import json
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from sqlalchemy import Engine, select, text

from datasets_defs.core.settings import ROOT, settings
from datasets_defs.store import tables
from datasets_defs.store.gpu_charges import level
from datasets_defs.store.gpu_jobs import JobState, jobs_at_work, read_job
from datasets_defs.store.gpu_leases import leases
from tests.training.gpu_jobs.functions import Holder, product
from tests.training.gpu_jobs.parts import CONTEXT, KEY, QUICK, TaskInstance, begun, job, processes
from tests.waiting import wait_for
from training.jobs.standing import JobStanding, at_work, look, stop
from training.jobs.where import Limits, Machine

pytestmark = pytest.mark.slow  # minutes: `make test-all` runs it

WAITS = "import time\nwhile True: time.sleep(0.1)"
TELLS = """
import json, os
seen = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "DRIFTLOOP_GPUS", "AIRFLOW_HOME", "MINE")}
seen["database"] = [name for name in os.environ if "DATABASE" in name]
print(json.dumps({"loss": 0.5, "step": 3}))
open(os.environ["DRIFTLOOP_RETURN"], "w").write(json.dumps(seen))
"""
RESUMES = """
import os, pathlib, time
kept = pathlib.Path(os.environ["DRIFTLOOP_CHECKPOINTS"], "step")
if not kept.exists():
    kept.write_text("7")
    while True: time.sleep(0.1)
open(os.environ["DRIFTLOOP_RETURN"], "w").write(kept.read_text())
"""
TASK = """
from tests.training.gpu_jobs.parts import CONTEXT, job
from tests.training.gpu_jobs.test_operator import WAITS
print("begins", flush=True)
job(WAITS).execute(CONTEXT)
"""


def test_a_command_has_its_gpu_to_itself(engine: Engine) -> None:
    """It sees the GPU that it leased and nothing of Airflow or the loop, and what it leaves is the task's result."""
    seen = job(TELLS, where=Machine(environment={"MINE": "yes"})).execute(CONTEXT)
    assert seen == {
        "CUDA_VISIBLE_DEVICES": "0", "DRIFTLOOP_GPUS": "1", "AIRFLOW_HOME": None, "MINE": "yes", "database": [],
    }  # fmt: skip
    row = read_job(engine, KEY)
    assert (row.state, row.exit_code, row.attempt, row.devices) == (JobState.ENDED, 0, 1, ["0"])
    assert not leases(engine)[0].is_held


def test_jobs_share_the_machine(engine: Engine) -> None:
    """Two jobs have one GPU each; a third waits, says for what, and begins when one has ended."""
    others = [{"ti": TaskInstance(map_index=number)} for number in range(3)]
    for context in others:
        begun(job(WAITS), context)
    keys = [f"theirs/embed/manual__1/{number}" for number in range(3)]
    wait_for(lambda: [each.state for each in jobs_at_work(engine)].count(JobState.RUNNING) == 2)
    rows = {key: read_job(engine, key) for key in keys}
    running = [key for key in keys if rows[key].state is JobState.RUNNING]
    (waiting,) = set(keys) - set(running)
    assert sorted(rows[key].devices[0] for key in running) == ["0", "1"]
    wait_for(lambda: "1 GPUs are not free" in read_job(engine, waiting).message)
    assert stop(running[0], engine, who="a person")
    wait_for(lambda: read_job(engine, waiting).state is JobState.RUNNING, "the third has the first's GPU")
    assert read_job(engine, waiting).devices == rows[running[0]].devices
    assert processes(running[0]) == []
    assert {each.key for each in at_work(engine)} == set(keys) - {running[0]}


def test_the_job_outlives_its_task(engine: Engine) -> None:
    """The task that waits is killed with -9: the job works on, and the next try finds the very same process."""
    task = subprocess.Popen(
        [sys.executable, "-c", TASK], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for(lambda: processes(part="while True"))
    task.kill()
    task.wait()
    (before,) = processes(part="training.jobs.runner")
    deferred = begun(job(WAITS))
    (after,) = processes(part="training.jobs.runner")
    assert (after.pid, read_job(engine, KEY).attempt) == (before.pid, 1)
    assert deferred.trigger.serialize()[1]["key"] == KEY


@pytest.mark.parametrize("victim", ["training.jobs.runner", "training.own.guard", "kept.exists"])
def test_a_job_that_dies_goes_on(engine: Engine, victim: str) -> None:
    """Whichever of its processes is killed with -9, none is left, its GPU is free, and a try finds its checkpoints."""
    begun(job(RESUMES))
    wait_for(lambda: list(Path(settings().home, "jobs").glob("*/checkpoints/step")))
    killed = next(
        each for each in processes(part=victim) if victim != "kept.exists" or "training.own.guard" not in each.cmdline()
    )
    killed.send_signal(signal.SIGKILL)
    wait_for(lambda: look(KEY, engine).standing is not JobStanding.AT_WORK)
    if look(KEY, engine).standing is JobStanding.ENDED:
        with pytest.raises(AirflowException, match="killed by SIGKILL"):
            job(RESUMES).execute(CONTEXT)
    assert job(RESUMES).execute(CONTEXT) == 7
    assert read_job(engine, KEY).attempt == 2
    wait_for(lambda: not any(each.is_held for each in leases(engine)))
    wait_for(lambda: processes() == [])


def test_deferred_it_is_watched_by_the_triggerer(engine: Engine) -> None:
    """Trigger and task take turns: the event says that the job ended, and the task takes what it returned."""
    operator = job(TELLS)
    trigger = begun(operator).trigger

    async def event() -> dict[str, object]:
        return (await asyncio.wait_for(anext(trigger.run()), 120)).payload

    payload = asyncio.run(event())
    assert payload["standing"] == "ended"
    assert operator.execute_complete(CONTEXT, payload)["CUDA_VISIBLE_DEVICES"] == "0"
    assert read_job(engine, KEY).progress == {"loss": 0.5, "step": 3}


def test_a_result_is_taken_once(engine: Engine) -> None:
    """Ended while nobody watched, a job gives its result to the next try; a task that is cleared runs it again."""
    begun(job(TELLS))
    wait_for(lambda: read_job(engine, KEY).state is JobState.ENDED)
    assert job(WAITS).execute(CONTEXT)["DRIFTLOOP_GPUS"] == "1"
    assert read_job(engine, KEY).attempt == 1
    assert job(TELLS).execute(CONTEXT)["DRIFTLOOP_GPUS"] == "1"
    assert read_job(engine, KEY).attempt == 2


def test_a_cut_connection_costs_nothing(engine: Engine) -> None:
    """PostgreSQL drops every connection while the job runs: it runs on, holds its GPU again, and ends well."""
    begun(job("import time; time.sleep(9)"))
    wait_for(lambda: read_job(engine, KEY).state is JobState.RUNNING)
    with engine.connect() as on:
        on.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                 "WHERE datname = current_database() AND pid <> pg_backend_pid()")
        )  # fmt: skip
    wait_for(lambda: leases(engine)[0].is_held, "the lock is taken again")
    wait_for(lambda: read_job(engine, KEY).state is JobState.ENDED)
    assert (read_job(engine, KEY).exit_code, read_job(engine, KEY).attempt) == (0, 1)


@pytest.mark.parametrize(
    ("code", "limits", "message"),
    [
        ("raise SystemExit(3)", QUICK, "exit code 3"),
        ("print('torch.OutOfMemoryError: CUDA out of memory'); raise SystemExit(1)", QUICK, "ran out of GPU memory"),
        (WAITS, Limits(max_time=timedelta(seconds=1)), r"did not end within its max_time \(1 s\)"),
    ],
)
def test_a_job_that_fails_says_why(engine: Engine, code: str, limits: Limits, message: str) -> None:
    """Exit code, memory and time: the task fails with a sentence, and no process and no GPU is left behind."""
    with pytest.raises(AirflowException, match=message):
        job(code, limits=limits).execute(CONTEXT)
    assert not leases(engine)[0].is_held
    wait_for(lambda: processes() == [])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"gpus": 3}, "3 GPUs are asked for, and DRIFTLOOP_GPU_DEVICES lists 2"),
        ({"function": lambda: 1}, "another process cannot find"),
        ({"function": "nothing"}, "is no `module:function`"),
        ({"function": product, "arguments": {"left": {1, 2}}}, "cannot be written as JSON"),
    ],
)
def test_nonsense_is_refused_for_good(more: dict[str, object], message: str) -> None:
    """What no try can run fails the task without retries."""
    with pytest.raises(AirflowFailException, match=message):
        job(**more).execute(CONTEXT)


def test_a_program_that_is_not_there(engine: Engine) -> None:
    """Its name and the PATH stand in the message, and the job never counts as begun."""
    with pytest.raises(AirflowException, match="there is no program no-such-program on the PATH"):
        job("x", program=("no-such-program",)).execute(CONTEXT)
    assert read_job(engine, KEY).exit_code is None


def test_a_function_and_what_it_returns() -> None:
    """A function of a module or a class is called in the job's process, with JSON in and out."""
    found = job(function=product, arguments={"left": 6, "right": 7}, gpus=2).execute(CONTEXT)
    assert found == {"product": 42, "gpus": "0,1"}
    other = {"ti": TaskInstance(task_id="other")}
    assert job(function=Holder.seven, gpus=0).execute(other) == 7


def test_the_budget_pays(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A try takes its GPU-hours and gives back what it did not use; one that the fleet can never pay is refused."""
    monkeypatch.setenv("DRIFTLOOP_GPU_HOURS_PER_WEEK", "1")
    settings.cache_clear()
    with pytest.raises(AirflowException, match=r"may take 4\.00 GPU-hours; the fleet has 1\.00 a week at most"):
        job(TELLS, limits=Limits(max_time=timedelta(hours=4))).execute(CONTEXT)
    assert job(TELLS).execute(CONTEXT)["DRIFTLOOP_GPUS"] == "1"
    with engine.connect() as on:
        (charge,) = on.execute(select(tables.gpu_charge)).all()
    assert (charge.key, charge.model, charge.settled) == (f"gpu_job|{KEY}|2", "theirs.embed", True)
    assert 0 < charge.gpu_hours < 1 / 12
    assert level(engine, charge.at) == pytest.approx(1 - charge.gpu_hours)


def test_what_airflow_ends_is_ended(engine: Engine) -> None:
    """A person ends the task that waits in its worker: the job ends with it and frees its GPU."""
    operator = job(WAITS)
    begun(operator)
    wait_for(lambda: read_job(engine, KEY).state is JobState.RUNNING)
    operator._watching = KEY
    operator.on_kill()
    assert processes() == []
    assert "stopped it" in read_job(engine, KEY).message
    assert json.dumps(read_job(engine, KEY).devices) == '["0"]'
