"""A real Airflow api-server with a home, a database and a port of its own, for tests of what stands in its UI."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from ops.stack.ports import free_port
from tests.waiting import wait_for

USER, PASSWORD = "somebody", "a-password-of-the-test"
START_SECONDS = 400


@dataclass(frozen=True)
class Server:
    """Where it is."""

    url: str
    log: Path

    def token(self) -> str:
        """Log in as the UI does, and give the token that it keeps in its cookie."""
        answer = httpx.post(
            f"{self.url}/auth/token", json={"username": USER, "password": PASSWORD}, trust_env=False, timeout=60
        )
        return answer.raise_for_status().json()["access_token"]


@contextmanager
def airflow_server(home: Path, database: str, settings: Mapping[str, str], *, path: str = "") -> Iterator[Server]:
    """Run an api-server on a database of PostgreSQL; `settings` are the `DRIFTLOOP_*` that it shall see."""
    port = free_port()
    url = f"http://127.0.0.1:{port}{path}"
    home.mkdir(parents=True, exist_ok=True)
    (home / "passwords.json").write_text(json.dumps({USER: PASSWORD}))
    (home / "dags").mkdir(exist_ok=True)
    address = database.split("://", 1)[1]
    sections = {
        "CORE__DAGS_FOLDER": home / "dags",
        "CORE__LOAD_EXAMPLES": False,
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": home / "passwords.json",
        "DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{address}",
        "DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"postgresql+asyncpg://{address}",
        "DATABASE__LOAD_DEFAULT_CONNECTIONS": False,
        "API__HOST": "127.0.0.1",
        "API__PORT": port,
        "API__BASE_URL": url,
        "API__SECRET_KEY": secrets.token_hex(16),
        "API__WORKERS": 1,
        "API_AUTH__JWT_SECRET": secrets.token_hex(16),
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "DRIFTLOOP_"))}
    environment = {
        **clean,
        **{f"AIRFLOW__{name}": str(value) for name, value in sections.items()},
        **settings,
        "AIRFLOW_HOME": str(home),
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "airflow"]
    subprocess.run([*command, "db", "migrate"], env=environment, cwd=home, check=True, capture_output=True, timeout=400)
    log = home / "api-server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "api-server"], env=environment, cwd=home, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        _wait_for(f"{url}/api/v2/monitor/health", process, log)
        yield Server(url, log)
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    def said() -> str:
        return log.read_text(errors="replace")[-3000:]

    def healthy() -> bool:
        assert process.poll() is None, said()
        return httpx.get(url, trust_env=False, timeout=5).status_code == 200

    wait_for(healthy, said, seconds=START_SECONDS, every=0.3, forgive=(httpx.HTTPError,))


@contextmanager
def temporary_home() -> Iterator[Path]:
    """Give a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="driftloop-test-airflow-ui-") as folder:
        yield Path(folder)
