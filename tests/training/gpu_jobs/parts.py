"""What the tests of GPU jobs share: the operator with a task instance as Airflow gives it, and what processes say."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psutil
import pytest
from airflow.sdk.exceptions import TaskDeferred

from datasets_defs.core.settings import settings
from training.jobs.operator import GPUJobOperator
from training.jobs.where import Limits


@dataclass(frozen=True)
class TaskInstance:
    """The names of a task instance."""

    dag_id: str = "theirs"
    task_id: str = "embed"
    run_id: str = "manual__1"
    map_index: int = -1


CONTEXT: dict[str, Any] = {"ti": TaskInstance()}
KEY = "theirs/embed/manual__1/-1"
QUICK = Limits(max_time=timedelta(minutes=5), queue_time=timedelta(minutes=5), poll_time=timedelta(milliseconds=100))


def job(code: str = "", *, program: tuple[str, ...] = ("python", "-c"), **more: Any) -> GPUJobOperator:
    """An operator whose job is a few lines of Python; it waits in this process unless said otherwise."""
    arguments: dict[str, Any] = {"task_id": "embed", "limits": QUICK, "deferrable": False, **more}
    if "function" not in arguments:
        arguments["command"] = [*program, code]
    return GPUJobOperator(**arguments)


def begun(operator: GPUJobOperator, context: dict[str, Any] = CONTEXT) -> TaskDeferred:
    """Begin a job and defer, as a task does that is then no process any more."""
    operator.deferrable = True
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    return deferred.value


def processes(key: str = KEY, part: str = "") -> list[psutil.Process]:
    """Find a job's processes, by its key in their environment and by a part of their command line."""
    found = []
    for process in psutil.process_iter():
        try:
            said = process.environ()
            is_of = (said.get("DRIFTLOOP_JOB"), said.get("DRIFTLOOP_HOME")) == (key, str(settings().home.resolve()))
            if is_of and part in " ".join(process.cmdline()):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return [each for each in found if each.status() != psutil.STATUS_ZOMBIE]
