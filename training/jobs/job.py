"""What a GPU job is: a command for this machine, the same for every try of the task that wants it."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.store.artifacts import write_bytes
from datasets_defs.store.gpu_charges import Charged

_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class GPUJob:
    """A command that gets GPUs of this machine to itself, and is a process of its own."""

    key: str
    """`dag/task/run/map index`."""
    name: str
    """`dag.task`, for metrics and the budget."""
    command: tuple[str, ...]
    gpus: int
    """0: it sees none."""
    directory: str | None = None
    """Folder that it runs in; none: its own, which lasts for all its tries."""
    environment: Mapping[str, str] = field(default_factory=dict)
    max_seconds: float = 86_400.0
    """How long one try may take once it has its GPUs."""
    queue_seconds: float = 86_400.0
    """How long one try may wait for them."""
    attempt: int = 1

    @property
    def folder(self) -> Path:
        """Where its description, log and checkpoints stand."""
        return folder_of(self.key)

    @property
    def file(self) -> Path:
        """Its lock; the log stands beside it."""
        return self.folder / "job.job"

    @property
    def checkpoints(self) -> Path:
        """A folder that lasts for all tries."""
        return self.folder / "checkpoints"

    @property
    def returns(self) -> Path:
        """A file in which it may leave JSON for the tasks that follow."""
        return self.folder / "return.json"

    @property
    def arguments(self) -> tuple[str, ...]:
        """What Python is to run."""
        return ("-m", "training.jobs.runner", str(self.folder))

    @property
    def charged(self) -> Charged:
        """What one try of it takes from the fleet's budget."""
        hours = self.gpus * self.max_seconds / 3600
        return Charged(key=f"gpu_job|{self.key}|{self.attempt}", model=self.name, seconds=self.max_seconds, hours=hours)

    def save(self) -> None:
        """Write the description whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(str(self.folder / "job.json"), json.dumps(asdict(self)).encode())

    @classmethod
    def load(cls, folder: Path) -> "GPUJob":
        """Read a description.

        Raises:
            ContractError: there is none, or it is damaged.
        """
        path = folder / "job.json"
        try:
            description: dict[str, Any] = json.loads(path.read_text())
            return cls(**{**description, "command": tuple(description["command"])})
        except (OSError, ValueError, KeyError, TypeError) as err:
            raise ContractError(f"{path} describes no GPU job ({err}); clear the task, and it is written anew") from err


def folder_of(key: str) -> Path:
    """Give the folder of a job's key: readable, and one for each key."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", key).strip("-")[:_LONGEST_NAME]
    return settings().home / "jobs" / f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
