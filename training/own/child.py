"""A team's own command as a process of this machine, which ends with the process that watches it."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.spec.trainers import CommandTrainer
from training.own.given import Given

log = logging.getLogger(__name__)
MARK = "DRIFTLOOP_OWN_TRAINER"
"""Variable of the environment that names the training, in each of its processes."""
FOREIGN = ("AIRFLOW", "_AIRFLOW", "DRIFTLOOP_", "MLFLOW_")
"""Variables that are none of the command's business: addresses and passwords among them."""
END_SECONDS = 10.0


class ChildCommand:
    """A run of the command as a child of this process; whatever a run before this one left is ended first."""

    def __init__(self, trainer: CommandTrainer, given: Given, *, name: str) -> None:
        self._name = name
        _end_all(name)
        directory = Path(trainer.directory) if trainer.directory else settings().models_dir
        arguments = trainer.arguments(given.places)
        environment = {**_kept(os.environ), **trainer.environment, **given.variables, MARK: name}
        _require_program(arguments[0], directory, environment)
        log.info("%s: %s", name, " ".join(arguments))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "training.own.guard", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=directory,
        )  # fmt: skip

    @property
    def stream(self) -> int:
        """Its two outputs as one file descriptor."""
        return self._process.stdout.fileno() if self._process.stdout is not None else -1

    def code(self) -> int | None:
        """Give its exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def end(self) -> int:
        """End the command and all that it began, wait until it is gone, and give its exit code."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()  # the guard's leash
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _end_all(self._name)
        return self._process.returncode


def _kept(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(FOREIGN)}


def _require_program(name: str, directory: Path, environment: Mapping[str, str]) -> None:
    if not directory.is_dir():
        raise ContractError(f"trainer.directory {directory} is no folder")
    there = directory / name if os.sep in name else None
    if (there is not None and os.access(there, os.X_OK)) or shutil.which(name, path=environment.get("PATH")):
        return
    where = f"in {directory}" if there is not None else f"on the PATH ({environment.get('PATH', 'which is empty')})"
    raise ContractError(f"trainer.run: there is no program {name} {where}; write its full path")


def _end_all(name: str) -> None:
    """Kill every process of the training, whoever began it, and wait until all are gone."""
    while processes := [running for running in psutil.process_iter() if _is_of(running, name)]:
        for process in processes:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(processes, timeout=1)


def _is_of(process: psutil.Process, name: str) -> bool:
    try:
        return process.environ().get(MARK) == name
    except (psutil.Error, OSError):  # gone meanwhile, or somebody else's
        return False
