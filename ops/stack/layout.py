"""Where the local stack keeps its files, its generated credentials, and the settings that commands read."""

import fcntl
import hashlib
import json
import os
import secrets
import stat
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from datasets_defs.core.errors import ContractError

SOCKET_PATH_LIMIT = 107
"""Longest address of a Unix socket on Linux, in bytes (unix(7))."""
DEMO_MODELS = "demo-models"
"""Folder of the home in which the demo puts specs that differ from the user's; it holds for one start."""
SHORT = Path("/tmp")  # noqa: S108 a folder of our own is made in it, and checked
"""Where the socket of a deep home goes: the same for every session, unlike XDG_RUNTIME_DIR, and there after log-out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Secrets of one stack, generated at its first start."""

    postgres_password: str
    """Of the cluster's superuser, who owns the loop's schema."""
    loop_password: str
    """Of the role that the loop's processes connect as."""
    airflow_password: str
    fernet_key: str
    """Encrypts Connections in Airflow's database; another key could not read them."""
    jwt_secret: str
    api_secret_key: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one stack, below its home."""

    home: Path

    @property
    def ports(self) -> Path:
        """The remembered ports."""
        return self.home / "ports.json"

    @property
    def credentials(self) -> Path:
        """The generated secrets."""
        return self.home / "credentials.json"

    @property
    def settings(self) -> Path:
        """The `DRIFTLOOP_*` settings of the stack, read by every command."""
        return self.home / "driftloop.env"

    @property
    def components(self) -> Path:
        """Commands and environments of the components; private, since it holds secrets."""
        return self.home / "components.json"

    @property
    def supervisor_config(self) -> Path:
        """The supervisor's configuration."""
        return self.home / "supervisord.conf"

    @property
    def supervisor_pid(self) -> Path:
        """The running supervisor's process id."""
        return self.home / "supervisord.pid"

    @property
    def supervisor_socket(self) -> Path:
        """The supervisor's control socket; in a short private folder when the home's path is too long for one."""
        inside = self.home / "supervisord.sock"
        if len(os.fsencode(inside)) + len(".1234567") <= SOCKET_PATH_LIMIT:  # it is bound under a name with its pid
            return inside
        name = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        return SHORT / f"driftloop-{os.geteuid()}-{name}" / "supervisord.sock"

    @property
    def logs(self) -> Path:
        """One log per component."""
        return self.home / "logs"

    def log_of(self, component: str) -> Path:
        """Give the log of one component."""
        return self.logs / f"{component}.log"

    def create(self) -> None:
        """Make the folders.

        Raises:
            ContractError: the home cannot be written, or somebody else owns the socket's folder.
        """
        # Root's PostgreSQL runs as `nobody`, who has to pass through; nothing in the home itself is open to others.
        mode = 0o755 if os.geteuid() == 0 else 0o700
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            self.home.chmod(mode)
            for private in (self.logs, self.home / "artifacts"):  # whoever makes a file in them first
                private.mkdir(mode=0o700, exist_ok=True)
        except OSError as err:
            raise ContractError(
                f"{self.home} cannot be written ({err}); set DRIFTLOOP_HOME to a folder of yours"
            ) from err
        folder = self.supervisor_socket.parent
        if folder != self.home:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = folder.lstat()
            if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o077:
                raise ContractError(f"{folder} is open to others; remove it, or set DRIFTLOOP_HOME to a shorter path")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the home against a second `up` or `down`; the lock lives on the folder and leaves no file."""
        self.create()
        handle = os.open(self.home, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def load_credentials(self) -> Credentials:
        """Read the stack's secrets, generating on first use those that are missing."""
        try:
            known = json.loads(self.credentials.read_text(encoding="utf-8"))
        except FileNotFoundError:
            known = {}
        except ValueError as err:
            raise ContractError(f"{self.credentials} is damaged ({err}); restore it: the databases need it") from err
        fresh = {field.name: secrets.token_urlsafe(24) for field in fields(Credentials)}
        fresh["fernet_key"] = urlsafe_b64encode(secrets.token_bytes(32)).decode()
        values = {name: str(known.get(name, value)) for name, value in fresh.items()}
        credentials = Credentials(**values)
        if values != known:
            write_private(self.credentials, json.dumps(asdict(credentials), indent=1))
        return credentials

    def load_settings(self) -> dict[str, str]:
        """Read the settings that the last `up` wrote; empty before the first."""
        try:
            lines = self.settings.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        return {name: json.loads(value) for name, value in pairs}

    def save_settings(self, values: Mapping[str, str]) -> None:
        """Write the settings that commands read."""
        lines = ["# Written by `driftloop up`; the environment overrides it."]
        lines += [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in sorted(values.items())]
        write_private(self.settings, "\n".join(lines) + "\n")


def defined(layout: Layout) -> dict[str, Any]:
    """Read the components' definitions as the last start wrote them; empty before the first."""
    try:
        content = json.loads(layout.components.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_private(path: Path, content: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
