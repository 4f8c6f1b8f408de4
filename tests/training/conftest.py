"""Real parts for training: an MLflow server for the run, and a tiny language model."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch

from ops.stack.ports import free_port
from tests.training.uploads import Uploads, uploaded
from tests.waiting import wait_for

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running MLflow server that also hands artifacts through."""
    with running_mlflow(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@contextmanager
def running_mlflow(home: Path) -> Iterator[str]:
    """Run an MLflow server of one's own, and give its address."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{home}/mlflow.db", "--artifacts-destination", f"{home}/artifacts"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=home, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    wait_for(lambda: _is_healthy(url), lambda: f"MLflow starts; its log: {(home / 'log').read_text()[-2000:]}")
    yield url
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=1).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="session")
def uploads(mlflow_url: str, tmp_path_factory: pytest.TempPathFactory) -> Uploads:
    """Three versions whose files lie in the run's registry, for models of any name."""
    return uploaded(mlflow_url, tmp_path_factory.mktemp("uploads"))
