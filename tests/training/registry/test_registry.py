"""The registry, against a real MLflow server."""

import shutil
from pathlib import Path

import pytest

from datasets_defs.core.errors import ContractError, TransientError
from ops.stack.ports import free_port
from training.registry.manifest import MANIFEST_SHA256, make_manifest, verify_manifest
from training.registry.registry import Registry

KNOWN: dict[tuple[str, int], str] = {}
"""Manifests of what the tests registered."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two files, one of them in a folder of its own."""
    folder = tmp_path / "made"
    (folder / "inner").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights" * 1000)
    (folder / "inner" / "config.json").write_text("{}")
    return folder


def register(registry: Registry, model: str, folder: Path, key: str) -> int:
    version = registry.register(
        model, folder, key=key, tags={"parent": "1"}, params={"epochs": 3}, metrics={"loss": 2.5}
    )
    KNOWN[model, version] = registry.tags(model, version)[MANIFEST_SHA256]
    return version


def download(registry: Registry, model: str, version: int, cache: Path) -> Path:
    """Fetch a version as whoever knew its manifest from the registration does."""
    return registry.download(model, version, cache, expected=KNOWN.get((model, version), "unknown"))


def test_one_key_one_version(mlflow_url: str, folder: Path):
    """A second call with a key gives the first call's version; another key gives another."""
    registry = Registry(mlflow_url)
    first = register(registry, "keys", folder, "keys|1|1")

    assert (first, 2) == (
        register(registry, "keys", folder, "keys|1|1"),
        register(registry, "keys", folder, "keys|1|2"),
    )
    assert registry.tags("keys", first)["parent"] == "1"


def test_taken_up_on_another_machine(mlflow_url: str, folder: Path):
    """A registration that was cut short with 3 threads goes on with 7, or with an edited YAML: what stands stays."""
    registry = Registry(mlflow_url)
    begun = registry._run("moved", "moved|1|1")
    registry._client.log_param(begun, "threads", 3)
    params = {"threads": 7, "epochs": 3, "notes": "x" * 10_000}
    version = registry.register("moved", folder, key="moved|1|1", tags={}, params=params, metrics={})
    logged = registry.facts("moved", version).params
    assert (logged["threads"], logged["epochs"]) == ("3", "3")


def test_killed_between_upload_and_version(mlflow_url: str, folder: Path):
    """A registration that died after its upload goes on in the run it began."""
    registry = Registry(mlflow_url)
    make_manifest(folder)
    begun = registry._run("killed", "killed|1|1")
    registry._client.log_artifact(begun, str(folder / "model.safetensors"), "model")

    version = register(registry, "killed", folder, "killed|1|1")

    assert begun == registry._client.get_model_version("killed", str(version)).run_id


def test_download_is_whole_and_cached(mlflow_url: str, folder: Path, tmp_path: Path):
    """A download equals what was registered; it is fetched once, and again when the copy was damaged."""
    registry = Registry(mlflow_url)
    version = register(registry, "whole", folder, "whole|1|1")

    got = download(registry, "whole", version, tmp_path / "cache")
    stamp = (got / "model.safetensors").stat().st_mtime_ns

    assert verify_manifest(got) == []
    assert (folder / "model.safetensors").read_bytes() == (got / "model.safetensors").read_bytes()
    assert stamp == (download(registry, "whole", version, tmp_path / "cache") / "model.safetensors").stat().st_mtime_ns

    (got / "model.safetensors").write_bytes(b"bad")
    again = download(registry, "whole", version, tmp_path / "cache")

    assert verify_manifest(again) == []
    assert [again.name] == [path.name for path in again.parent.iterdir()]


def test_server_away(mlflow_url: str, folder: Path, tmp_path: Path):
    """With the server away a verified copy serves; without one it is a matter of time, not of contract."""
    register(Registry(mlflow_url), "away", folder, "away|1|1")
    got = download(Registry(mlflow_url), "away", 1, tmp_path / "cache")
    away = Registry(f"http://127.0.0.1:{free_port()}")

    assert got == download(away, "away", 1, tmp_path / "cache")
    shutil.rmtree(got)
    with pytest.raises(TransientError, match="MLflow"):
        download(away, "away", 1, tmp_path / "cache")


def test_unknown_version(mlflow_url: str, tmp_path: Path):
    """A version that does not exist is wrong for good."""
    with pytest.raises(ContractError, match="nothing"):
        download(Registry(mlflow_url), "nothing", 7, tmp_path)


def test_damaged_in_the_registry(mlflow_url: str, folder: Path, tmp_path: Path):
    """A version whose file was changed in the registry is refused, and nothing of it stays in the cache."""
    registry = Registry(mlflow_url)
    version = register(registry, "damaged", folder, "damaged|1|1")
    (folder / "model.safetensors").write_bytes(b"other")
    run = registry._client.get_model_version("damaged", str(version)).run_id
    registry._client.log_artifact(run, str(folder / "model.safetensors"), "model")

    with pytest.raises(ContractError, match="damaged"):
        download(registry, "damaged", version, tmp_path / "cache")
    assert list((tmp_path / "cache" / "damaged").iterdir()) == []


def test_aliases_follow_the_ledger(mlflow_url: str, folder: Path):
    """Aliases are set, moved and taken away to match, and read back; doing it twice changes nothing."""
    registry = Registry(mlflow_url)
    for attempt in (1, 2):
        register(registry, "aliased", folder, f"aliased|1|{attempt}")

    registry.sync_aliases("aliased", champion=1, previous=None, challenger=2)
    assert registry.aliases("aliased") == {"champion": 1, "challenger": 2}
    for _ in range(2):
        registry.sync_aliases("aliased", champion=2, previous=1, challenger=None)
    assert registry.aliases("aliased") == {"champion": 2, "previous_champion": 1}
