"""Versions served by a cluster, against a server that behaves as its API does: told once, waited for, said by pods."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.spec.kubernetes_serving import KubernetesServing
from tests.training.kubernetes_server import NAMESPACE, Fault, serving_api
from tests.training.servers.serving_cluster import ServingCluster, a_deployment, an_inference_service, an_llm_service
from tests.training.servers.simulated_vllm import SimulatedVllm
from training.model.language_model import LanguageModel
from training.servers.kubernetes import ClusterServer, Served
from training.servers.pods import LABEL
from training.servers.seam import Version
from training.servers.swap import bring
from training.servers.vllm import Vllm

KINDS = {
    "deployment": a_deployment,
    "inferenceservice": an_inference_service,
    "llminferenceservice": an_llm_service,
}
PVC = "pvc://versions/{model}/{label}"


@pytest.fixture
def cluster(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServingCluster]:
    """A cluster without objects, to which the Airflow Connection `kubernetes_default` leads."""
    (home / "cluster").mkdir()
    with serving_api(ServingCluster(home / "cluster")) as found:
        connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(found.config())}}
        monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
        yield found


@pytest.fixture
def endpoint(replica: Callable[..., SimulatedVllm], cluster: ServingCluster, root: Path) -> SimulatedVllm:
    """Whoever answers at the model's address: it has the files that the pods read which requests go to."""
    server = replica()

    def answers(_: str, address: str) -> None:
        if not server.keeps_weights and Path(address).name.startswith("writer-"):
            server.model = LanguageModel.load(root / Path(address).name)

    cluster.answers = answers
    return server


def server_of(endpoint: SimulatedVllm, root: Path, kind: str = "deployment", **fields: Any) -> ClusterServer:
    where = {} if kind == "deployment" else {"address": PVC}
    place = KubernetesServing(workloads=(f"{kind}/bot",), namespace=NAMESPACE, **where, **fields)
    served = Served(url=endpoint.url, workload=f"{kind}/bot", model="writer", root=root)
    return ClusterServer(served, place, ask=partial(Vllm, name="writer", seconds=5) if place.probe else None)


def asked(server: ClusterServer, version: Version, others: tuple[Version, ...] = ()) -> tuple[bool, str]:
    word = bring([server], version, others=others, tolerance=0.1)[server.where]
    return word.is_confirmed, word.reason


@pytest.mark.parametrize("kind", KINDS)
def test_ordered_once_and_confirmed_by_pods_and_probe(
    cluster: ServingCluster, endpoint: SimulatedVllm, root: Path, versions: dict[int, Version], kind: str
) -> None:
    """Each object takes the version in one change; who comes again changes nothing; the way back is another change."""
    cluster.apply(f"{kind}s/bot", KINDS[kind]())
    server, others = server_of(endpoint, root, kind), tuple(versions.values())
    for number in (2, 3, 2):
        rest = tuple(each for each in others if each.number != number)
        sure, reason = asked(server, versions[number], rest)
        assert (sure, reason.startswith("probe within")) == (True, True), reason
        assert asked(server, versions[number], rest)[0]
    assert len(cluster.patches) == 3
    serving = [pod for pod in cluster.pods.values() if pod["of"] == f"{kind}s/bot"]
    assert {pod["metadata"]["annotations"][LABEL] for pod in serving} == {versions[2].label}
    assert {Path(pod["reads"]).name for pod in serving} == {versions[2].label}


def test_what_was_there_stays(
    cluster: ServingCluster, endpoint: SimulatedVllm, root: Path, versions: dict[int, Version]
) -> None:
    """The order adds a variable to one container, and leaves its others, its arguments and the other container."""
    cluster.apply("deployments/bot", a_deployment())
    asked(server_of(endpoint, root), versions[2])
    server, log = cluster.objects["deployments/bot"]["spec"]["template"]["spec"]["containers"]
    assert {each["name"]: each["value"] for each in server["env"]} == {
        "HOME": "/tmp", "VERSION_ADDRESS": str(versions[2].folder),
    }  # fmt: skip
    assert (server["args"], log) == (["--model", "$(VERSION_ADDRESS)"], {"name": "log", "image": "l"})
    prefill = {"prefill": {"annotations": {LABEL: versions[2].label}}}
    cluster.apply("llminferenceservices/bot", an_llm_service())
    asked(server_of(endpoint, root, "llminferenceservice"), versions[2])
    assert cluster.patches[-1].items() >= prefill.items()


