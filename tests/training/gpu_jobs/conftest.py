"""A machine with two GPUs, as a setting says, and the loop's database as Airflow's Connection."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine

from datasets_defs.core.settings import settings


@pytest.fixture(autouse=True)
def machine(home: Path, engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two GPUs, an empty home and a database; what a test leaves running is ended."""
    monkeypatch.setenv("DRIFTLOOP_GPU_DEVICES", "0,1")
    monkeypatch.setenv("AIRFLOW_CONN_DRIFTLOOP_DB", database_url.replace("postgresql+psycopg://", "postgres://"))
    settings.cache_clear()
    yield
    for process in psutil.process_iter():
        try:
            is_ours = process.environ().get("DRIFTLOOP_HOME") == str(home.resolve())
        except (psutil.Error, OSError):
            continue
        if is_ours and process.pid != psutil.Process().pid:
            process.kill()
