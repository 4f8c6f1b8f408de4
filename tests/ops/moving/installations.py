"""Two installations, each with its database, home and MLflow, and a model that has lived in one of them."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from sqlalchemy import Engine, insert

from datasets_defs.core.conditions import Verdict
from datasets_defs.core.incidents import State
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store import tables
from datasets_defs.store.verdicts import newest_verdicts
from datasets_defs.store.versions import note_version
from monitors.watch_drift import watch
from ops.moving import rows
from tests.monitors.loop import Loop
from tests.monitors.texts import documentation
from tests.training.test_killed import Serving
from tests.training.uploads import model_folder
from training import promote
from training.registry.manifest import MANIFEST_SHA256
from training.registry.moving import MovingRegistry

TEXTS = documentation()
SECRET = "zanzibar-9431"
"""A word of one user's request."""
LEASE = timedelta(seconds=60)


@dataclass(frozen=True)
class Installation:
    """Where one driftloop lives."""

    db: Engine
    home: Path
    url: str
    """Of its MLflow."""
    model: str

    @property
    def environment(self) -> dict[str, str]:
        """The settings that make a process one of this installation's."""
        return {
            "DRIFTLOOP_HOME": str(self.home),
            "DRIFTLOOP_ARTIFACT_ROOT": f"file://{self.home}/artifacts",
            "DRIFTLOOP_MODELS_DIR": str(self.home / "models"),
            "DRIFTLOOP_DATABASE_URL": self.db.url.render_as_string(hide_password=False),
            "DRIFTLOOP_MLFLOW_URL": self.url,
            "DRIFTLOOP_SERVING_CONFIRM_SECONDS": "60",
        }

    @contextmanager
    def here(self) -> Iterator[Loop]:
        """Let this process be one of the installation's for a while."""
        with mock.patch.dict(os.environ, self.environment), mock.patch("tests.monitors.loop.MODEL", self.model):
            settings.cache_clear()
            try:
                yield Loop(self.db, self.home)
            finally:
                settings.cache_clear()

    @property
    def registry(self) -> MovingRegistry:
        """Its MLflow."""
        return MovingRegistry(self.url)

    def rows_by_table(self, folder: Path) -> dict[str, list[dict[str, Any]]]:
        """Read the model's rows that travel, without what each place gives anew."""
        shutil.rmtree(folder, ignore_errors=True)
        with self.db.connect() as on:
            rows.dump(on, self.model, folder)
        found = {name: list(rows.load(folder, name)) for name in rows.TRAVELS}
        found["incident_event"] = [row for row in found["incident_event"] if row["kind"] != "imported"]
        numbers = {row["id"]: number for number, row in enumerate(found["incident"])}
        for row in (row for each in found.values() for row in each):
            for name in ("id", "incident_id"):
                if row.get(name) is not None:
                    row[name] = numbers[row[name]]
            for name in ("uri", "origin_incident_id"):
                row.pop(name, None)
        return found

    def is_empty(self) -> bool:
        """Say whether nothing of the model is here."""
        with self.db.connect() as on:
            present = rows.present(on, self.model)
        return not present and not (self.home / "models" / f"{self.model}.yaml").exists()

    def judged(self, number: int) -> dict[str, Verdict]:
        """Log a window of requests and judge it; give the verdicts."""
        with self.here() as loop:
            loop.traffic(number, TEXTS[400 + 20 * number : 500 + 20 * number], version=2)
            watch(self.model, until=loop.until(number), db=self.db, actor="watch_drift:t")
            found = newest_verdicts(self.db, self.model, now=loop.until(number))
        return {each.signal: each for each in found}


def lived(here: Installation) -> None:
    """Give the model a life: four versions, of which the second was promoted and the third is gone from MLflow."""
    with here.here() as loop, Serving(here.db, here.model):
        loop.spec()
        for version in (1, 2, 3, 4):
            register(here, version)
        here.registry._client.delete_model_version(here.model, "3")
        loop.champion(1)
        for version in (1, 2):
            loop.reference(TEXTS[:400], version=version)
        promoted(here)
        with here.db.begin() as on:
            on.execute(tables.champion.update().values(since=loop.window(0).start))
        loop.served_since(1, loop.window(-2).start)
        loop.served_since(2, loop.window(0).start)
        loop.traffic(0, (*TEXTS[500:599], f"{SECRET} is my word"), version=2)
    for number in (1, 2, 3):
        here.judged(number)


def register(here: Installation, version: int) -> None:
    """Register a version as the loop does: files, tags, parameters, curves, and its hash in the ledger."""
    folder = model_folder(here.home / f"made-{version}", f"weights {version} of {here.model}")
    given = here.registry.register(
        here.model, folder, key=f"{here.model}|v{version}", tags={"snapshot_uri": "file:///gone", "actor": "t"},
        params={"rate": 0.1 * version}, metrics={"loss": 2.0 / version},
        curves={"train": [(step, 3.0 / (step + version), 1.5 * step) for step in range(3)]},
    )  # fmt: skip
    assert given == version
    here.registry.describe(here.model, version, f"version {version}, in words")
    manifest = here.registry.tags(here.model, version)[MANIFEST_SHA256]
    note_version(here.db, here.model, version, manifest, actor="t")


def promoted(here: Installation) -> None:
    """Let an incident promote version 2, and end well."""
    ledger = Ledger(here.db)
    with here.here() as loop:
        incident, _ = ledger.open_incident(
            here.model, signal="loss", degraded_since=loop.window(-1).start, reason="worse", evidence={}, actor="t"
        )
        key = ledger.ring(incident.id)
        for frm, to in ((State.OPEN, State.RETRAINING), (State.RETRAINING, State.EVALUATING)):
            claim = ledger.claim(key, frm={frm}, to=to, actor="t", lease=LEASE, reason="r")
        row = {"incident_id": incident.id, "attempt": 1, "model": here.model, "champion_version": 1,
               "challenger_version": 2, "rows_uri": "file:///rows", "rows_sha256": "0", "scores": {"all": 1.25},
               "decision": "accept", "reason": "better", "at": loop.window(-1).start}  # fmt: skip
        with here.db.begin() as on:
            on.execute(insert(tables.evaluation).values(row))
        ledger.move(claim.incident, State.APPROVING, actor="t", reason="r", challenger_version=2, approved=True)
        assert promote.promote(str(ledger.ring(incident.id)), db=here.db, actor="promote:0").ring is not None
        ledger.move(ledger.incident(incident.id), State.RESOLVED, actor="t", reason="good again")


def incidents_of_others(here: Installation, count: int) -> None:
    """Open incidents of other models, which take the first numbers."""
    ledger = Ledger(here.db)
    for number in range(count):
        ledger.open_incident(
            f"other-{number}", signal="loss", degraded_since=datetime.now(UTC), reason="r", evidence={}, actor="t"
        )