@pytest.mark.parametrize("kind", KINDS)
def test_waited_for_while_pods_are_replaced(
    cluster: ServingCluster, endpoint: SimulatedVllm, root: Path, versions: dict[int, Version], kind: str
) -> None:
    """Until the last pod that gets requests has the version it is not confirmed, whatever the object says of itself."""
    cluster.apply(f"{kind}s/bot", KINDS[kind]())
    server = server_of(endpoint, root, kind)
    asked(server, versions[1])
    cluster.holds = True
    assert asked(server, versions[2])[0] is False  # told, and nothing has happened: `Ready` still stands there
    assert asked(server, versions[2])[0] is False
    cluster.make_pods(f"{kind}s/bot")
    sure, reason = asked(server, versions[2])
    assert (sure, "ordered; " in reason) == (False, True)
    cluster.finish(f"{kind}s/bot")
    assert asked(server, versions[2])[0]
    assert len(cluster.patches) == 2


def test_a_version_that_pods_do_not_start_with(
    cluster: ServingCluster, endpoint: SimulatedVllm, root: Path, versions: dict[int, Version]
) -> None:
    """The cluster's words are told. A Deployment that gave up is final, KServe's is waited for, and both go back."""
    for kind, is_final in (("deployment", True), ("inferenceservice", False), ("llminferenceservice", False)):
        key = f"{kind}s/bot"
        cluster.apply(key, KINDS[kind]())
        server = server_of(endpoint, root, kind)
        assert asked(server, versions[1])[0]
        cluster.holds = True
        asked(server, versions[2])
        cluster.make_pods(key)
        cluster.fail(key, "config.json: no such file")
        word = bring([server], versions[2], tolerance=0.1)[server.where]
        assert (word.is_confirmed, word.may_change) == (False, not is_final)
        assert "CrashLoopBackOff: config.json: no such file" in word.reason
        cluster.holds = False
        assert asked(server, versions[1], (versions[2],))[0], "what served before is ordered again"
        assert cluster.objects[key]["spec"] != {}
        cluster.pods.clear()


def test_pods_that_say_one_version_and_have_another(
    cluster: ServingCluster, endpoint: SimulatedVllm, root: Path, versions: dict[int, Version]
) -> None:
    """All pods bear the label, and the probe finds other files: not confirmed. Without a probe their word is taken."""
    cluster.apply("deployments/bot", a_deployment())
    endpoint.keeps_weights = True
    sure, reason = asked(server_of(endpoint, root), versions[2], (versions[1],))
    assert (sure, "log-probabilities" in reason) == (False, True)
    assert asked(server_of(endpoint, root, probe=False), versions[2])[1].startswith("by its own word")


def test_somebody_else_changes_the_object(
    cluster: ServingCluster, endpoint: SimulatedVllm, root: Path, versions: dict[int, Version]
) -> None:
    """A manifest that is applied again, or an address set by hand, is noticed, and the version is ordered again."""
    cluster.apply("deployments/bot", a_deployment())
    server = server_of(endpoint, root)
    asked(server, versions[2])
    cluster.apply("deployments/bot", a_deployment())
    assert server.loaded() is None
    assert asked(server, versions[2])[0]
    cluster.objects["deployments/bot"]["spec"]["template"]["spec"]["containers"][0]["env"][1]["value"] = "/elsewhere"
    assert server.loaded() is None
    assert "reads another address" in server.why_not()
    assert asked(server, versions[2])[0]


TAGGED = {"serving.kserve.io/enable-tag-routing": "true"}
ON_KNATIVE = "inferenceservices/bot"


