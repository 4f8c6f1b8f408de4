"""A real MLflow behind a door that asks for a login: whoever has one registers, reads and fetches; others are told."""

import base64
import secrets
from pathlib import Path

import pytest
from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from tests.proxy import Proxy
from tests.training.registry.test_fetch import registered
from training.registry.fetch import fetch
from training.registry.reader import Reader
from training.registry.registry import Registry

BASIC = b"Basic " + base64.b64encode(b"driftloop:open sesame")
LOGINS = {
    "user and password": (
        {"MLFLOW_TRACKING_USERNAME": "driftloop", "MLFLOW_TRACKING_PASSWORD": "open sesame"}, BASIC,
    ),
    "token": ({"MLFLOW_TRACKING_TOKEN": "t0ken"}, b"Bearer t0ken"),
}  # fmt: skip


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A model's folder."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "model.safetensors").write_text("weights")
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("kind", LOGINS)
def test_with_a_login(
    engine: Engine, door: Proxy, made: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Registering, aliases, tags, checking and fetching come with the login, from MLflow's client and from ours."""
    environment, door.login = LOGINS[kind]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    url, model = f"http://127.0.0.1:{door.port}", f"locked-{secrets.token_hex(3)}"
    registry = Registry(url)
    version = registered(engine, registry, model, made)
    assert registry.sync_aliases(model, champion=version, previous=None, challenger=None) == {"champion": version}
    reader = Reader(url)
    assert reader.tags(model, version) == registry.tags(model, version)
    reader.require_whole(model, version)
    fetched = fetch(engine, registry, model, version)
    assert (fetched / "model.safetensors").read_text() == "weights"


@pytest.mark.usefixtures("home")
def test_without_one(door: Proxy) -> None:
    """It is final, and the error says that nobody was let in."""
    door.login = BASIC
    url = f"http://127.0.0.1:{door.port}"
    for ask in (lambda: Registry(url).aliases("locked"), lambda: Reader(url).tags("locked", 1)):
        with pytest.raises(ContractError, match=r"401|who asks"):
            ask()
