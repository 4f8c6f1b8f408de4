"""What a place that trains can do: take a job, say how it stands, stop it. A job outlives the task that watches it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import Incident, attempt_name
from datasets_defs.core.settings import settings
from datasets_defs.store.artifacts import artifact_url, exists, read_bytes, write_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training attempt of an incident: the same for every run of Airflow that watches it."""

    model: str
    incident_id: int
    attempt: int
    trial: int | None = None
    """Number of the setting that it tries, where the attempt tries several; None: it makes the challenger."""

    @classmethod
    def of(cls, incident: Incident) -> "Job":
        """Name the training of an incident's present attempt."""
        return cls(model=incident.model, incident_id=incident.id, attempt=incident.attempt)

    @property
    def name(self) -> str:
        """Of the attempt in artifacts and folders; one model's jobs differ in it."""
        name = attempt_name(self.incident_id, self.attempt)
        return name if self.trial is None else f"{name}-trial-{self.trial}"

    @property
    def key(self) -> str:
        """Of the challenger's version in the registry: `model|incident|attempt`; of a trial, its run's there."""
        key = f"{self.model}|{self.incident_id}|{self.attempt}"
        return key if self.trial is None else f"{key}|trial-{self.trial}"

    @property
    def arguments(self) -> tuple[str, ...]:
        """What Python is to run where the job trains."""
        numbers = (self.incident_id, self.attempt, *(() if self.trial is None else (self.trial,)))
        return ("-m", "training.trainers.job", self.model, *map(str, numbers))

    @property
    def file(self) -> Path:
        """Its lock where it trains on this machine."""
        return settings().home / "training" / self.model / f"{self.name}.job"

    @property
    def result_url(self) -> str:
        """Where the job writes how it ended."""
        return artifact_url("training", self.model, f"{self.name}.json")


def own_folder(model: str, name: str) -> str:
    """Give an attempt's folder below the pod's home, which its description names before anybody knows the parent."""
    return f"training/{model}/{name}-own"


class OnThisMachine(Protocol):
    """What a process of this machine is known by, which lives on whatever becomes of who began it."""

    @property
    def key(self) -> str:
        """Names it in the environment of all its processes."""
        ...

    @property
    def arguments(self) -> tuple[str, ...]:
        """What Python is to run."""
        ...

    @property
    def file(self) -> Path:
        """Its lock, `….job`; the log stands beside it."""
        ...


class Phase(StrEnum):
    """Where a job stands."""

    ABSENT = "absent"
    """It was never submitted, or nothing is left of it."""
    WAITING = "waiting"
    """It was taken and does not train yet."""
    RUNNING = "running"
    ENDED = "ended"
    """Well or not: the job's result says which; without one it died."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a job stands, as the place that trains sees it."""

    phase: Phase
    reason: str
    """In words, for logs and errors."""
    out_of_memory: bool = False
    """Whether the kernel ended it since memory was short."""

    @property
    def active(self) -> bool:
        """Whether the job trains or will."""
        return self.phase in (Phase.WAITING, Phase.RUNNING)


class Trainer(Protocol):
    """A place that trains. Made anew by each run that watches; what it knows of a job it finds out by itself.

    Raises (every method):
        TransientError: the place cannot be asked now.
        ContractError: it refuses the job for good.
    """

    def submit(self, job: Job) -> None:
        """Have the job begun; one that is active is left alone, so that doing it twice starts one."""
        ...

    def look(self, job: Job) -> Look:
        """Say how the job stands."""
        ...

    def stop(self, job: Job) -> None:
        """End the job and wait until it trains no more; one that is not there is fine."""
        ...

    def said(self, job: Job) -> list[str]:
        """Give the lines that the job logged since the last call; the first call gives the newest few."""
        ...

    def facts(self, job: Job) -> Mapping[str, str]:
        """Say what the place knows of the job that the job does not, for the tags of its version and run."""
        ...


class Ending(StrEnum):
    """How a job ended for good; one that may end otherwise when tried again writes nothing."""

    REGISTERED = "registered"
    TRIED = "tried"
    """A setting was tried; the challenger is made of the best one."""
    CONTRACT = "contract"
    """The spec, the base model or the training is wrong."""
    OUT_OF_MEMORY = "out_of_memory"
    """The training does not fit the memory; the message says what to set."""
    DATA_BREAK = "data_break"
    """The rows are broken; no step was trained on them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What came of a job: written once by the process that trained, read by whoever watches."""

    ending: Ending
    version: int | None = None
    """Of the challenger that was registered."""
    message: str = ""
    """What is wrong."""

    def save(self, job: Job) -> None:
        """Write the result whole or not at all; writing it again changes nothing."""
        write_bytes(job.result_url, json.dumps(asdict(self)).encode())

    @classmethod
    def of(cls, job: Job) -> "JobResult | None":
        """Read a job's result; None while there is none.

        Raises:
            ContractError: it is there and says nothing that a job says.
        """
        if not exists(job.result_url):
            return None
        try:
            content = json.loads(read_bytes(job.result_url))
            return cls(ending=Ending(content["ending"]), version=content["version"], message=content["message"])
        except (ValueError, KeyError, TypeError) as err:
            raise ContractError(f"{job.result_url} is damaged ({err}); remove it, and the job is done again") from err
