"""A real Prometheus, and a model's surroundings in a real database, for the tests that ask."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.monitors.loop import Loop
from tests.prometheus_server import PrometheusServer, prometheus_server


@pytest.fixture(scope="session")
def prometheus() -> Iterator[PrometheusServer]:
    """A real Prometheus scraping a page that the test sets with `say`."""
    with (
        tempfile.TemporaryDirectory(prefix="driftloop-test-prom-") as folder,
        prometheus_server(Path(folder)) as server,
    ):
        yield server


@pytest.fixture
def loop(engine: Engine, home: Path) -> Loop:
    """A database, a home, and the ways to fill them."""
    loop = Loop(engine, home)
    loop.spec()
    return loop
