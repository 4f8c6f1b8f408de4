"""Adapters beside one base on simulated servers: loaded, confirmed by name and probe, kept, given again, unloaded."""

import multiprocessing
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.faults import KILL_AT
from datasets_defs.core.incidents import State
from datasets_defs.core.settings import settings
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.store.database import engine_for
from datasets_defs.store.heartbeats import heartbeats
from datasets_defs.store.versions import adapter_labels, adapter_of
from tests.rollouts import approved
from tests.training.servers.adapted import MODEL, OTHER, adapted, adapter_of_rank
from tests.training.servers.simulated_adapters import MAX_RANK, SimulatedAdapters
from training.champions import rollout
from training.champions.confirmation import confirmed
from training.model.adapter_files import base_of
from training.model.language_model import LanguageModel
from training.reconcile import mend
from training.registry.fetch import fetch
from training.registry.manifest import ADAPTER_OF
from training.registry.registry import Registry
from training.servers.follow import follow

ADAPTERS = ("adapters.loading", "adapters.loaded", "adapters.unloaded")
"""Where a run that brings adapters to a replica, or takes them from it, may be killed."""
TOO_LARGE, WHOLE = 4, 5
Pair = list[SimulatedAdapters]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The base, two adapters, one of a rank beyond the servers', and a version with other weights of its own."""
    home = tmp_path_factory.mktemp("adapted")
    made = adapted(home)
    made[TOO_LARGE] = adapter_of_rank(made[1], home / f"v{TOO_LARGE}", OTHER[2][:4], rank=2 * MAX_RANK)
    LanguageModel.load(made[2]).save(home / f"v{WHOLE}")
    return {**made, WHOLE: home / f"v{WHOLE}"}


@pytest.fixture(scope="session")
def versions(mlflow_url: str, files: dict[int, Path]) -> Registry:
    """All of them in a real registry, by their numbers."""
    registry = Registry(mlflow_url)
    for number, folder in files.items():
        base = base_of(folder)
        tags = {ADAPTER_OF: str(base.version)} if base is not None else {}
        key = f"{MODEL}|v{number}"
        assert registry.register(MODEL, folder, key=key, tags=tags, params={}, metrics={}) == number
    return registry


@pytest.fixture
def both(versions: Registry, files: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """Two replicas on the base, which a model's YAML names."""
    started = [SimulatedAdapters(files[1]), SimulatedAdapters(files[1])]
    content = {
        "name": MODEL, "base_model": {}, "training_text": "builtin:python-docs",
        "serving": {"kind": "external", "swap": "adapters", "replicas": [server.url for server in started],
                    "versions_folder": str(tmp_path / "shared")},
        "retrain": {"method": "lora", "lora": {"merge": False}},
        "rollout": {"steps": [0.5, 1.0]},
    }  # fmt: skip
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / f"{MODEL}.yaml").write_text(yaml.safe_dump(content))
    for name, value in {
        "HOME": str(tmp_path), "MODELS_DIR": str(tmp_path / "models"), "MLFLOW_URL": versions.url,
        "SERVING_CONFIRM_SECONDS": "5",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"DRIFTLOOP_{name}", value)
    settings.cache_clear()
    yield started
    for server in started:
        server.stop()


def change(engine: Engine, to: int, expected: int | None, kind: str = "promote") -> Champion:
    kind = kind if expected else "bootstrap"
    return Ledger(engine).change_champion(MODEL, expected=expected, to=to, kind=kind, reason="test", actor="test")


def mended(engine: Engine) -> None:
    mend(db=engine, actor="reconcile:1", now=datetime.now(UTC))


def held(servers: Pair) -> list[list[str]]:
    """Give the versions of the adapters that each replica holds."""
    return [sorted(name.split("-")[1] for name in server.adapters) for server in servers]


