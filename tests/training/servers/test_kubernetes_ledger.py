"""A cluster's workloads follow the ledger: put back where pods do not come, and one champion whoever is killed."""

import json
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Engine

from datasets_defs.core.faults import KILL_AT
from datasets_defs.core.incidents import State
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.promotions import change_with
from datasets_defs.spec.files import spec_of
from datasets_defs.store.database import engine_for
from datasets_defs.store.heartbeats import heartbeats
from ops.verify.reading import broken_invariants
from tests.rollouts import approved
from tests.training.kubernetes_server import NAMESPACE, serving_api
from tests.training.servers.replicated import MODEL, change
from tests.training.servers.serving_cluster import ServingCluster, a_deployment, an_inference_service
from tests.training.servers.simulated_vllm import SimulatedVllm
from training.champions import rollout
from training.champions.confirmation import confirmed, put_back
from training.model.language_model import LanguageModel
from training.reconcile import mend
from training.registry.registry import Registry
from training.servers.follow import follow

CLUSTER = ("kubernetes.ordered", "kubernetes.shifted")
"""Where a run that brings a cluster's workload to another version may be killed."""
BOTH = ("deployments/bot-a", "deployments/bot-b")
ONE = "inferenceservices/bot"
Served = dict[str, SimulatedVllm]


