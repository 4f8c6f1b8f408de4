"""The reader of the registry that does without MLflow's client, held against the client on a real server."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.settings import ROOT, settings
from datasets_defs.ledger.ledger import Ledger
from ops.stack.ports import free_port
from ops.verify.reading import broken_artifacts, read_record
from training.registry.reader import Reader
from training.registry.registry import Registry

FILES = {"config.json": b"{}", "weights/part one.safetensors": b"\x00\x01" * 700_000}


@pytest.fixture
def version(mlflow_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[str, int, Path]:
    """A version on a real server: the model's name, its number, and where the server keeps the files."""
    folder, model = tmp_path / "model", f"read-{abs(hash(request.node.name))}"
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    registry = Registry(mlflow_url)
    number = registry.register(model, folder, key="k", tags={"colour": "blue"}, params={}, metrics={})
    run = httpx.get(
        f"{mlflow_url}/api/2.0/mlflow/model-versions/get", params={"name": model, "version": str(number)}
    ).json()["model_version"]["run_id"]
    artifacts = Path(registry._client.get_run(run).info.artifact_uri.removeprefix("mlflow-artifacts:/"))
    return model, number, artifacts


def kept(version: tuple[str, int, Path], server_home: Path) -> Path:
    """Give the folder in which the server keeps a version's files."""
    return server_home / "artifacts" / version[2] / "model"


@pytest.fixture
def server_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the session's MLflow server."""
    homes = (database.parent for database in tmp_path_factory.getbasetemp().glob("mlflow*/mlflow.db"))
    (home,) = (home for home in homes if not home.is_symlink())
    return home


def test_tags_are_those_of_the_client(mlflow_url: str, version: tuple[str, int, Path]) -> None:
    """All of them, the team's own and the loop's."""
    model, number, _ = version
    assert Reader(mlflow_url).tags(model, number) == Registry(mlflow_url).tags(model, number)
    assert Reader(mlflow_url).tags(model, number)["colour"] == "blue"


def test_a_whole_version_needs_no_client(mlflow_url: str, version: tuple[str, int, Path]) -> None:
    """Tags and every file are read, and MLflow is not imported."""
    model, number, _ = version
    code = (
        "import sys\nfrom training.registry.reader import Reader\n"
        f"reader = Reader({mlflow_url!r})\nreader.tags({model!r}, {number})\n"
        f"reader.require_whole({model!r}, {number})\n"
        "print('mlflow' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize("damage", ["changed", "longer", "gone", "manifest"])
def test_damage_is_found(mlflow_url: str, version: tuple[str, int, Path], server_home: Path, damage: str) -> None:
    """A file that is not what was registered is a ContractError, in the client's words."""
    weights = kept(version, server_home) / "weights" / "part one.safetensors"
    match damage:
        case "changed":
            weights.write_bytes(b"\x00\x02" * 700_000)
        case "longer":
            weights.write_bytes(FILES["weights/part one.safetensors"] + b"\x00")
        case "gone":
            weights.unlink()
        case _:
            manifest = weights.parent.parent / "manifest.json"
            manifest.write_text(json.dumps({"files": {}}))
    with pytest.raises(ContractError, match="in the registry is damaged"):
        Reader(mlflow_url).require_whole(version[0], version[1])


@pytest.mark.parametrize(
    ("damaged", "away", "breaches", "unknown"),
    [(False, False, 0, 0), (True, False, 1, 0), (False, True, 0, 1)],
    ids=["whole", "damaged", "away"],
)
def test_a_champions_files_are_judged_or_said_to_be_unknown(
    engine: Engine,
    mlflow_url: str,
    version: tuple[str, int, Path],
    server_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    damaged: bool,
    away: bool,
    breaches: int,
    unknown: int,
) -> None:
    """A champion whose files are damaged is a breach; with the registry away nothing is known of them."""
    model, number, _ = version
    Ledger(engine).change_champion(model, expected=None, to=number, kind="bootstrap", reason="r", actor="t")
    if damaged:
        (kept(version, server_home) / "config.json").write_bytes(b"[]")
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", f"http://127.0.0.1:{free_port()}" if away else mlflow_url)
    settings.cache_clear()
    wrong, not_known = broken_artifacts(read_record(engine))
    assert (len(wrong), len(not_known)) == (breaches, unknown)
    assert all(f"{model} version {number}" in sentence for sentence in (*wrong, *not_known))


def test_what_is_not_there(mlflow_url: str, version: tuple[str, int, Path]) -> None:
    """A version that nobody registered is a ContractError, as the client has it."""
    for read in (Reader(mlflow_url).tags, Reader(mlflow_url).require_whole):
        with pytest.raises(ContractError, match="not found"):
            read(version[0], 99)


def test_a_server_that_is_away() -> None:
    """It is said at once, and nothing is concluded from it."""
    reader = Reader(f"http://127.0.0.1:{free_port()}")
    for read in (reader.tags, reader.require_whole):
        with pytest.raises(TransientError, match="does not answer"):
            read("m", 1)
