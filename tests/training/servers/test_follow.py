"""The ledger's champion is confirmed by every replica's word, and a replica that has forgotten gets it again."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Engine

from datasets_defs.core.settings import settings
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.promotions import change_with
from datasets_defs.spec.files import spec_of
from datasets_defs.store.heartbeats import heartbeats
from datasets_defs.store.locks import held
from tests.training.servers.simulated_vllm import SimulatedVllm
from training.champions.confirmation import confirmed, put_back
from training.reconcile import mend
from training.registry.registry import Registry
from training.servers.follow import follow

MODEL = "replicated"


@pytest.fixture(scope="module")
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


def change(engine: Engine, to: int, expected: int | None) -> Champion:
    kind = "promote" if expected else "bootstrap"
    return Ledger(engine).change_champion(MODEL, expected=expected, to=to, kind=kind, reason="test", actor="test")


def test_confirmed_by_all_and_held_to_it(engine: Engine, registered: Registry, pair: list[SimulatedVllm]):
    """Both load the champion; one that restarts gets it again by reconcile's next round, and serving beats for it."""
    champion = change(engine, 2, None)
    word = confirmed(Ledger(engine), registered, spec_of(MODEL), champion)
    assert word.reason == "2 of 2 replicas confirmed version 2"
    assert change_with(engine, MODEL, champion.token).is_confirmed
    assert heartbeats(engine)[f"serving:{MODEL}"][1]["loaded_version"] == 2
    loaded = pair[0].label
    pair[1].reset()
    mend(db=engine, actor="test", now=datetime.now(UTC))
    assert [server.label for server in pair] == [loaded, loaded]
    assert [len(server.reloads) for server in pair] == [1, 2]


def test_a_wrong_load_leaves_no_version_confirmed(engine: Engine, registered: Registry, pair: list[SimulatedVllm]):
    """A promotion whose second replica keeps its weights is not confirmed, at once; going back mends the first."""
    ledger, spec = Ledger(engine), spec_of(MODEL)
    confirmed(ledger, registered, spec, change(engine, 1, None))
    pair[1].keeps_weights = True
    promoted = change(engine, 2, 1)
    word = confirmed(ledger, registered, spec, promoted)
    assert not word.is_confirmed
    assert "was put back" in word.reason
    assert not change_with(engine, MODEL, promoted.token).is_confirmed
    beat = heartbeats(engine)[f"serving:{MODEL}"][1]
    assert (beat["loaded_version"], "differ by" in beat["load_error"]) == (None, True)
    assert pair[0].label.startswith(f"{MODEL}-v2-")
    former = ledger.change_champion(MODEL, expected=2, to=1, kind="revert", reason="t", actor="t")
    assert put_back(ledger, registered, spec, former) == "2 of 2 replicas confirmed version 1"
    assert {server.label for server in pair} == {pair[0].label}


def test_one_process_at_a_time(engine: Engine, registered: Registry, pair: list[SimulatedVllm]):
    """Who comes while another swaps waits; who comes for a champion of before touches nothing."""
    first = change(engine, 1, None)
    with held(engine, "driftloop servers", MODEL):
        word = follow(engine, registered, spec_of(MODEL), first)
    assert (word.is_confirmed, word.may_change) == (False, True)
    change(engine, 2, 1)
    assert "is not champion any more" in follow(engine, registered, spec_of(MODEL), first).reason
    assert [server.reloads for server in pair] == [[], []]


def test_a_server_that_nobody_can_ask_is_unconfirmed(engine: Engine, registered: Registry, pair: list[SimulatedVllm]):
    """The loop goes on by the registry's alias, and the word that people read says so."""
    path = settings().models_dir / f"{MODEL}.yaml"
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, "serving": {"kind": "external"}}))
    word = confirmed(Ledger(engine), registered, spec_of(MODEL), change(engine, 3, None))
    assert word.is_confirmed
    assert word.reason.startswith("unconfirmed: ")
    assert pair[0].reloads == []
