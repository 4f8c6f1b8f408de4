"""Checks before a start: each says what was found, and what to do about it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import psutil
from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.settings import settings
from datasets_defs.store.grants import missing_privileges, rewritable
from datasets_defs.store.places import limited
from datasets_defs.store.schema import require_schema
from monitors.prometheus.of_settings import client_of_settings
from ops.stack import ports, postgres, prometheus_binary
from ops.stack.layout import Layout
from ops.stack.supervision import Supervisor

PYTHONS = ((3, 11), (3, 13))
"""Oldest and newest Python that every dependency has wheels for."""
DISK_GIB = 3.0
MEMORY_GIB = 3.0
GIB = 2**30


class Grade(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warning"
    """The stack can start; something may go wrong later."""
    BAD = "problem"
    """The stack cannot start."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One check's answer."""

    name: str
    grade: Grade
    sentence: str
    """What was found; for a problem also what to do."""


def examine() -> Iterator[Diagnosis]:
    """Check this machine, one finding at a time."""
    home = settings().home.resolve()
    yield python_version(sys.version_info[:2])
    yield writable(home)
    yield disk_space(home, shutil.disk_usage(_existing(home)).free / GIB)
    yield memory(psutil.virtual_memory().available / GIB)
    yield postgres_user(home, os.geteuid(), _nobody_may_enter)
    yield from taken_ports(home)
    yield prometheus()
    yield retention()


def require(progress: Callable[[str], None]) -> None:
    """Check this machine before a start, and tell the warnings.

    Raises:
        ContractError: the stack cannot start here; one sentence per problem.
    """
    problems = []
    for finding in examine():
        if finding.grade is Grade.BAD:
            problems.append(finding.sentence)
        elif finding.grade is Grade.WARN:
            progress(f"warning: {finding.sentence}")
    if problems:
        raise ContractError("\n".join(problems))


def python_version(version: tuple[int, ...]) -> Diagnosis:
    """Judge the interpreter."""
    words = ".".join(map(str, version))
    if PYTHONS[0] <= version <= PYTHONS[1]:
        return Diagnosis("python", Grade.OK, f"Python {words}")
    return Diagnosis(
        "python", Grade.BAD, f"Python {words}: 3.11, 3.12 or 3.13 is needed; run `make PYTHON=/path/to/python3.12 up`"
    )


def writable(home: Path) -> Diagnosis:
    """Judge whether the stack's folder can be written."""
    if os.access(_existing(home), os.W_OK | os.X_OK):
        return Diagnosis("home", Grade.OK, f"state goes to {home}")
    return Diagnosis("home", Grade.BAD, f"{home} cannot be written; set DRIFTLOOP_HOME to a folder of yours")


def disk_space(home: Path, free_gib: float) -> Diagnosis:
    """Judge the free space for databases, artifacts and models."""
    free = f"{free_gib:.1f} GiB free on the disk of {home}"
    if free_gib >= DISK_GIB:
        return Diagnosis("disk", Grade.OK, free)
    return Diagnosis(
        "disk", Grade.WARN, f"{free}; {DISK_GIB:g} GiB are advised: free some, or set DRIFTLOOP_HOME to another disk"
    )


def memory(available_gib: float) -> Diagnosis:
    """Judge the memory for Airflow, MLflow, serving and a trainer at the same time."""
    available = f"{available_gib:.1f} GiB of memory available"
    if available_gib >= MEMORY_GIB:
        return Diagnosis("memory", Grade.OK, available)
    return Diagnosis(
        "memory", Grade.WARN, f"{available}; the stack and a training run need {MEMORY_GIB:g} GiB: end something"
    )


