"""`python -m training.trainers.carry fetch|deliver MODEL INCIDENT ATTEMPT`: what driftloop does in a team's pod.

`fetch` runs before the team's container: it freezes the rows and puts them there, with the champion. `deliver` runs
beside it: it says when to begin, hears it, keeps its limits, and takes, tries and registers the model that it leaves.
"""

import logging
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import NoReturn

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError, DriftloopError
from datasets_defs.core.faults import reached
from datasets_defs.core.settings import settings
from datasets_defs.store.database import engine
from training.own.beside import DELIVER, FETCH, FOLDERS, TALK, lay_out, release
from training.registry.fetch import fetch
from training.trainers import job as training_job
from training.trainers.attempt import Attempt
from training.trainers.command import prepared
from training.trainers.contract import Job, JobResult, own_folder
from training.trainers.making import frozen_for

log = logging.getLogger(__name__)


def fetch_for(job: Job, talk: Path, *, db: Engine) -> JobResult | None:
    """Put rows and champion where the team's container finds them; the result, where there is no more to be done.

    Killed anywhere and run again, it goes on with the rows that it froze.

    Raises:
        TransientError: PostgreSQL or the registry is away.
    """
    lay_out(talk)

    def put(attempt: Attempt) -> JobResult | None:
        _forget_others(attempt.folder)
        if attempt.registry.find(attempt.spec.name, attempt.key) is None:
            snapshot = frozen_for(attempt)
            prepared(attempt, fetch(db, attempt.registry, attempt.spec.name, attempt.parent), snapshot)
        reached("carrier.fetched")
        return None

    result = training_job.worked(job, put, db=db)
    for name in FOLDERS:  # a mount of each is made, whatever there is to do
        (settings().home / own_folder(job.model, job.name) / name).mkdir(parents=True, exist_ok=True)
    return result


def main(arguments: list[str]) -> int:
    """Do one container's part; 0 when there is nothing left of it to do."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, _stop)  # the first process of a container ends by no signal that it does not take
    part, *rest = arguments
    if part not in (FETCH, DELIVER) or TALK not in os.environ:
        raise ContractError(f"carry {' '.join(arguments)}: needs {FETCH} or {DELIVER}, and {TALK}, as the pod has them")
    talk = Path(os.environ[TALK])
    if part == FETCH:
        return _fetch(Job(model=rest[0], incident_id=int(rest[1]), attempt=int(rest[2])), talk)
    try:
        return training_job.main(rest)
    finally:
        release(talk)


def _fetch(job: Job, talk: Path) -> int:
    try:
        result = fetch_for(job, talk, db=engine())
    except DriftloopError as err:
        log.error("%s: %s", type(err).__name__, err)  # noqa: TRY400 the message says it all
        return 1
    if result is None:
        return 0
    log.error("%s", result.message)
    return 1  # so that the pod ends, and no GPU waits


def _forget_others(folder: Path) -> None:
    """Delete what earlier attempts left on the claim: the model has one trainer at a time, and this is it."""
    for other in folder.parent.glob("*-own"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


def _stop(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