def test_there_and_back(engine: Engine, versions: Registry, both: Pair):
    """A challenger is loaded beside the base and confirmed by each; back is no load at all, and both stay loaded."""
    ledger, spec = Ledger(engine), spec_of(MODEL)
    assert confirmed(ledger, versions, spec, change(engine, 1, None)).reason == "2 of 2 replicas confirmed version 1"
    assert held(both) == [[], []]
    assert confirmed(ledger, versions, spec, change(engine, 2, 1)).reason == "2 of 2 replicas confirmed version 2"
    assert (held(both), adapter_of(engine, MODEL, 2)) == ([["v2"]] * 2, 1)
    assert list(both[0].adapters) == [adapter_labels(engine)[MODEL, 2]]
    confirmed(ledger, versions, spec, change(engine, 3, 2))
    assert confirmed(ledger, versions, spec, change(engine, 2, 3, "roll_back")).is_confirmed
    assert heartbeats(engine)[f"serving:{MODEL}"][1] == {"loaded_version": 2}
    assert [[name.split("-")[1] for name in server.reloads] for server in both] == [["v2", "v3"]] * 2


def test_what_a_restart_forgot_is_given_again(engine: Engine, versions: Registry, both: Pair):
    """A replica that restarts holds the base alone, and gets the champion's adapter by reconcile's next round."""
    spec = spec_of(MODEL)
    follow(engine, versions, spec, change(engine, 2, None))
    both[1].reset()
    assert held(both) == [["v2"], []]
    mended(engine)
    assert held(both) == [["v2"], ["v2"]]


def test_old_ones_are_unloaded_after_probation(engine: Engine, versions: Registry, both: Pair):
    """While the incident is open the champion before stays loaded; then it goes, and the base's folder stays."""
    ledger, spec = Ledger(engine), spec_of(MODEL)
    follow(engine, versions, spec, change(engine, 2, None))
    incident = approved(ledger, MODEL, 3)
    follow(engine, versions, spec, change(engine, 3, 2))
    for server in both:
        server.adapters["other-peoples"] = server.model
        server.roots["other-peoples"] = "/elsewhere"
    mended(engine)
    assert held(both) == [["peoples", "v2", "v3"]] * 2
    ledger.move(incident, State.ESCALATED, actor="t", reason="r")
    ledger.move(ledger.open_of(MODEL), State.RESOLVED, actor="t", reason="r")
    mended(engine)
    assert held(both) == [["peoples", "v3"]] * 2
    shared = Path(spec.serving.versions_folder) / MODEL
    assert sorted(path.name.split("-")[1] for path in shared.iterdir() if path.is_dir()) == ["v1", "v2", "v3"]


def test_wrong_files_are_noticed_before_traffic(engine: Engine, versions: Registry, both: Pair):
    """A replica that names the adapter and answers by the base fails the probe; it is unloaded, and nobody asked it."""
    ledger, spec = Ledger(engine), spec_of(MODEL)
    confirmed(ledger, versions, spec, change(engine, 1, None))
    promoted = change(engine, 2, 1)
    both[0].reads_wrong = [adapter_labels(engine).get((MODEL, 2), "") or _label(engine, versions, 2)]
    word = confirmed(ledger, versions, spec, promoted)
    assert not word.is_confirmed
    assert "was unloaded again, and what served before goes on" in word.reason
    assert "not asked" in word.reason
    assert held(both) == [[], []]


def _label(engine: Engine, versions: Registry, number: int) -> str:
    fetch(engine, versions, MODEL, number)
    return adapter_labels(engine)[MODEL, number]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (TOO_LARGE, r"LoRA rank 32 is greater .*start vLLM with --max-lora-rank 32 or more, or lower `retrain\.lora"),
        (WHOLE, r"which is not version 5: .*start it with `vllm serve \S*adapted-v5-\w+ --served-model-name adapted`"),
    ],
)
def test_what_a_server_cannot_take(engine: Engine, versions: Registry, both: Pair, number: int, said: str):
    """A rank beyond the server's, or weights of a version's own: the sentence names what to set."""
    spec = spec_of(MODEL)
    follow(engine, versions, spec, change(engine, 1, None))
    word = follow(engine, versions, spec, change(engine, number, 1))
    assert not word.may_change
    with pytest.raises(ContractError, match=said):
        raise ContractError(word.reason)