@pytest.fixture
def revisions(
    cluster: ServingCluster, endpoint: SimulatedVllm, root: Path, versions: dict[int, Version],
    replica: Callable[..., SimulatedVllm],
) -> tuple[ClusterServer, SimulatedVllm, list[str]]:  # fmt: skip
    """A Knative service of version 1, who answers at its newest revision's own address, and whom requests go to."""
    preview, told, inner = replica(), list[str](), cluster.answers
    cluster.knative, cluster.preview = True, preview.url

    def answers(key: str, address: str) -> None:
        told.append(address)
        inner(key, address)

    def shows(address: str) -> None:
        if not preview.keeps_weights:
            preview.model = LanguageModel.load(root / Path(address).name)

    cluster.answers, cluster.shows = answers, shows
    cluster.apply(ON_KNATIVE, an_inference_service(), **TAGGED)
    server = server_of(endpoint, root, "inferenceservice")
    settled(server, versions[1])
    cluster.patches.clear()
    told.clear()
    return server, preview, told


def settled(server: ClusterServer, version: Version, others: tuple[Version, ...] = ()) -> None:
    """Ask until the version is confirmed, at most as often as it takes."""
    said = [asked(server, version, others) for _ in range(3)]
    assert said[-1][0], said


def shares(cluster: ServingCluster) -> list[Any]:
    return [patch["predictor"].get("canaryTrafficPercent", "-") for patch in cluster.patches]


def test_a_new_revision_is_probed_before_any_request(
    cluster: ServingCluster, revisions: tuple[ClusterServer, SimulatedVllm, list[str]], versions: dict[int, Version]
) -> None:
    """The order sends it nobody; ready, it is asked at its own address, and only then gets all requests."""
    server, _, told = revisions
    cluster.holds = True
    asked(server, versions[2])
    cluster.make_pods(ON_KNATIVE)
    assert "gets no requests before a pod of it is ready" in asked(server, versions[2])[1]
    assert (shares(cluster), told) == ([0], [])
    cluster.finish(ON_KNATIVE)
    settled(server, versions[2], (versions[1],))
    assert (shares(cluster), [Path(each).name for each in told]) == ([0, None], [versions[2].label])


def test_a_wrong_revision_gets_no_request(
    cluster: ServingCluster, revisions: tuple[ClusterServer, SimulatedVllm, list[str]], versions: dict[int, Version]
) -> None:
    """One whose own address gives other log-probabilities is refused; one that does not start is waited for."""
    server, preview, told = revisions
    preview.keeps_weights = True
    asked(server, versions[2])
    word = bring([server], versions[2], tolerance=0.1)[server.where]
    assert (word.is_confirmed, word.may_change, told) == (False, False, [])
    assert "its new revision, which no request reached, is wrong: its log-probabilities differ" in word.reason
    preview.keeps_weights, cluster.holds = False, True
    asked(server, versions[3])
    cluster.make_pods(ON_KNATIVE)
    cluster.fail(ON_KNATIVE, "no such file")
    assert "ModelLoadFailed: no such file" in asked(server, versions[3])[1]
    assert told == []
    cluster.holds = False
    settled(server, versions[1], (versions[2],))
    assert [Path(each).name for each in told] == [versions[1].label]


def test_a_share_that_is_taken_for_a_way_back(
    cluster: ServingCluster, revisions: tuple[ClusterServer, SimulatedVllm, list[str]], versions: dict[int, Version]
) -> None:
    """KServe sends requests to the revision before the one that served: that one gets them again at once."""
    server, _, _ = revisions
    settled(server, versions[2])
    cluster.holds, cluster.goes_back = True, True
    asked(server, versions[3])
    cluster.make_pods(ON_KNATIVE)
    served = cluster._component(ON_KNATIVE)["latestReadyRevision"]
    assert cluster._component(ON_KNATIVE)["traffic"][1]["revisionName"] != served
    asked(server, versions[3])
    now = [(each["revisionName"], each["percent"]) for each in cluster._component(ON_KNATIVE)["traffic"]]
    assert now == [(served, 100)]
    cluster.finish(ON_KNATIVE)
    settled(server, versions[3], (versions[2],))


