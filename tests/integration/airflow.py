"""The loop's Airflow and PostgreSQL, as `driftloop up` runs them, without the rest; on ports of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine

from datasets_defs.core.conditions import Condition, RingKey, Verdict
from datasets_defs.core.incidents import Incident, Wake
from datasets_defs.core.settings import ROOT, settings
from datasets_defs.core.windows import EPOCH, Window
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store.database import engine_for
from datasets_defs.store.verdicts import save_verdict
from ops.stack import plan
from ops.stack import up as stack
from ops.stack.components import AIRFLOW_COMPONENTS, Component
from ops.stack.layout import Layout, defined, write_private
from ops.stack.ports import PREFERRED, free_port
from ops.stack.postgres import USER
from ops.stack.supervision import Supervisor
from ops.stack.wake import ring
from tests.waiting import wait_for

NEEDED = {"postgres", *AIRFLOW_COMPONENTS} - {"triggerer"}
DAGS = ("reconcile", "triage")
"""The consumer under test and who repairs; sensors would judge every model's empty log beside them."""
RECONCILE_SECONDS = 20
LIMIT_SECONDS = 240


def wait_until(condition: Callable[[], object], what: str, limit: float = LIMIT_SECONDS) -> None:
    """Wait for a condition."""
    wait_for(condition, what, seconds=limit, every=0.5)


@dataclass
class Airflow:
    """A running Airflow with the loop's DAGs in a folder of its own."""

    home: Path
    db: Engine

    @property
    def layout(self) -> Layout:
        return Layout(self.home)

    @property
    def supervisor(self) -> Supervisor:
        return Supervisor(self.layout)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.db)

    @property
    def dags(self) -> Path:
        """The bundle; a copy, so that a file of it can be broken."""
        return self.home / "dags"

    def command(self, *arguments: str) -> str:
        """Run an `airflow` command on it."""
        environment = {**plan.environment(), **defined(self.layout)["scheduler"]["environment"]}
        result = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=environment, capture_output=True, text=True, check=False, timeout=180,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout[-1000:] + result.stderr[-2000:]
        return result.stdout

    def second_scheduler(self) -> subprocess.Popen[bytes]:
        """Start another scheduler beside the first, on the same database."""
        environment = {**plan.environment(), **defined(self.layout)["scheduler"]["environment"]}
        return subprocess.Popen(
            [sys.executable, "-m", "airflow", "scheduler", "--skip-serve-logs"],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def ask_airflow(self, query: str) -> object:
        """Ask Airflow's own database for one value."""
        credentials, port = self.layout.load_credentials(), json.loads(self.layout.ports.read_text())["postgres"]
        with psycopg.connect(
            host="127.0.0.1", port=port, user=USER, password=credentials.postgres_password, dbname="airflow"
        ) as on:
            row = on.execute(query).fetchone()
        return row[0] if row else None

    def break_data(self, model: str) -> Incident:
        """Open an incident whose data is broken: triage answers with quarantine, in one move."""
        length = settings().window_length
        start = EPOCH + ((datetime.now(UTC) - EPOCH) // length - 1) * length
        verdict = Verdict(
            model=model, signal="data", window=Window(start, start + length), condition=Condition.BAD,
            reason="column `x` is gone", method="test",
        )  # fmt: skip
        save_verdict(self.db, verdict)
        incident, new = self.ledger.open_incident(
            model, signal="data", degraded_since=start, reason="column `x` is gone", evidence={}, actor="test"
        )
        assert new
        return incident

    def ring(self, incident: Incident) -> bool:
        """Wake triage, as a sensor does."""
        return ring(Wake.TRIAGE, RingKey.parse(str(self.ledger.ring(incident.id))))

    def moves(self, model: str) -> list[tuple[str | None, str | None]]:
        """Give every move of a model's incidents, in order."""
        return [(each.from_state, each.state) for each in self.ledger.events(model) if each.kind == "moved"]


@contextmanager
def airflow_of_its_own(patch: pytest.MonkeyPatch, models: list[str]) -> Iterator[Airflow]:
    """Start PostgreSQL and Airflow with the loop's real DAGs; end them and leave nothing."""
    home = Path(tempfile.mkdtemp(prefix="driftloop-test-airflow-"))
    home.chmod(0o755)
    (home / "models").mkdir()
    for name in models:
        (home / "models" / f"{name}.yaml").write_text(
            f"name: {name}\nbase_model: {{}}\ntraining_text: builtin:python-docs\n"
        )
    (home / "dags").mkdir()
    for name in DAGS:
        shutil.copy(ROOT / "dags" / f"{name}.py", home / "dags")
    for name, value in {
        "DRIFTLOOP_HOME": home,
        "DRIFTLOOP_MODELS_DIR": home / "models",
        "DRIFTLOOP_RECONCILE_INTERVAL_SECONDS": RECONCILE_SECONDS,
    }.items():
        patch.setenv(name, str(value))
    patch.delenv("DRIFTLOOP_ARTIFACT_ROOT", raising=False)

    def few(components: list[Component]) -> list[Component]:
        listed = [item for item in components if item.name in NEEDED]
        for item in listed:
            if item.name in AIRFLOW_COMPONENTS:
                item.environment["AIRFLOW__CORE__DAGS_FOLDER"] = str(home / "dags")
                item.environment["AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL"] = "5"
                item.environment["AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL"] = "5"
        return listed

    settings.cache_clear()
    layout = Layout(home)
    layout.create()
    write_private(layout.ports, json.dumps({name: free_port() for name in PREFERRED}))
    try:
        stack.up(choose=few)
        engine = engine_for(settings().database_url)
        yield Airflow(home, engine)
        engine.dispose()
    finally:
        stack.down()
        settings.cache_clear()
        shutil.rmtree(home, ignore_errors=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started here, with its group."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
