"""A registry that is in trouble for a while, behind a proxy before a real MLflow: nothing is lost, nothing is final."""

import secrets
from pathlib import Path

import pytest
from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.settings import settings
from tests.proxy import Proxy
from tests.training.registry.test_fetch import registered
from training.registry.client import accepted_name
from training.registry.fetch import fetch
from training.registry.manifest import MANIFEST
from training.registry.reader import Reader
from training.registry.registry import Registry

WEIGHTS = b"GET /weights.bin" * 200_000
ODD_NAMES = ("eval//loss", "a/../b", "..", "/", "ß 字", "x" * 400, "./a", "emoji \U0001f600", "p@1", "loss")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A model's folder of three megabytes."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "config.json").write_text("{}")
    return folder


def behind(between: Proxy) -> Registry:
    return Registry(f"http://127.0.0.1:{between.port}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "trouble", [{"busy_for": b"model.safetensors"}, {"busy_for": b" HTTP/1.1"}, {"most_bytes": 1_000_000}], ids=str
)
def test_a_download_that_fails_is_tried_again(
    engine: Engine, home: Path, mlflow_url: str, door: Proxy, made: Path, trouble: dict[str, object]
) -> None:
    """503 for one file or for all, and a reset amid the weights, are matters of time; nothing partial stays."""
    model = f"troubled-{secrets.token_hex(3)}"
    version = registered(engine, Registry(mlflow_url), model, made)
    for name, value in trouble.items():
        setattr(door, name, value)
    with pytest.raises(TransientError, match="MLflow at"):
        fetch(engine, behind(door), model, version)
    assert list((settings().home / "cache" / model).iterdir()) == []
    with pytest.raises(TransientError):
        behind(door).files_of(model, version, home / "offered")
    with pytest.raises(TransientError):
        Reader(behind(door).url).require_whole(model, version)
    door.busy_for = door.most_bytes = None
    folder = fetch(engine, behind(door), model, version)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", MANIFEST, "model.safetensors"]


def test_a_folder_that_is_not_there_is_a_matter_for_people(mlflow_url: str, made: Path, tmp_path: Path) -> None:
    """A run that has no such files is wrong for good: nothing is asked for again."""
    registry, model = Registry(mlflow_url), f"troubled-{secrets.token_hex(3)}"
    version = registry.register(model, made, key=model, tags={}, params={}, metrics={})
    run = registry._client.get_model_version(model, str(version)).run_id
    with pytest.raises(ContractError, match="Failed to download"), registry._errors("reading"):
        registry._download(f"runs:/{run}/elsewhere", tmp_path / "nothing")


def test_a_deleted_experiment_loses_no_trained_model(mlflow_url: str, made: Path) -> None:
    """An experiment that somebody deleted takes no runs; it is restored for the model that was trained."""
    registry, model = Registry(mlflow_url), f"deleted-{secrets.token_hex(3)}"
    first = registry.register(model, made, key=f"{model}|1", tags={}, params={}, metrics={})
    experiment = registry._client.get_experiment_by_name(f"driftloop/{model}")
    registry._client.delete_experiment(experiment.experiment_id)
    assert registry.register(model, made, key=f"{model}|2", tags={}, params={}, metrics={}) == first + 1


def test_what_mlflow_refuses_to_show_costs_no_version(mlflow_url: str, made: Path) -> None:
    """Curves and figures of a trainer of one's own may be called anything, and a refused parameter loses nothing."""
    registry, model = Registry(mlflow_url), f"odd-{secrets.token_hex(3)}"
    version = registry.register(
        model, made, key=f"{model}|1", tags={}, params={"a b|c": 1, "epochs": 2},
        metrics=dict.fromkeys(ODD_NAMES, 1.5), curves={name: [(1, 2.0, 0.5)] for name in ODD_NAMES},
        files={"environment.txt": "python"},
    )  # fmt: skip
    assert registry.find(model, f"{model}|1") == version
    registry.log_evaluation(model, version, metrics=dict.fromkeys(ODD_NAMES, 2.5), files={}, step=1)
    shown = registry.facts(model, version).metrics
    assert {shown[accepted_name(name)] for name in ODD_NAMES} == {2.5}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_odd_name_is_mended_once(name: str) -> None:
    """A name that was mended is mended no further, and a plain one stays as it is."""
    assert accepted_name(accepted_name(name)) == accepted_name(name)
    assert accepted_name("evaluation/recent/change_low") == "evaluation/recent/change_low"
