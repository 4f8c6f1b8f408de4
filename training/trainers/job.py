"""`python -m training.trainers.job MODEL INCIDENT ATTEMPT [TRIAL]`: the process that trains a challenger.

It is no part of Airflow's task: it holds the model's trainer locks, goes on while its incident waits for this very
attempt, whoever watches, and leaves its result as a file. What may go well when tried again leaves none.
"""

import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError, DriftloopError
from datasets_defs.core.faults import reached
from datasets_defs.core.incidents import SCHEDULED, Incident, attempt_name
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.store.database import engine
from datasets_defs.store.gpu_charges import settle
from training.data.freeze import DataBreakError
from training.fit.trouble import OutOfMemoryError
from training.limits.budget import of_attempt
from training.registry.registry import Registry
from training.trainers.attempt import Attempt
from training.trainers.contract import Ending, Job, JobResult
from training.trainers.locks import BusyError, gpus_here, only_trainer, places_for
from training.trainers.making import train
from training.trainers.trials import forget_trials, made_by_search, part_of, run_trial
from training.trainers.watch import is_wanted

log = logging.getLogger(__name__)
Result = TypeVar("Result", bound=JobResult | None)
"""What a part of a job gives: how it ended, or None where it goes on."""


class UnwantedError(ContractError):
    """The incident does not wait for this attempt any more; nothing is written, and nobody has to be told."""


def run(job: Job, *, db: Engine) -> JobResult:
    """Train as the model's only trainer, register the challenger, and write down how it ended.

    Killed anywhere and run again, it goes on from its last checkpoint with the rows it froze, to the same version.

    Raises:
        UnwantedError: somebody ended the incident, or another attempt has begun.
        TransientError: PostgreSQL or the registry is away.
    """
    attempts: list[Attempt] = []

    def work(attempt: Attempt) -> JobResult:
        attempts.append(attempt)
        return _trained(attempt) if job.trial is None else _tried(attempt, job.trial)

    result = worked(job, work, db=db)
    if result.ending is Ending.REGISTERED:
        for attempt in attempts:
            shutil.rmtree(attempt.folder, ignore_errors=True)
            forget_trials(attempt)
    return result


def worked(job: Job, work: Callable[[Attempt], Result], *, db: Engine) -> JobResult | Result:
    """Do a part of a job as the model's only trainer; what it ends as for good is written down. None: it goes on.

    Raises:
        UnwantedError: somebody ended the incident, or another attempt has begun.
        TransientError: PostgreSQL or the registry is away.
    """
    ledger = Ledger(db)
    with _when_it_is_free(ledger, job) as still_only:

        def hold() -> None:
            still_only()
            _require_wanted(ledger.incident(job.incident_id), job)

        hold()
        try:
            result: JobResult | Result = work(attempt_of(job, ledger, hold))
        except UnwantedError:
            raise
        except DataBreakError as err:
            result = JobResult(ending=Ending.DATA_BREAK, message=str(err))
        except OutOfMemoryError as err:
            result = JobResult(ending=Ending.OUT_OF_MEMORY, message=str(err))
        except ContractError as err:
            result = JobResult(ending=Ending.CONTRACT, message=str(err))
        if result is not None:
            result.save(job)
            reached("trainer.saved")
    return result


def _trained(attempt: Attempt) -> JobResult:
    return JobResult(ending=Ending.REGISTERED, version=train(attempt))


def _tried(attempt: Attempt, number: int) -> JobResult:
    return JobResult(ending=Ending.TRIED, message=str(run_trial(attempt, number)))


@contextmanager
def _when_it_is_free(ledger: Ledger, job: Job) -> Iterator[Callable[[], None]]:
    """Wait for the model's trainer locks and a place for as long as the job is wanted, and hold them.

    Who has them may be this very job on another machine, where a task before this one had begun it; once it has ended,
    its version is found.
    """
    with ExitStack() as held:
        while True:
            _require_wanted(ledger.incident(job.incident_id), job)
            try:
                spec = spec_of(job.model)
                places = places_for(spec, ledger.engine)
                still_only = held.enter_context(
                    only_trainer(ledger.engine, job.model, places=places, gpus=gpus_here(spec), part=part_of(job.trial))
                )
            except BusyError as err:
                log.info("%s", err)
            else:
                yield still_only
                return


def attempt_of(job: Job, ledger: Ledger, hold: Callable[[], None]) -> Attempt:
    """Describe the training of a job from what the ledger says of its incident.

    Raises:
        ContractError: there is no champion to start from, or the spec is wrong.
    """
    spec, incident = spec_of(job.model), ledger.incident(job.incident_id)
    champion = ledger.champion(job.model)
    if champion is None:
        raise ContractError(f"{job.model} has no champion to train from; run `driftloop bootstrap {job.model}`")
    return Attempt(
        spec=spec,
        parent=champion.version,
        name=attempt_name(job.incident_id, job.attempt),
        key=Job.of(incident).key,
        since=incident.fresh_since,
        ledger=ledger,
        registry=Registry(settings().mlflow_url),
        actor=incident.claimed_by or "trainer",
        hold=hold,
        settle=lambda seconds: settle(ledger.engine, of_attempt(incident, spec), seconds),
        tags={"incident": str(incident.id), "attempt": str(incident.attempt)},
        make=made_by_search if spec.search is not None and incident.signal == SCHEDULED else None,
    )


def _require_wanted(incident: Incident, job: Job) -> None:
    if not is_wanted(incident, job):
        raise UnwantedError(
            f"incident {incident.id} is {incident.state} at attempt {incident.attempt}; {job.name} stops"
        )


def main(arguments: list[str]) -> int:
    """Run a job to its end; 0 when it left a result."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    model, incident, attempt, *trial = arguments
    number = int(trial[0]) if trial else None
    job = Job(model=model, incident_id=int(incident), attempt=int(attempt), trial=number)
    log.info("%s of %s begins as process %d", job.name, job.model, os.getpid())
    try:
        result = run(job, db=engine())
    except DriftloopError as err:
        log.error("%s: %s", type(err).__name__, err)  # noqa: TRY400 the message says it all
        return 1
    log.info("%s: %s", job.name, result.message or f"version {result.version} is registered")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
