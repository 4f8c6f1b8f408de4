"""Jobs for the tests of places that train: a few lines of Python in place of a training."""

from dataclasses import dataclass
from datetime import UTC, datetime

from datasets_defs.core.incidents import Incident, State
from training.trainers.contract import Ending, Job, JobResult

INCIDENT = Incident(
    id=7, model="m", state=State.RETRAINING, signal="loss", attempt=1, opened_at=datetime.now(UTC),
    updated_at=datetime.now(UTC), degraded_since=datetime.now(UTC),
)  # fmt: skip
RESULT = JobResult(ending=Ending.REGISTERED, version=2)
DONE = (
    "from training.trainers.contract import Ending, Job, JobResult; "
    "JobResult(ending=Ending.REGISTERED, version=2).save(Job(model='m', incident_id=7, attempt=1))"
)
"""What a job does last; where it runs, the tests' own modules are not to be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script(Job):
    """A job that is a few lines of Python."""

    code: str

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("-c", self.code)


def script(code: str) -> Script:
    return Script(model=INCIDENT.model, incident_id=INCIDENT.id, attempt=INCIDENT.attempt, code=code)