def test_another_base_or_a_closed_door(engine: Engine, versions: Registry, both: Pair, files: dict[int, Path]):
    """A replica on another base gets no adapter, and one that takes none is told what opens it."""
    spec = spec_of(MODEL)
    champion = change(engine, 2, None)
    both[0].takes = False
    word = follow(engine, versions, spec, champion)
    assert "start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True" in word.reason
    both[0].model = LanguageModel.load(files[WHOLE])
    word = follow(engine, versions, spec, champion)
    assert "version 2 is an adapter for version 1; it was started on" in word.reason
    assert "start it with `vllm serve " in word.reason
    assert held(both) == [[], []]


def test_rolled_out_side_by_side(engine: Engine, versions: Registry, both: Pair):
    """In a rollout every replica holds both versions and none is held back; its end is a change of the route alone."""
    ledger, spec = Ledger(engine), spec_of(MODEL)
    confirmed(ledger, versions, spec, change(engine, 2, None))
    incident = ledger.move(approved(ledger, MODEL, 3), State.ROLLOUT, actor="t", reason="r")
    ledger.begin_route(incident, champion=2, challenger=3)
    rollout.carry_on(ledger, spec, actor="roll_out:1")
    route = ledger.route(MODEL)
    assert (route.share, route.replicas, route.held) == (0.5, (), ())
    assert held(both) == [["v2", "v3"]] * 2
    both[0].reset()
    mended(engine)
    assert held(both) == [["v2", "v3"]] * 2
    rollout.stop_by_hand(ledger, spec, ledger.open_of(MODEL), actor="cli:ann", reason="not now")
    assert ledger.route(MODEL) is None
    mended(engine)
    assert held(both) == [["v2"]] * 2


def _run(url: str) -> None:
    """Follow and mend, in a process of its own."""
    settings.cache_clear()
    db = engine_for(url)
    follow(db, Registry(settings().mlflow_url), spec_of(MODEL), Ledger(db).champion(MODEL))
    mended(db)


@pytest.mark.parametrize("point", ADAPTERS)
def test_killed_on_the_way(
    engine: Engine, database_url: str, versions: Registry, both: Pair, point: str, monkeypatch: pytest.MonkeyPatch
):
    """Killed as an adapter comes or goes and run again, each replica holds the champion's alone."""
    follow(engine, versions, spec_of(MODEL), change(engine, 2, None))
    change(engine, 3, 2)
    fetch(engine, versions, MODEL, 3)
    monkeypatch.setenv(KILL_AT, point)
    process = multiprocessing.get_context("fork").Process(target=_run, args=(database_url,))
    process.start()
    process.join(90)
    assert process.exitcode == -signal.SIGKILL
    monkeypatch.delenv(KILL_AT)
    word = follow(engine, versions, spec_of(MODEL), Ledger(engine).champion(MODEL))
    assert word.is_confirmed, word.reason
    mended(engine)
    assert held(both) == [["v3"]] * 2


def test_every_reader_gets_base_and_adapter(engine: Engine, versions: Registry, both: Pair, files: dict[int, Path]):
    """The one way in brings both from the registry, and a base that is not the adapter's is refused."""
    folder = fetch(engine, versions, MODEL, 2)
    fetched, made = (LanguageModel.load(each).losses(OTHER[2][:1]) for each in (folder, files[2]))
    assert fetched == made
    assert adapter_of(engine, MODEL, 2) == 1
    shutil.rmtree(folder.with_name("v1"))
    with pytest.raises(ContractError, match="brings both"):
        LanguageModel.load(folder)
    fetch(engine, versions, MODEL, 2)
    assert LanguageModel.load(folder).losses(OTHER[2][:1]) == made
