"""`driftloop train` against real PostgreSQL and MLflow: registered, described, resumed, and nothing else touched."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import State
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.store.heartbeats import heartbeats
from datasets_defs.store.versions import adapter_of
from ops.cli.main import app
from tests.training import test_steps as steps
from training.by_hand import train
from training.fit import fine_tune
from training.fit.plan import Progress
from training.model.language_model import LanguageModel
from training.registry.fetch import fetch
from training.registry.manifest import ADAPTER_OF
from training.registry.registry import Registry

db = steps.db


@pytest.fixture(autouse=True)
def _same_database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", database_url)
    settings.cache_clear()


def ask_for(home: Path, more: str) -> None:
    """Put more into the retrain section of the model's YAML."""
    path = home / "models" / f"{steps.MODEL}.yaml"
    path.write_text(path.read_text().replace("retrain: {", f"retrain: {{{more}, "))


def data_in_a_process_of_its_own() -> dict[str, Any]:
    """Give what `driftloop data` prints: a process that reads Arrow tables and never needs pandas."""
    command = [sys.executable, "-m", "ops.cli.main", "data", steps.MODEL, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_version_and_nothing_else(db: Engine, home: Path):
    """The command registers a merged low-rank version with its whole record; incident and aliases stand as before."""
    ask_for(home, "method: lora, lora: {rank: 4, alpha: 8}")
    incident = steps.open_incident(db)
    shown = data_in_a_process_of_its_own()
    events = len(Ledger(db).events(steps.MODEL))

    done = CliRunner().invoke(app, ["train", steps.MODEL, "--json"])

    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["version"], found["parent"]) == (2, 1)
    now = Ledger(db).incident(incident.id)
    assert (now.state, now.attempt, now.challenger_version) == (State.OPEN, 0, None)
    assert len(Ledger(db).events(steps.MODEL)) == events
    registry = Registry(settings().mlflow_url)
    assert registry.aliases(steps.MODEL) == {"champion": 1}

    tags = registry.tags(steps.MODEL, 2)
    assert tags["by_hand"] == "true"
    assert tags["snapshot_uri"] == found["snapshot_uri"]
    assert shown["snapshot_sha256"] == tags["snapshot_sha256"]  # `driftloop data` showed these very rows
    assert tags["code_version"].startswith("0.1.0")
    run = registry._client.get_model_version(steps.MODEL, "2").run_id
    record = registry._client.get_run(run).data
    wanted = {"method": "lora", "lora.rank": "4", "learning_rate": "0.003", "snapshot_sha256": tags["snapshot_sha256"]}
    assert wanted.items() <= record.params.items()
    assert int(record.params["trained_parameters"]) > 0
    for name in ("loss", "learning_rate", "tokens_per_second"):
        points = registry._client.get_metric_history(run, name)
        assert [point.step for point in points] == list(range(1, int(record.metrics["steps"]) + 1))
    assert "\ntorch==" in Path(registry._client.download_artifacts(run, "environment.txt")).read_text()

    folder = fetch(db, registry, steps.MODEL, 2)
    assert not list(folder.glob("adapter*"))
    LanguageModel.load(folder)
    _, said = heartbeats(db)[f"training:{steps.MODEL}"]
    assert (said["at_work"], said["step"]) == (False, said["steps"])


@pytest.mark.slow
def test_a_version_that_is_an_adapter(db: Engine, home: Path):
    """With `merge: false` the registry holds the adapter alone, ledger and tag say whose, and the next goes on."""
    ask_for(home, "method: lora, lora: {rank: 4, alpha: 8, merge: false}")
    registry, since = Registry(settings().mlflow_url), datetime.now(UTC) - timedelta(hours=1)
    for version in (2, 3):
        now = datetime.now(UTC) + timedelta(seconds=version)  # another one each time
        found = train.by_hand(
            spec_of(steps.MODEL), db=db, registry=registry, since=since, now=now, actor="t", tell=lambda _: None
        )
        assert found.version == version
        folder = fetch(db, registry, steps.MODEL, version)
        assert not (folder / "model.safetensors").exists()
        assert LanguageModel.load(folder).encode("a")
        assert (adapter_of(db, steps.MODEL, version), registry.tags(steps.MODEL, version)[ADAPTER_OF]) == (1, "1")
        champion = Ledger(db).champion(steps.MODEL)
        Ledger(db).change_champion(
            steps.MODEL, expected=champion.version, to=version, kind="promote", reason="t", actor="t"
        )


@pytest.mark.slow
def test_interrupted(db: Engine, home: Path, monkeypatch: pytest.MonkeyPatch):
    """Interrupted and asked for again, it goes on with the rows it froze; asked for once more, it is another one."""
    monkeypatch.setattr(fine_tune, "PROGRESS_SECONDS", 0.0)
    ask_for(home, "checkpoint_seconds: 1e-9")  # after every step
    spec, registry = spec_of(steps.MODEL), Registry(settings().mlflow_url)
    now = datetime.now(UTC)
    told: list[int] = []

    def stop(progress: Progress) -> None:
        told.append(progress.step)
        if progress.step == 3:
            raise KeyboardInterrupt

    def trained(at: datetime, tell=lambda _: None) -> train.Trained:
        since = now - timedelta(hours=1)
        return train.by_hand(spec, db=db, registry=registry, since=since, now=at, actor="t", tell=tell)

    with pytest.raises(KeyboardInterrupt):
        trained(now, stop)
    told.clear()
    found = trained(now + timedelta(minutes=5), lambda progress: told.append(progress.step))
    another = trained(now + timedelta(minutes=6))

    assert told[0] == 3  # the step that was not saved yet is taken again
    assert (found.version, another.version) == (2, 3)
    assert f"{now:%H%M%S}" in found.snapshot_uri
    assert another.snapshot_uri != found.snapshot_uri


def test_nothing_to_start_from(engine: Engine, home: Path):
    """A model without a champion is told what to do first."""
    (home / "models" / "empty.yaml").write_text("{name: empty, base_model: {layers: 1}, training_text: x.txt}")
    with pytest.raises(ContractError, match="driftloop bootstrap empty"):
        train.by_hand(
            spec_of("empty"),
            db=engine,
            registry=Registry("http://127.0.0.1:9"),
            since=None,
            now=datetime.now(UTC),
            actor="t",
        )
