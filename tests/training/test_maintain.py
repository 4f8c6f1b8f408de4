"""The disk after trainings: what is in use stays, everything else is freed; on real files, PostgreSQL and MLflow."""

import fcntl
import os
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from datasets_defs.core.incidents import State
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store.artifacts import artifact_url, write_bytes
from datasets_defs.store.references import ReferenceProfile, save_reference
from tests.training.uploads import Uploads
from training.maintain import tidy_files
from training.registry.registry import Registry

NOW = datetime.now(UTC)


class Disk:
    """A home with files of a model, all of which are old unless said otherwise."""

    def __init__(self, db: Engine, home: Path, model: str) -> None:
        self.db, self.home, self.model = db, home, model

    def write(self, *names: str, days: float = 400) -> None:
        """Write files of so many days ago; `MODEL` in a name stands for the model's."""
        for name in names:
            path = self.home / name.replace("MODEL", self.model)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("content")
            at = (NOW - timedelta(days=days)).timestamp()
            for each in (path, *path.parents):
                if each == self.home:
                    break
                os.utime(each, (at, at))

    def files(self) -> set[str]:
        """Give the files that are there, but the model's YAML."""
        found = (path.relative_to(self.home) for path in self.home.rglob("*") if path.is_file())
        return {str(path).replace(self.model, "MODEL") for path in found if path.parts[0] != "models"}

    def tidy(self) -> dict[str, int]:
        """Tidy."""
        return tidy_files(db=self.db, now=NOW)


@pytest.fixture
def disk(engine: Engine, home: Path, uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A model whose version 2 serves, after version 1."""
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", uploads.url)
    settings.cache_clear()
    model = f"m-{secrets.token_hex(4)}"
    (home / "models" / f"{model}.yaml").write_text(
        f"name: {model}\nbase_model: {{}}\ntraining_text: builtin:python-docs\n"
    )
    uploads.offer(model)
    ledger = Ledger(engine)
    ledger.change_champion(model, expected=None, to=1, kind="bootstrap", reason="r", actor="t")
    ledger.change_champion(model, expected=1, to=2, kind="promote", reason="r", actor="t")
    return Disk(engine, home, model)


def test_only_what_is_in_use_is_left(disk: Disk) -> None:
    """Of three attempts, a killed download and copies of three versions stay what is wanted and what serves."""
    ledger, lease = Ledger(disk.db), timedelta(hours=1)
    incident, _ = ledger.open_incident(
        disk.model, signal="loss", degraded_since=NOW, reason="r", evidence={}, actor="t"
    )
    for attempt in (1, 2):
        claim = ledger.claim(
            ledger.ring(incident.id), frm={State.OPEN}, to=State.RETRAINING, actor="t", lease=lease, reason="r"
        )
        assert claim.incident is not None
        if attempt == 1:
            ledger.move(claim.incident, State.OPEN, actor="t", reason="again")
    wanted = {
        f"training/MODEL/incident-{incident.id}-attempt-2-from-v2/checkpoints/step-9", "training/MODEL/lock",
        "cache/MODEL/v1/weights", "cache/MODEL/v2/weights", "serving-cache/MODEL/v3/weights",
    }  # fmt: skip
    gone = {
        f"training/MODEL/incident-{incident.id}-attempt-1-from-v2/checkpoints/step-9",
        "training/MODEL/incident-99-attempt-1-from-v1/model/weights", "cache/MODEL/v3/weights",
        "cache/MODEL/.v2.abcd/weights", "serving-cache/MODEL/.v2.abcd/weights", "tmp/snapshot-abcd/texts",
        "logs/tasks/dag/1.log", "training/MODEL/by-hand-since-20260101T000000-at-20260102T000000-from-v1/x",
    }  # fmt: skip
    disk.write(*wanted, *gone)
    disk.write("cache/MODEL/.v3.efgh/weights", "tmp/snapshot-efgh/texts", "logs/tasks/dag/2.log", days=0)
    young = {"cache/MODEL/.v3.efgh/weights", "tmp/snapshot-efgh/texts", "logs/tasks/dag/2.log"}
    assert sum(disk.tidy().values()) == len(gone)
    assert disk.files() == wanted | young
    assert disk.tidy() == {}


def test_where_somebody_works_nothing_is_taken_away(disk: Disk) -> None:
    """A process that trains by hand, or an attempt that still stops, keeps its folder, however long it said nothing."""
    by_hand = "training/MODEL/by-hand-since-20260101T000000-at-20260102T000000-from-v1/x"
    attempt = "training/MODEL/incident-99-attempt-1-from-v1/x"
    disk.write(by_hand, attempt, "training/MODEL/lock", "training/MODEL/incident-99-attempt-1.job")
    locks = [(disk.home / "training" / disk.model / name).open() for name in ("lock", "incident-99-attempt-1.job")]
    for lock in locks:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
    assert disk.tidy() == {}
    for lock in locks:
        lock.close()
    assert disk.tidy() == {"home/training": 2}


def test_artifacts_of_versions_in_use_stay(disk: Disk) -> None:
    """What is replayed into the next challenger and what windows are judged against stay; what nobody names goes."""
    registry = Registry(settings().mlflow_url)
    for version, name in ((1, "bootstrap"), (2, "incident-1-attempt-1"), (3, "incident-2-attempt-1")):
        uri = artifact_url("snapshots", disk.model, f"{name}.parquet")
        registry.set_tags(disk.model, version, {"snapshot_uri": uri})
    reference = artifact_url("references", disk.model, "v2-abcd.parquet")
    write_bytes(reference, b"rows")
    save_reference(
        disk.db,
        ReferenceProfile(model=disk.model, version=2, uri=reference, sha256="s", rows=1, source="t"),
    )
    snapshots = [f"artifacts/snapshots/MODEL/{name}" for name in (
        "bootstrap.parquet", "incident-1-attempt-1.parquet", "incident-1-attempt-1.report.json",
        "incident-2-attempt-1.parquet", "incident-2-attempt-1.rejected.parquet")]  # fmt: skip
    others = [f"artifacts/{folder}/MODEL/incident-1-attempt-1.{ending}" for folder, ending in (
        ("evaluations", "parquet"), ("training", "json"), ("generations", "parquet"))]  # fmt: skip
    disk.write(
        *snapshots, *others, "artifacts/references/MODEL/v2-abcd.parquet", "artifacts/references/MODEL/v3-ef.parquet"
    )
    assert disk.tidy() == {
        "artifacts/references": 1, "artifacts/generations": 1, "artifacts/evaluations": 1, "artifacts/training": 1,
        "artifacts/snapshots": 2,
    }  # fmt: skip
    assert disk.files() == {*snapshots[:3], "artifacts/references/MODEL/v2-abcd.parquet"}


def test_snapshots_stay_while_nobody_can_say_whose_they_are(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the registry away no snapshot is deleted; the next day it is."""
    disk.write("artifacts/snapshots/MODEL/incident-9-attempt-1.parquet")
    with monkeypatch.context() as away:
        away.setenv("DRIFTLOOP_MLFLOW_URL", "http://127.0.0.1:9")
        settings.cache_clear()
        assert disk.tidy() == {}
    settings.cache_clear()
    assert disk.tidy() == {"artifacts/snapshots": 1}
