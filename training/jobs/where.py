"""Where a GPU job runs, as a DAG says it: on this machine, in several processes, or as a pod."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from datasets_defs.core.errors import ContractError
from training.jobs.call import target_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One process on the machine of Airflow's task, which gets GPUs that `DRIFTLOOP_GPU_DEVICES` lists there."""

    directory: str | None = None
    """Folder that it runs in; none: its own, which lasts for all its tries."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Further variables; it gets the worker's without those of Airflow, MLflow and driftloop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Torchrun:
    """Several processes on the machine of Airflow's task, started by torchrun; one for each GPU unless said."""

    processes: int | None = None
    """How many; none: one for each GPU."""
    directory: str | None = None
    """As of `Machine`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """As of `Machine`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod in a Kubernetes cluster, by Airflow's own `KubernetesPodOperator`; the cluster gives out the GPUs."""

    image: str
    namespace: str = "driftloop"
    connection: str = "kubernetes_default"
    """Airflow Connection that leads to the cluster."""
    gpu_resource: str = "nvidia.com/gpu"
    """What the cluster calls a GPU."""
    cpu: str = "4"
    memory: str = "32Gi"
    environment: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `KubernetesPodOperator`, such as `node_selector` or `volumes`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a job may take, and how often it is looked at."""

    max_time: timedelta = timedelta(days=1)
    """One try, once it has its GPUs; its GPU-hours are set aside in the fleet's budget."""
    queue_time: timedelta = timedelta(days=1)
    """How long one try may wait for GPUs."""
    poll_time: timedelta = timedelta(seconds=5)
    """Between two looks."""

    def __post_init__(self) -> None:
        if min(self.max_time, self.queue_time, self.poll_time) <= timedelta():
            raise ValueError(f"{self} holds a time that is not above 0; each has to be")


Where = Machine | Torchrun | Pod


def command_of(
    where: Where,
    *,
    command: Sequence[str] | None,
    function: str | Callable[..., Any] | None,
    arguments: Mapping[str, Any],
    gpus: int,
) -> tuple[str, ...]:
    """Give the program and arguments that a job runs. Pure.

    Raises:
        ContractError: there is neither a command nor a function, or both; or the arguments are no JSON.
    """
    if (command is None) == (function is None):
        raise ContractError("a GPU job is either a `command` or a `function`; give one of them")
    if function is None:
        given = tuple(str(part) for part in command or ())
        if not given:
            raise ContractError("`command` is empty; give a program and its arguments as a list")
        return (*_torchrun(where, gpus), *given) if isinstance(where, Torchrun) else given
    try:
        as_json = json.dumps(dict(arguments))
    except (TypeError, ValueError) as err:
        raise ContractError(f"`arguments` cannot be written as JSON ({err}); pass texts, numbers, lists") from err
    called = ("-m", "training.jobs.call", target_of(function), as_json)
    if isinstance(where, Torchrun):
        return (*_torchrun(where, gpus), *called)
    python = "python" if isinstance(where, Pod) else sys.executable
    return (python, "-P", *called)


def _torchrun(where: Torchrun, gpus: int) -> tuple[str, ...]:
    processes = where.processes or max(1, gpus)
    return (
        sys.executable, "-P", "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1",
        "--nproc-per-node", str(processes), "--max-restarts", "0",
    )  # fmt: skip