def test_without_an_address_of_its_own_knative_decides(
    cluster: ServingCluster, endpoint: SimulatedVllm, root: Path, versions: dict[int, Version]
) -> None:
    """No share is set, and one that somebody left is taken out: Knative sends requests to what is ready."""
    cluster.knative, spec = True, an_inference_service()
    spec["predictor"]["canaryTrafficPercent"] = 20
    cluster.apply(ON_KNATIVE, spec)
    settled(server_of(endpoint, root, "inferenceservice"), versions[1])
    settled(server_of(endpoint, root, "inferenceservice"), versions[2], (versions[1],))
    assert shares(cluster) == [None, "-"]


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (Fault("GET", code=403, message="pods is forbidden"), ContractError, "let the Connection's account get and"),
        (Fault("GET", code=401), ContractError, "renew what the Connection logs in with"),
        (Fault("GET", code=500, times=9), TransientError, "answered 500"),
        (Fault("GET", times=9), TransientError, "does not answer"),
        (Fault("PATCH", code=409, message="the object has been modified"), TransientError, "somebody else changed it"),
        (Fault("PATCH", code=403, message="may not patch"), ContractError, "ordering writer-v2-.*may not patch"),
        (Fault("PATCH", code=422, message="denied by a webhook"), ContractError, "denied by a webhook; look at the"),
    ],
)  # fmt: skip
def test_what_the_api_refuses_is_a_sentence(
    cluster: ServingCluster, endpoint: SimulatedVllm, root: Path, versions: dict[int, Version],
    fault: Fault, error: type[Exception], said: str,
) -> None:  # fmt: skip
    """Who is asked, for what, what it answered and what to do; what may pass is asked again, what stays is not."""
    cluster.apply("deployments/bot", a_deployment())
    cluster.faults.append(fault)
    with pytest.raises(error, match=rf"(?s)deployment/bot in namespace {NAMESPACE} \(Connection .*{said}"):
        server_of(endpoint, root).load(versions[2])


def test_objects_that_cannot_take_a_version(
    cluster: ServingCluster, endpoint: SimulatedVllm, root: Path, versions: dict[int, Version]
) -> None:
    """Each is refused with what to change: no object, no such container, no `model`, a KServe that loses the label."""
    with pytest.raises(ContractError, match=r"answered 404.*serving.kubernetes.workloads"):
        server_of(endpoint, root).loaded()
    cluster.apply("deployments/bot", a_deployment())
    with pytest.raises(ContractError, match="it has no vllm, but server, log"):
        server_of(endpoint, root, container="vllm").load(versions[2])
    cluster.apply("inferenceservices/bot", {"predictor": {"containers": [{"name": "own"}]}})
    with pytest.raises(ContractError, match="its predictor has no `model`"):
        server_of(endpoint, root, "inferenceservice").load(versions[2])
    cluster.apply("llminferenceservices/bot", an_llm_service())
    cluster.drops = ("annotations",)
    with pytest.raises(ContractError, match="this KServe is too old"):
        server_of(endpoint, root, "llminferenceservice").load(versions[2])


def test_an_order_that_is_overtaken_changes_nothing(
    cluster: ServingCluster, endpoint: SimulatedVllm, root: Path, versions: dict[int, Version]
) -> None:
    """Who read the object, was held up, and orders after another did, is told so; the newer order stands."""
    cluster.apply("deployments/bot", a_deployment())
    slow = server_of(endpoint, root)
    seen = slow._looked()
    server_of(endpoint, root).load(versions[3])
    slow._looked = lambda: seen  # type: ignore[method-assign]
    with pytest.raises(TransientError, match="somebody else changed it at that moment"):
        slow.load(versions[2])
    assert server_of(endpoint, root).loaded() == versions[3].label


def test_a_connection_that_leads_nowhere(home: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the Connection and its type."""
    extra = {"kube_config_path": str(home / "missing")}
    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    place = KubernetesServing(workloads=("deployment/bot",), namespace=NAMESPACE, connection="elsewhere")
    served = Served(url="http://127.0.0.1:9", workload="deployment/bot", model="writer", root=root)
    with pytest.raises(
        ContractError, match=r"Connection 'elsewhere' leads to no Kubernetes cluster .* of type Kubernetes"
    ):
        ClusterServer(served, place, ask=None).loaded()