@pytest.fixture
def clustered(
    registered: Registry, replica: Callable[..., SimulatedVllm], home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ServingCluster]:
    """Two Deployments that serve a model in steps, and a Knative service that serves it alone, each at an address."""
    (home / "cluster").mkdir()
    with serving_api(ServingCluster(home / "cluster", knative=True)) as found:
        connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(found.config())}}
        for name, value in {
            "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection), "DRIFTLOOP_MODELS_DIR": str(home / "models"),
            "DRIFTLOOP_MLFLOW_URL": registered.url, "DRIFTLOOP_SERVING_CONFIRM_SECONDS": "60",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        settings.cache_clear()
        monkeypatch.setattr(rollout, "GATEWAYS_KNOW_SECONDS", 0.0)
        servers = {key: replica() for key in (*BOTH, ONE)}

        def answers(key: str, address: str) -> None:
            if not servers[key].keeps_weights:
                _load(servers[key], home / "versions" / MODEL, address)

        found.answers = answers
        for key in BOTH:
            found.apply(key, {**a_deployment(), "selector": {"matchLabels": {"app": key[-1]}}} | _labelled(key[-1]))
        preview = replica()
        found.preview = preview.url
        found.shows = partial(_load, preview, home / "versions" / MODEL)
        found.apply(ONE, an_inference_service(), **{"serving.kserve.io/enable-tag-routing": "true"})
        found.requests.clear()
        _write_yaml(home, servers, BOTH, rollout={"steps": [0.5, 1.0]})
        (home / "urls").write_text(json.dumps({key: server.url for key, server in servers.items()}))
        found.endpoints = servers
        yield found


def _load(server: SimulatedVllm, root: Path, address: str) -> None:
    if Path(address).name.startswith(MODEL):
        server.model = LanguageModel.load(root / Path(address).name)


def _labelled(name: str) -> dict:
    spec = a_deployment()
    spec["template"]["metadata"]["labels"] = {"app": name}
    return {"template": spec["template"]}


def _write_yaml(home: Path, urls: Served | dict[str, str], keys: tuple[str, ...], **more: object) -> None:
    where = [at if isinstance(at, str) else at.url for at in (urls[key] for key in keys)]
    place = {"workloads": [key.replace("s/", "/") for key in keys], "namespace": NAMESPACE}
    if not keys[0].startswith("deployments"):
        place["address"] = "pvc://versions/{model}/{label}"
    serving = {"kind": "external", "swap": "kubernetes", "replicas": where, "kubernetes": place,
               "versions_folder": str(home / "versions")}  # fmt: skip
    content = {"name": MODEL, "base_model": {}, "training_text": "builtin:python-docs", "serving": serving, **more}
    (home / "models").mkdir(exist_ok=True)
    (home / "models" / f"{MODEL}.yaml").write_text(yaml.safe_dump(content))


@pytest.fixture
def alone(clustered: ServingCluster, home: Path) -> ServingCluster:
    """The model is served by the Knative service alone, without steps."""
    _write_yaml(home, json.loads((home / "urls").read_text()), (ONE,))
    return clustered


def labels(cluster: ServingCluster, *keys: str) -> list[list[str]]:
    """Give the numbers of the versions that the ready pods of objects have."""
    found = []
    for key in keys:
        pods = [pod for pod in cluster.pods.values() if pod["of"] == key and pod["status"]["conditions"]]
        found.append(sorted({pod["metadata"]["annotations"]["driftloop/version"].split("-")[1] for pod in pods}))
    return found


def followed(url: str) -> None:
    """Bring the model's servers to the champion, in a process of its own, as often as it takes."""
    settings.cache_clear()
    engine = engine_for(url)
    champion = Ledger(engine).champion(MODEL)
    assert champion is not None
    confirmed(Ledger(engine), Registry(settings().mlflow_url), spec_of(MODEL), champion)


def stepped(url: str) -> None:
    """Take the step of the rollout that is wanted, in a process of its own."""
    settings.cache_clear()
    rollout.carry_on(Ledger(engine_for(url)), spec_of(MODEL), actor="roll_out:1")


def killed(target: Callable[[str], None], url: str, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KILL_AT, point)
    process = multiprocessing.get_context("fork").Process(target=target, args=(url,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    monkeypatch.delenv(KILL_AT)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Give what shortens the time that a version has to be confirmed."""

    def shorten() -> None:
        monkeypatch.setenv("DRIFTLOOP_SERVING_CONFIRM_SECONDS", "5")
        settings.cache_clear()

    return shorten


@pytest.mark.slow
def test_a_promotion_whose_pods_do_not_come_is_put_back(
    engine: Engine, registered: Registry, alone: ServingCluster, impatient: Callable[[], None]
) -> None:
    """After its limit it is not confirmed; the champion of before is ordered again, and confirmed by its pods."""
    ledger, spec = Ledger(engine), spec_of(MODEL)
    first = confirmed(ledger, registered, spec, change(engine, 1, None))
    assert first.reason == "1 of 1 replicas confirmed version 1"
    promoted, alone.holds = change(engine, 2, 1), True
    impatient()
    word = confirmed(ledger, registered, spec, promoted)
    assert (word.is_confirmed, word.may_change) == (False, True)
    assert "gets no requests before a pod of it is ready" in word.reason
    assert not change_with(engine, MODEL, promoted.token).is_confirmed
    assert heartbeats(engine)[f"serving:{MODEL}"][1]["loaded_version"] is None
    alone.holds = False
    former = ledger.change_champion(MODEL, expected=2, to=1, kind="revert", reason="t", actor="t")
    put_back(ledger, registered, spec, former)
    mend(db=engine, actor="reconcile:1", now=datetime.now(UTC))
    mend(db=engine, actor="reconcile:2", now=datetime.now(UTC))
    assert heartbeats(engine)[f"serving:{MODEL}"][1]["loaded_version"] == 1
    assert follow(engine, registered, spec, former).is_confirmed
    assert labels(alone, ONE) == [["v1"]]


@pytest.mark.parametrize("point", CLUSTER)
def test_killed_as_the_cluster_is_told(
    engine: Engine, database_url: str, registered: Registry, alone: ServingCluster, point: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Killed at a step and run again, the champion alone serves; nothing was ordered twice."""
    ledger, spec = Ledger(engine), spec_of(MODEL)
    confirmed(ledger, registered, spec, change(engine, 1, None))
    champion, before = change(engine, 2, 1), len(alone.patches)
    killed(followed, database_url, point, monkeypatch)
    assert confirmed(ledger, registered, spec, champion).is_confirmed
    assert labels(alone, ONE) == [["v2"]]
    assert [list(patch["predictor"]) for patch in alone.patches[before:]] == [
        ["annotations", "model", "canaryTrafficPercent"], ["canaryTrafficPercent"],
    ]  # fmt: skip
    assert change_with(engine, MODEL, champion.token).is_confirmed


@pytest.mark.parametrize("point", ["rollout.held", "kubernetes.ordered", "rollout.loaded"])
def test_a_rollout_over_two_workloads_killed_anywhere(
    engine: Engine, database_url: str, registered: Registry, clustered: ServingCluster, point: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Run again, one workload has each version, half of the users are the challenger's; before, nobody was."""
    ledger = Ledger(engine)
    assert confirmed(ledger, registered, spec_of(MODEL), change(engine, 1, None)).is_confirmed
    incident = ledger.move(approved(ledger, MODEL), State.ROLLOUT, actor="t", reason="r")
    ledger.begin_route(incident, champion=1, challenger=2)
    killed(stepped, database_url, point, monkeypatch)
    route = ledger.route(MODEL)
    assert (route.share, broken_invariants(engine)[1]) == (0.0, [])
    rollout.carry_on(ledger, spec_of(MODEL), actor="roll_out:2")
    route = ledger.route(MODEL)
    assert (route.share, len(route.replicas), route.held) == (0.5, 1, ())
    assert labels(clustered, *BOTH) == [["v1"], ["v2"]]
    rollout.give_up(ledger, ledger.open_of(MODEL), State.ROLLED_BACK, "surely worse", actor="t")
    assert follow(engine, registered, spec_of(MODEL), ledger.champion(MODEL)).is_confirmed
    assert labels(clustered, *BOTH) == [["v1"], ["v1"]]


def test_a_wrong_version_never_reaches_the_second_workload(
    engine: Engine, registered: Registry, clustered: ServingCluster, impatient: Callable[[], None]
) -> None:
    """Pods say one thing and the probe another: nobody touches the other workload, which serves on."""
    ledger, spec = Ledger(engine), spec_of(MODEL)
    assert confirmed(ledger, registered, spec, change(engine, 1, None)).is_confirmed
    clustered.endpoints[BOTH[0]].keeps_weights = True
    impatient()
    word = confirmed(ledger, registered, spec, change(engine, 2, 1))
    assert not word.is_confirmed
    assert "its log-probabilities" in word.reason
    assert labels(clustered, *BOTH) == [["v2"], ["v1"]]
