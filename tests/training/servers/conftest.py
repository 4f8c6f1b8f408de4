"""Three versions of a tiny model, where servers read them, and simulated servers that start on the first."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from datasets_defs.core.settings import settings
from datasets_defs.spec.model import FromScratch
from datasets_defs.store.versions import label_of
from tests.training.servers.replicated import MODEL
from tests.training.servers.simulated_vllm import SimulatedVllm
from training.model.language_model import LanguageModel
from training.registry.registry import Registry
from training.servers.published import publish
from training.servers.seam import Version

SHAPE = FromScratch(layers=1, width=64, heads=2, vocabulary=300, context=64)
TEXTS = ["The loop asks each server which version it has loaded.", "def mean(values): return sum(values)"] * 4


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A folder of files for each of three versions, whose weights differ."""
    home = tmp_path_factory.mktemp("versions")
    made = {number: home / f"v{number}" for number in (1, 2, 3)}
    for number, folder in made.items():
        model = LanguageModel.scratch(SHAPE, TEXTS, seed=number)
        for weights in model.network.parameters():
            weights.data *= 4  # as far apart as trained versions are
        model.save(folder)
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder that servers read versions from."""
    return tmp_path / "versions" / "writer"


@pytest.fixture
def versions(folders: dict[int, Path], root: Path) -> dict[int, Version]:
    """The three versions, published."""

    def give(number: int) -> Path:
        return folders[number]

    return {
        number: publish(root, label_of("writer", number, str(number) * 64), number, partial(give, number))
        for number in folders
    }


@pytest.fixture
def replica(folders: dict[int, Path]) -> Iterator[Callable[..., SimulatedVllm]]:
    """Start simulated servers; they are stopped at the end."""
    started: list[SimulatedVllm] = []

    def run(port: int = 0) -> SimulatedVllm:
        started.append(SimulatedVllm(folders[1], port=port))
        return started[-1]

    yield run
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def registered(mlflow_url: str, folders: dict[int, Path]) -> Registry:
    """The three versions in a real registry."""
    registry = Registry(mlflow_url)
    for number, folder in folders.items():
        found = registry.register(MODEL, folder, key=f"{MODEL}|v{number}", tags={}, params={}, metrics={})
        assert found == number
    return registry


@pytest.fixture
def pair(
    registered: Registry, replica: Callable[..., SimulatedVllm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[SimulatedVllm]:
    """Two servers that a model's YAML names."""
    both = [replica(), replica()]
    serving = {"kind": "external", "swap": "weights", "replicas": [server.url for server in both],
               "versions_folder": str(tmp_path / "shared")}  # fmt: skip
    content = {"name": MODEL, "base_model": {}, "training_text": "builtin:python-docs", "serving": serving}
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / f"{MODEL}.yaml").write_text(yaml.safe_dump(content))
    for name, value in {
        "HOME": str(tmp_path), "MODELS_DIR": str(tmp_path / "models"), "MLFLOW_URL": registered.url,
        "SERVING_CONFIRM_SECONDS": "5",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"DRIFTLOOP_{name}", value)
    settings.cache_clear()
    return both
