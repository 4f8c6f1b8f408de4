"""Training in several processes: the launcher, which holds the locks and watches, and the group that torchrun runs."""

import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import psutil
from safetensors import safe_open
from safetensors.torch import load_file, save

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.trainers import AnyTrainer, KubernetesTrainer, TorchrunTrainer
from datasets_defs.store.artifacts import write_bytes
from training.fit.curve import Curve
from training.fit.plan import FitPlan, Progress, Result
from training.fit.trouble import OutOfMemoryError, no_memory
from training.trainers.kernel import killed_since, kills_for_memory
from training.trainers.torchrun import LEASH

log = logging.getLogger(__name__)
POLL_SECONDS = 0.25
HOLD_SECONDS = 2.0
WORK = "DRIFTLOOP_WORK"
"""Variable of the environment that names the first process's folder of work."""
_WORK, _PROGRESS, _ENDED, _REFUSED = "work.json", "progress.json", "ended.safetensors", "refused.json"


def processes_of(trainer: AnyTrainer) -> tuple[int, int]:
    """Give how many machines train, and how many processes on each. Pure."""
    match trainer:
        case TorchrunTrainer():
            return trainer.nodes, trainer.processes
        case KubernetesTrainer():
            return 1, trainer.processes
        case _:
            return 1, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a group trains, as its first process reads it and tells the others."""

    spec: dict[str, Any]
    parent: int
    parent_sha256: str
    """Of the parent's manifest, as the ledger knows it."""
    snapshot_uri: str
    plan: dict[str, Any]
    folder: str
    """Of checkpoints, and of what the group tells its launcher; the first process's machine has it."""
    made: str
    """Where the first process puts the finished model."""

    @classmethod
    def of(cls, folder: Path) -> "Work":
        """Read a group's work."""
        return cls(**json.loads((folder / _WORK).read_text()))

    def save(self, folder: Path) -> None:
        """Write a group's work, and forget what an earlier group told."""
        folder.mkdir(parents=True, exist_ok=True)
        for old in (_PROGRESS, _ENDED, _REFUSED):
            (folder / old).unlink(missing_ok=True)
        (folder / _WORK).write_text(json.dumps(asdict(self)))


def launch(
    work: Work, spec: ModelSpec, *, threads: int, hold: Callable[[], None], tell: Callable[[Progress], None]
) -> Result:
    """Have a group train, and give its result; `hold` may raise to end the group, which also ends with this process.

    Raises:
        OutOfMemoryError: the training does not fit the memory.
        ContractError: the group says that data, model or spec are wrong.
        TransientError: a process of it died.
    """
    folder = Path(work.folder)
    work.save(folder)
    kills = kills_for_memory()
    agent = subprocess.Popen(
        [sys.executable, "-m", "training.trainers.torchrun", *_arguments(spec)],
        stdin=subprocess.PIPE, env=_environment(spec, folder, threads),
    )  # fmt: skip
    try:
        _watch(agent, folder, hold, tell)
    finally:
        _end(agent)
    _raise_refused(folder)
    if agent.returncode and killed_since(kills):
        words = "the kernel killed a process of the group"
        raise OutOfMemoryError(no_memory("memory", plan_from(work), words))
    if agent.returncode:
        raise TransientError(f"a process of the group that trains {spec.name} died; its log stands above")
    result = _result(folder)
    tell(result)
    return result


def join(spec: ModelSpec, rank: int) -> int:
    """Train with the group of another machine's launcher as its machine `rank`, once; give torchrun's exit code.

    Raises:
        ContractError: the model's trainings run on one machine.
    """
    if not isinstance(spec.trainer, TorchrunTrainer) or not 0 < rank < spec.trainer.nodes:
        nodes = processes_of(spec.trainer)[0]
        raise ContractError(f"{spec.name} trains on {nodes} machines; there is no place for a machine of rank {rank}")
    command = [sys.executable, "-m", "training.trainers.torchrun", *_arguments(spec, rank)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, env=_safe(os.environ), check=False).returncode


