"""Nothing is loaded but what the ledger knows a version to be, against a real MLflow and a real PostgreSQL."""

import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.settings import settings
from datasets_defs.ledger.champions import Champion
from datasets_defs.store.artifacts import file_sha256
from datasets_defs.store.versions import manifest_of, manifests, note_version
from ops.stack.ports import free_port
from ops.verify.invariants import LoopRecord
from ops.verify.reading import broken_artifacts
from training.registry.fetch import fetch
from training.registry.manifest import MANIFEST, MANIFEST_SHA256, make_manifest
from training.registry.registry import Registry


@pytest.fixture
def model() -> str:
    """A name of its own in the shared registry."""
    return f"trusted-{secrets.token_hex(3)}"


def made(folder: Path, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(content)
    return folder


def registered(db: Engine, registry: Registry, model: str, folder: Path, key: str = "1") -> int:
    version = registry.register(model, folder, key=f"{model}|{key}", tags={}, params={}, metrics={})
    note_version(db, model, version, registry.tags(model, version)[MANIFEST_SHA256], actor="test")
    return version


def swap(registry: Registry, model: str, version: int, folder: Path) -> None:
    """Replace weights, manifest and tag of a version through MLflow's open API, as anybody who reaches it can."""
    make_manifest(folder)
    run = registry._client.get_model_version(model, str(version)).run_id
    for name in ("model.safetensors", MANIFEST):
        registry._client.log_artifact(run, str(folder / name), "model")
    registry.set_tags(model, version, {MANIFEST_SHA256: file_sha256(folder / MANIFEST)})


def test_swapped_weights_are_not_loaded(engine: Engine, home: Path, mlflow_url: str, model: str, tmp_path: Path):
    """Weights, manifest and tag that were replaced together are refused: the ledger knows another manifest."""
    registry = Registry(mlflow_url)
    version = registered(engine, registry, model, made(tmp_path / "good", b"good"))
    swap(registry, model, version, made(tmp_path / "evil", b"evil"))
    with pytest.raises(ContractError, match="not what was registered"):
        fetch(engine, registry, model, version)
    assert not (settings().home / "cache" / model / f"v{version}").exists()


def test_a_number_that_stands_for_something_else(
    engine: Engine, home: Path, mlflow_url: str, model: str, tmp_path: Path
):
    """A model that was deleted and begins again at version 1: neither loaded under that number, nor taken as new."""
    registry = Registry(mlflow_url)
    first = registered(engine, registry, model, made(tmp_path / "first", b"first"))
    registry._client.delete_registered_model(model)
    other = registry.register(model, made(tmp_path / "other", b"other"), key="other", tags={}, params={}, metrics={})
    assert other == first
    with pytest.raises(ContractError, match="not what was registered"):
        fetch(engine, registry, model, first)
    with pytest.raises(ContractError, match="registered under the same number"):
        note_version(engine, model, other, registry.tags(model, other)[MANIFEST_SHA256], actor="test")


def test_a_copy_serves_what_the_registry_has_lost(
    engine: Engine, home: Path, mlflow_url: str, model: str, tmp_path: Path
):
    """A version that was deleted in MLflow, or whose MLflow is away, is loaded from the cache by the ledger's hash."""
    registry = Registry(mlflow_url)
    version = registered(engine, registry, model, made(tmp_path / "made", b"weights"))
    folder = fetch(engine, registry, model, version)
    registry._client.delete_model_version(model, str(version))
    assert fetch(engine, registry, model, version) == folder
    away = Registry(f"http://127.0.0.1:{free_port()}")
    assert fetch(engine, away, model, version) == folder
    (folder / "model.safetensors").write_bytes(b"changed")
    with pytest.raises(TransientError):
        fetch(engine, away, model, version)


def test_a_file_more_is_not_the_version(engine: Engine, home: Path, mlflow_url: str, model: str, tmp_path: Path):
    """An adapter laid beside the weights, in the registry or in the cache, is not loaded with them."""
    registry = Registry(mlflow_url)
    version = registered(engine, registry, model, made(tmp_path / "made", b"weights"))
    folder = fetch(engine, registry, model, version)
    (folder / "adapter_model.safetensors").write_bytes(b"evil")
    again = fetch(engine, registry, model, version)
    assert [path.name for path in sorted(again.iterdir())] == [MANIFEST, "model.safetensors"]
    shutil.rmtree(folder)
    run = registry._client.get_model_version(model, str(version)).run_id
    registry._client.log_text(run, "{}", "model/adapter_config.json")
    with pytest.raises(ContractError, match=r"adapter_config\.json was never written there"):
        fetch(engine, registry, model, version)


def test_a_version_met_first_is_fixed_from_then_on(
    engine: Engine, home: Path, mlflow_url: str, model: str, tmp_path: Path
):
    """What was registered by hand is taken as it is at its first use, and as nothing else afterwards."""
    registry = Registry(mlflow_url)
    folder = made(tmp_path / "good", b"good")
    version = registry.register(model, folder, key="by hand", tags={}, params={}, metrics={})
    assert manifest_of(engine, model, version) is None
    fetch(engine, registry, model, version)
    shutil.rmtree(settings().home / "cache")
    swap(registry, model, version, made(tmp_path / "evil", b"evil"))
    with pytest.raises(ContractError, match="not what was registered"):
        fetch(engine, registry, model, version)


def test_verify_finds_a_swapped_version(
    engine: Engine, home: Path, mlflow_url: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A champion whose files and tag were replaced together is named; one that is what it was is not."""
    registry = Registry(mlflow_url)
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", mlflow_url)
    settings.cache_clear()
    version = registered(engine, registry, model, made(tmp_path / "good", b"good"))
    now = datetime.now(UTC)
    record = LoopRecord(now=now, champions=[Champion(model, version, None, now, 1)], manifests=manifests(engine))
    assert broken_artifacts(record) == ([], [])
    swap(registry, model, version, made(tmp_path / "evil", b"evil"))
    (wrong,), unknown = broken_artifacts(record)
    assert unknown == []
    assert "the registry has something else under its number" in wrong


def test_nobody_rewrites_what_a_version_is(engine: Engine):
    """The loop's role adds to the table and cannot change it."""
    note_version(engine, "m", 1, "a" * 64, actor="t")
    for change in ("UPDATE registered_version SET manifest_sha256 = 'b'", "DELETE FROM registered_version"):
        with pytest.raises(ProgrammingError, match="permission denied"), engine.begin() as on:
            on.execute(text(change))
