"""Three versions of a tiny model, where servers read them, and simulated servers that start on the first."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from datasets_defs.spec.model import FromScratch
from tests.training.servers.simulated_vllm import SimulatedVllm
from training.model.language_model import LanguageModel
from training.servers.published import label_of, publish
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