def say_progress(folder: Path, progress: Progress) -> None:
    """Tell the launcher how far the group is."""
    values = {field.name: getattr(progress, field.name) for field in fields(Progress)}
    write_bytes(str(folder / _PROGRESS), json.dumps(values).encode())


def say_refused(folder: Path, why: ContractError) -> None:
    """Tell the launcher that trying again cannot help, and whether memory was short."""
    content = {"memory": isinstance(why, OutOfMemoryError), "why": str(why)}
    write_bytes(str(folder / _REFUSED), json.dumps(content).encode())


def say_ended(folder: Path, result: Result) -> None:
    """Tell the launcher how the training went; the finished model stands where it is to be."""
    values = {field.name: getattr(result, field.name) for field in fields(result) if field.name != "curve"}
    write_bytes(str(folder / _ENDED), save(result.curve.tensors(), metadata={"result": json.dumps(values)}))


def _raise_refused(folder: Path) -> None:
    """Raise what the group said that trying again cannot help."""
    if (folder / _REFUSED).exists():
        content = json.loads((folder / _REFUSED).read_text())
        raise OutOfMemoryError(content["why"]) if content["memory"] else ContractError(content["why"])


def plan_from(work: Work) -> FitPlan:
    """Give the plan of a group's work."""
    return FitPlan(**work.plan)


def _arguments(spec: ModelSpec, rank: int = 0) -> list[str]:
    """Give torchrun's arguments; the first machine's first process is process 0 of all. Pure."""
    nodes, processes = processes_of(spec.trainer)
    common = ["--nproc-per-node", str(processes), "--max-restarts", "0"]
    worker = ["-m", "training.trainers.worker"]
    if nodes == 1 or not isinstance(spec.trainer, TorchrunTrainer):
        return ["--standalone", "--local-addr", "127.0.0.1", *common, *worker]
    host, _, port = (spec.trainer.rendezvous or "").rpartition(":")
    meeting = ["--nnodes", str(nodes), "--node-rank", str(rank), "--master-addr", host.strip("[]"), "--master-port"]
    return [*meeting, port, *common, *worker]


def _environment(spec: ModelSpec, folder: Path, threads: int) -> dict[str, str]:
    variables = {**_safe(os.environ), LEASH: "1", WORK: str(folder), "OMP_NUM_THREADS": str(threads)}
    loopback = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
    if processes_of(spec.trainer)[0] == 1 and loopback is not None:  # a machine may not know its own name's address
        variables |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}
    return variables


def _safe(environment: Mapping[str, str]) -> dict[str, str]:
    return {**environment, "PYTHONSAFEPATH": "1"}  # workers are modules: no folder of the same name must hide them


def _watch(
    agent: "subprocess.Popen[bytes]", folder: Path, hold: Callable[[], None], tell: Callable[[Progress], None]
) -> None:
    known, held = "", 0.0
    while agent.poll() is None:
        if time.monotonic() - held >= HOLD_SECONDS:
            hold()
            held = time.monotonic()
        with suppress(FileNotFoundError):
            now = (folder / _PROGRESS).read_text()
            if now != known:
                tell(Progress(**json.loads(now)))
                known = now
        time.sleep(POLL_SECONDS)


def _end(agent: "subprocess.Popen[bytes]") -> None:
    """End whatever is left of the group, and wait until it is gone."""
    family: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(agent.pid)
        family = [process, *process.children(recursive=True)]
    if agent.stdin is not None:
        agent.stdin.close()  # the leash
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family[1:], timeout=10)
    agent.wait()


def _result(folder: Path) -> Result:
    try:
        with safe_open(folder / _ENDED, "pt") as file:
            values = json.loads(file.metadata()["result"])
        return Result(**values, curve=Curve.of(load_file(folder / _ENDED)))
    except FileNotFoundError as err:
        raise TransientError(f"the group ended and left no result in {folder}") from err