def postgres_user(home: Path, uid: int, may_enter: Callable[[Path], bool]) -> Diagnosis:
    """Judge whether PostgreSQL, which refuses to run as root, has a user that reaches its files."""
    if uid != 0:
        return Diagnosis("postgres", Grade.OK, "PostgreSQL runs as you")
    for path in (_existing(home), postgres.BIN):
        if not may_enter(path):
            return Diagnosis(
                "postgres",
                Grade.BAD,
                f"PostgreSQL does not run as root, and the user {postgres.UNPRIVILEGED!r} it runs as instead cannot "
                f"enter {path}; work as an ordinary user, or put checkout and DRIFTLOOP_HOME where all may enter, "
                "e.g. /srv",
            )
    return Diagnosis("postgres", Grade.OK, f"PostgreSQL runs as {postgres.UNPRIVILEGED!r}, since you are root")


def taken_ports(home: Path) -> Iterator[Diagnosis]:
    """Judge the ports of a stopped stack; a running one holds its own."""
    layout = Layout(home)
    if Supervisor(layout).is_running():
        yield Diagnosis("ports", Grade.OK, "the stack is up and holds its ports")
        return
    known = ports.remembered(layout.ports)
    taken = [f"{name} {port}" for name, port in known.items() if not ports.is_free(port)]
    if taken:
        yield Diagnosis(
            "ports",
            Grade.WARN,
            f"another program holds ports of the last start ({', '.join(taken)}); `driftloop up` moves to others, "
            "or end that program first to keep the addresses",
        )
    else:
        yield Diagnosis("ports", Grade.OK, "ports are free")


def prometheus() -> Diagnosis:
    """Get Prometheus, unpacking it now if need be."""
    try:
        return Diagnosis("prometheus", Grade.OK, f"Prometheus in {prometheus_binary.ensure()}")
    except ContractError as err:
        return Diagnosis("prometheus", Grade.BAD, str(err))


def prometheus_server(home: Path) -> Diagnosis:
    """Ask the Prometheus that commands ask, with their credentials; that of a stopped stack answers nobody."""
    try:
        server = client_of_settings()
        server.query("vector(1)", at=datetime.now(UTC))
    except TransientError as err:
        runs = Supervisor(Layout(home)).is_running()
        return Diagnosis("metrics", Grade.WARN if runs or "not reachable" not in str(err) else Grade.OK, str(err))
    except ContractError as err:
        return Diagnosis("metrics", Grade.WARN, str(err))
    return Diagnosis("metrics", Grade.OK, f"Prometheus at {server.url} answers queries")


def retention() -> Diagnosis:
    """Tell for how long what users wrote is kept."""
    holds = [f"{place.name} {place.days}" for place in limited() if place.texts]
    return Diagnosis("retention", Grade.OK, f"days that users' texts are kept: {', '.join(holds)}")


def history_guard(db: Engine) -> Diagnosis:
    """Judge what the loop's role may do in its database; before the first start there is none to ask."""
    way = "run `driftloop up`, or for a PostgreSQL of yours `driftloop migrate` with DRIFTLOOP_OWNER_DATABASE_URL"
    try:
        require_schema(db)
        lacks, could = missing_privileges(db), rewritable(db)
    except TransientError:
        return Diagnosis(
            "history", Grade.OK, "PostgreSQL is not up: who may rewrite the history is asked at each start"
        )
    except ContractError as err:
        return Diagnosis("history", Grade.WARN, str(err))
    finally:
        db.dispose()
    if lacks:
        return Diagnosis("history", Grade.BAD, f"{'; '.join(lacks)}: {way}")
    if could:
        return Diagnosis("history", Grade.WARN, f"{'; '.join(could)}: {way}")
    return Diagnosis("history", Grade.OK, "the loop's role appends to the history and cannot rewrite it")


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _nobody_may_enter(path: Path) -> bool:
    command = [
        "setpriv",
        f"--reuid={postgres.UNPRIVILEGED}",
        "--regid=65534",
        "--clear-groups",
        "test",
        "-x",
        str(path),
    ]
    return subprocess.run(command, cwd="/", check=False, capture_output=True).returncode == 0
