"""Which GPUs of a machine are whose: leases that end with the process that holds them.

A lease is a lock in PostgreSQL, which all homes and containers of a machine share, and a file's lock, which the kernel
lets go of with the last process that inherited it. PostgreSQL lets go at its own restart, too, while the holder works
on: then the file's lock still keeps the GPU.
"""

import fcntl
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from sqlalchemy import Connection, Engine, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors

_SPACE = "driftloop gpu device"
VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
"""Variables by which a program learns which GPUs it may use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """GPUs of this machine that the process may use."""

    devices: tuple[str, ...]
    files: tuple[int, ...]
    """Descriptors of the files' locks; a child that inherits them keeps the GPUs for as long as it lives."""

    @property
    def environment(self) -> dict[str, str]:
        """Give the variables that show a program these GPUs and no others."""
        return dict.fromkeys(VISIBLE, ",".join(self.devices))


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """One GPU that is or was leased, as `driftloop gpus` shows it."""

    machine: str
    device: str
    holder: str
    since: datetime
    is_held: bool
    """Whether the holder's lock stands; one that ended without a word leaves a row and no lock."""


def machine() -> str:
    """Name this machine, as leases do."""
    return socket.gethostname()


def devices_here(count: int) -> tuple[str, ...]:
    """Give the ids of this machine's GPUs, of which `count` are asked for.

    Raises:
        ContractError: the setting lists none, or fewer.
    """
    devices = settings().devices
    if count > len(devices):
        raise ContractError(
            f"{count} GPUs are asked for, and DRIFTLOOP_GPU_DEVICES lists {len(devices)} on {machine()}; "
            f"list this machine's GPUs there, such as `0,1`, or ask for fewer"
        )
    return devices


@contextmanager
def lease(on: Connection, count: int, *, holder: str) -> Iterator[Lease | None]:
    """Try to take `count` GPUs of this machine over a connection that commits by itself; None: too few are free.

    All of them or none: of two who ask at once neither waits for what the other has.

    Raises:
        ContractError: the machine has fewer.
        TransientError: PostgreSQL is away.
    """
    taken: list[tuple[str, IO[str]]] = []
    devices = devices_here(count)
    try:
        for device in devices if count else ():
            if (file := _take(on, device)) is not None:
                taken.append((device, file))
                _note(on, device, holder)
            if len(taken) == count:
                break
        if len(taken) < count:
            _give_back(on, taken)
            yield None
        else:
            yield Lease(devices=tuple(device for device, _ in taken), files=tuple(file.fileno() for _, file in taken))
    finally:
        _give_back(on, taken)


def hold_again(on: Connection, held: Sequence[str]) -> None:
    """Look whether the locks in PostgreSQL stand, and take them again if the connection was lost.

    The files' locks have kept the GPUs meanwhile.

    Raises:
        TransientError: PostgreSQL is away.
    """
    with database_errors("holding the locks of GPUs"):
        try:
            if not on.invalidated:
                on.execute(text("SELECT 1"))
                return
        except DBAPIError as err:
            if not err.connection_invalidated:
                raise
        on.rollback()  # of the transaction that was lost with the connection
        for device in held:
            _locked(on, device)


def leases(db: Engine) -> list[Leased]:
    """Read every GPU that was ever leased, by machine and id; whether its lock stands is PostgreSQL's word.

    Raises:
        TransientError: PostgreSQL is away.
    """
    table = tables.gpu_lease.c
    with database_errors("reading the leases of GPUs"), db.connect() as on:
        rows = on.execute(select(tables.gpu_lease).order_by(table.machine, func.length(table.device), table.device))
        return [
            Leased(
                machine=row.machine, device=row.device, holder=row.holder, since=row.since,
                is_held=_is_held(on, row.machine, row.device),
            )
            for row in rows.all()
        ]  # fmt: skip


def _take(on: Connection, device: str) -> IO[str] | None:
    """Take one GPU, both locks or none."""
    with database_errors("leasing a GPU"):
        if not _locked(on, device):
            return None
    path = _file(device)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a")
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        _unlock(on, device)
        return None
    return file


def _give_back(on: Connection, taken: list[tuple[str, IO[str]]]) -> None:
    while taken:
        device, file = taken.pop()
        file.close()
        _unlock(on, device)


def _locked(on: Connection, device: str) -> bool:
    take = text("SELECT pg_try_advisory_lock(hashtext(:space), hashtext(:name))")
    return bool(on.scalar(take, {"space": _SPACE, "name": f"{machine()}:{device}"}))


def _unlock(on: Connection, device: str) -> None:
    let_go = text("SELECT pg_advisory_unlock(hashtext(:space), hashtext(:name))")
    with suppress(DBAPIError, PendingRollbackError):  # a connection that is lost holds nothing
        if not on.invalidated and not on.closed:
            on.execute(let_go, {"space": _SPACE, "name": f"{machine()}:{device}"})


def _note(on: Connection, device: str, holder: str) -> None:
    """Write down who has the GPU; the lock alone says whether that still holds."""
    values = {"machine": machine(), "device": device, "holder": holder, "since": func.now()}
    with database_errors("noting who leases a GPU"):
        on.execute(
            insert(tables.gpu_lease)
            .values(values)
            .on_conflict_do_update(index_elements=["machine", "device"], set_=values)
        )


def _is_held(on: Connection, where: str, device: str) -> bool:
    query = text(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND granted "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND classid::bigint = hashtext(:space)::bigint & 4294967295 "
        "AND objid::bigint = hashtext(:name)::bigint & 4294967295)"
    )
    return bool(on.scalar(query, {"space": _SPACE, "name": f"{where}:{device}"}))


def _file(device: str) -> Path:
    return settings().home / "gpus" / f"{re.sub(r'[^A-Za-z0-9-]', '_', device)}.lock"


def show(devices: Lease | None) -> None:
    """Let this process and its children see the leased GPUs and no others; without a lease nothing changes."""
    if devices is not None:
        os.environ.update(devices.environment)
