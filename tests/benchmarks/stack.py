"""A real PostgreSQL with the loop's schema and a model of its own, for the benchmarks that go through the log."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets_defs.core.settings import settings
from datasets_defs.store.database import engine_for
from datasets_defs.store.schema import migrate
from ops.stack.ports import free_port
from ops.stack.postgres import Cluster
from tests.monitors.loop import Loop


@contextmanager
def fresh_loop() -> Iterator[Loop]:
    """Start a cluster in a folder of its own; the settings point there until it is over."""
    with tempfile.TemporaryDirectory(prefix="driftloop-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another user where we are root
        home = folder / "home"
        (home / "models").mkdir(parents=True)
        server = Cluster(folder / "data", free_port(), "bench")
        server.create()
        server.start()
        before = dict(os.environ)
        os.environ.update(
            DRIFTLOOP_HOME=str(home),
            DRIFTLOOP_ARTIFACT_ROOT=f"file://{home}/artifacts",
            DRIFTLOOP_MODELS_DIR=str(home / "models"),
        )
        settings.cache_clear()
        try:
            server.ensure_databases(["bench"])
            migrate(server.url("bench"))
            engine = engine_for(server.url("bench"))
            yield Loop(engine, home)
            engine.dispose()
        finally:
            os.environ.clear()
            os.environ.update(before)
            settings.cache_clear()
            server.stop(immediate=True)
