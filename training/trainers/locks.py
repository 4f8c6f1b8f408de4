"""One trainer per model at any time: a lock in PostgreSQL for all machines, and a file's lock for this one.

A trainer also holds one of the fleet's places, of which there are as many as the GPUs can take. The slot in Airflow's
pool would not do: it is free as soon as the task is dead, while the trainer goes on.
"""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from datasets_defs.core.errors import TransientError
from datasets_defs.core.settings import settings
from datasets_defs.spec.files import load_all
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.trainers import TorchrunTrainer, pod_of
from datasets_defs.store.database import database_errors
from datasets_defs.store.gpu_leases import Lease, lease, show
from datasets_defs.store.heartbeats import training_places

LOCK_PATIENCE_SECONDS = 30.0
"""How long a step waits for a trainer that lost its claim to notice and stop."""


class BusyError(TransientError):
    """Another trainer of the model is at work, or no GPU is free for one more."""


def places_for(spec: ModelSpec, db: Engine) -> int | None:
    """Give how many trainings may be at work at once where a model's are; None: only a cluster or a pool says."""
    if pod_of(spec.trainer) is not None:
        return None
    return training_places(db, [model_spec.gpus for model_spec in load_all()[0].values()])


def gpus_here(spec: ModelSpec) -> int:
    """Give how many of this machine's GPUs a model's training leases; 0 where a cluster or nobody gives them out."""
    if not settings().devices or pod_of(spec.trainer) is not None:
        return 0
    return spec.trainer.processes if isinstance(spec.trainer, TorchrunTrainer) else spec.gpus


@contextmanager
def only_trainer(
    db: Engine, model: str, *, places: int | None = None, gpus: int = 0, part: str = ""
) -> Iterator[Callable[[], None]]:
    """Hold the model's trainer locks; gives a check that they are still held, to be made before each write.

    With a `part` they are the locks of that part of a training, of which several are at work side by side.
    `places` is how many trainings of all models may be at work; None where others give out the GPUs, as a cluster does.
    `gpus` of this machine are leased, and this process and its children see them and no others.

    PostgreSQL lets go of its lock when this process or the connection dies, so also at its own restart, while the
    trainer lives on. The file's lock, which the kernel lets go of only with the process, then keeps the next trainer
    of this machine waiting until the check has stopped this one.

    Raises:
        BusyError: another trainer is at work, or every place is taken.
        TransientError: PostgreSQL is away; or, from the check, the lock was lost and this one must stop.
    """
    names = {"space": "driftloop trainer", "model": f"{model}|{part}" if part else model}
    give_up = time.monotonic() + LOCK_PATIENCE_SECONDS
    with database_errors("taking the trainer's lock"), db.connect() as opened:
        on = opened.execution_options(isolation_level="AUTOCOMMIT")
        try:
            while not _locked(on, names):
                _wait(f"another trainer of {model} is still at work", give_up)
            with _file_lock(model, part, give_up):
                while places is not None and not _has_place(on, places):
                    _wait(f"no GPU is free for a training of {model}: {places} of {places} are at work", give_up)
                with _leased(on, gpus, model, give_up) as leased:
                    show(leased)
                    yield lambda: _check(on, model)
        finally:
            _unlock(on)


def _locked(on: Connection, names: dict[str, str]) -> bool:
    return bool(on.scalar(text("SELECT pg_try_advisory_lock(hashtext(:space), hashtext(:model))"), names))


def _has_place(on: Connection, places: int) -> bool:
    """Take one of the fleet's places, over the connection of the model's lock: whoever lost that has neither."""
    take = text("SELECT pg_try_advisory_lock(hashtext('driftloop gpu'), :place)")
    return any(on.scalar(take, {"place": place}) for place in range(places))


@contextmanager
def _leased(on: Connection, gpus: int, model: str, give_up: float) -> Iterator[Lease | None]:
    """Wait for so many of this machine's GPUs, and hold them; without any to be leased hold nothing."""
    if not gpus:
        yield None
        return
    while True:
        with lease(on, gpus, holder=f"training of {model}") as leased:
            if leased is not None:
                yield leased
                return
        _wait(f"{gpus} GPUs are not free for a training of {model}: `driftloop gpus` says who has them", give_up)


def _unlock(on: Connection) -> None:
    try:
        if not on.invalidated:
            on.execute(text("SELECT pg_advisory_unlock_all()"))
    except DBAPIError:
        on.invalidate()  # the server let go of the lock when it lost the connection


def _check(on: Connection, model: str) -> None:
    """Ask over the lock's own connection; a new one would not hold the lock."""
    with database_errors(f"the lock of {model}'s only trainer is lost, so this one stops"):
        if on.invalidated:
            raise TransientError(f"the lock of {model}'s only trainer is lost, so this one stops")
        on.execute(text("SELECT 1"))


@contextmanager
def _file_lock(model: str, part: str, give_up: float) -> Iterator[None]:
    folder = settings().home / "training" / model
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"lock{part and '-'}{part}").open("w") as file:
        while not flocked(file, fcntl.LOCK_EX):
            _wait(f"another trainer of {model} is still at work", give_up)
        yield


def flocked(file: IO[str], kind: int) -> bool:
    """Take a file's lock, `fcntl.LOCK_EX` or `LOCK_SH`, unless somebody's hinders that; say whether it is taken."""
    try:
        fcntl.flock(file.fileno(), kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(why: str, give_up: float) -> None:
    if time.monotonic() > give_up:
        raise BusyError(f"{why}; this one tries again later")
    time.sleep(0.5)
