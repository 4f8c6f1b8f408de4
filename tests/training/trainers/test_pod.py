"""A training's pod: what Kubernetes is told, held against its own schemas, and how its state reads in words."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import Settings
from datasets_defs.spec.files import load
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.trainers import KubernetesTrainer
from training.trainers.contract import Job, Phase
from training.trainers.pod import SPEC_ANNOTATION, pod, pod_name
from training.trainers.pod_status import judge

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LOOP = Settings(database_url="postgresql://loop:a-password@host/loop", lease_seconds=77)
FEW = {"kind": "kubernetes", "image": "registry/driftloop:1"}
MANY = {
    **FEW,
    "namespace": "gpu-team",
    "gpus": 8,
    "gpu_resource": "nvidia.com/mig-3g.40gb",
    "cpu": 32,
    "memory": "1.5Ti",
    "queue": "research",
    "claim": "checkpoints",
    "node_selector": {"accelerator": "h100"},
    "tolerations": [{"key": "dedicated", "value": "gpu", "effect": "NoExecute"}, {"operator": "Exists"}],
    "priority_class": "low",
    "runtime_class": "nvidia",
    "service_account": "trainer",
    "image_pull_secret": "registry",
    "user": None,
    "labels": {"team": "research"},
    "annotations": {"owner": "somebody"},
}


def spec_of(trainer: dict[str, Any], **more: Any) -> ModelSpec:
    return ModelSpec.model_validate(
        {"name": "writer", "base_model": {}, "training_text": "builtin:python-docs", "trainer": trainer, **more}
    )


def pod_of(trainer: dict[str, Any], **more: Any) -> dict[str, Any]:
    spec = spec_of(trainer, **more)
    assert isinstance(spec.trainer, KubernetesTrainer)
    return pod(spec, spec.trainer, Job(model="writer", incident_id=12, attempt=3), LOOP)


@pytest.mark.parametrize("version", ["1.30", "1.34", "1.37"])
@pytest.mark.parametrize("trainer", [FEW, MANY], ids=["few", "many"])
def test_kubernetes_knows_every_word_of_it(trainer: dict[str, Any], version: str):
    """The description holds by the strict schemas of old and new releases, so does what the provider makes of it."""
    from kubernetes.client import ApiClient

    from training.trainers.kubernetes import _made

    described = pod_of(trainer)
    kubernetes_validate.validate(described, version, strict=True)
    made = ApiClient().sanitize_for_serialization(_made(described))
    kubernetes_validate.validate(made, version, strict=True)
    lost = {path: value for path, value in _leaves(described).items() if _leaves(made).get(path) != value}
    assert lost == {}


def test_the_schemas_do_refuse():
    """A field that Kubernetes does not have fails."""
    wrong = pod_of(FEW)
    wrong["spec"]["gpus"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="gpus"):
        kubernetes_validate.validate(wrong, "1.34", strict=True)


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {key: leaf for name in value for key, leaf in _leaves(value[name], f"{path}/{name}").items()}
    if isinstance(value, list) and value:
        return {key: leaf for at, each in enumerate(value) for key, leaf in _leaves(each, f"{path}/{at}").items()}
    return {path: value}


def test_what_a_user_asks_for_stands_in_it():
    """Requests equal limits, so that a training is the last to be evicted; queue, nodes and names are passed on."""
    made = pod_of(MANY)
    [container] = made["spec"]["containers"]
    asked = {"cpu": "32", "memory": "1.5Ti", "nvidia.com/mig-3g.40gb": "8"}
    assert container["resources"] == {"requests": asked, "limits": asked}
    assert container["command"] == ["python", "-m", "training.trainers.job", "writer", "12", "3"]
    labels = made["metadata"]["labels"]
    assert (labels["kueue.x-k8s.io/queue-name"], labels["team"]) == ("research", "research")
    assert made["spec"]["nodeSelector"] == {"accelerator": "h100"}
    assert made["spec"]["tolerations"][-1] == {
        "key": "nvidia.com/mig-3g.40gb", "operator": "Exists", "effect": "NoSchedule",
    }  # fmt: skip
    assert made["spec"]["volumes"][0]["persistentVolumeClaim"] == {"claimName": "checkpoints"}
    assert "runAsUser" not in made["spec"]["securityContext"]


def test_it_can_do_little_and_holds_no_secret():
    """No root, no writable image, no token of the cluster, no capability; passwords come from the Secret alone."""
    made = pod_of(FEW, scale={"webhook": "https://host/?token=a-password"})
    [container] = made["spec"]["containers"]
    assert made["spec"]["securityContext"]["runAsNonRoot"] is True
    assert made["spec"]["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert container["envFrom"] == [{"secretRef": {"name": "driftloop"}}]
    assert "a-password" not in json.dumps(made)
    assert {"name": "DRIFTLOOP_LEASE_SECONDS", "value": "77.0"} in container["env"]


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"data": {"near_duplicates": None, "languages": None}}, id="null is said"),
        pytest.param({"serving": "vllm", "gpu": "dcgm"}, id="presets"),
        pytest.param({"trainer": {**FEW, "gpus": 8, "processes": 1}}, id="a default that is said"),
        pytest.param({"trainer": MANY}, id="many"),
    ],
)
def test_the_spec_travels_whole(more: dict[str, Any], tmp_path: Path):
    """The pod reads as a file what the loop read from the YAML."""
    fields = {"trainer": FEW, **more}
    path = tmp_path / "writer.yaml"
    path.write_text(pod_of(**fields)["metadata"]["annotations"][SPEC_ANNOTATION])
    assert load(path) == spec_of(**fields)


@pytest.mark.parametrize("model", ["a", "a-", "a" * 63, "a" * 62 + "-", "a" * 45, "1-2"])
def test_a_pod_is_named_after_its_job(model: str):
    """The name is a DNS label, and no two jobs share one."""
    jobs = [Job(model=model, incident_id=i, attempt=a) for i in (1, 12, 123456) for a in (1, 12)]
    names = [pod_name(job) for job in jobs]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) for name in names)
    other = Job(model="a" * 61 + "bc", incident_id=1, attempt=1)
    assert pod_name(other) not in names


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"gpus": 2, "processes": 4}, "4 processes cannot share 2 GPUs"),
        ({"memory": "lots"}, "trainer.memory"),
        ({"gpu": 1}, "trainer.gpu"),
        ({"namespace": "Team"}, "trainer.namespace"),
    ],
)
def test_a_wrong_trainer_is_named_by_field(fields: dict[str, Any], said: str, tmp_path: Path):
    """The message leads to the line of the YAML."""
    path = tmp_path / "writer.yaml"
    content = {"name": "writer", "base_model": {}, "training_text": "builtin:python-docs", "trainer": {**FEW, **fields}}
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ContractError, match=said):
        load(path)


def seen_of(status: dict[str, Any], *, age: timedelta = timedelta(minutes=1), **metadata: Any) -> Any:
    spec = spec_of({**FEW, "queue": "research"})
    assert isinstance(spec.trainer, KubernetesTrainer)
    gates = metadata.pop("gates", [])
    found = {
        "metadata": {"creationTimestamp": (NOW - age).isoformat(), **metadata},
        "spec": {"nodeName": "node-7", "schedulingGates": [{"name": gate} for gate in gates]},
        "status": {"startTime": (NOW - age).isoformat(), **status},
    }
    return judge(found, spec.trainer, NOW)


def container(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    placed = {"type": "PodScheduled", "status": "True"}
    return {"phase": "Pending", "conditions": [placed], "containerStatuses": [{"name": "base", "state": state}], **more}


NOWHERE = {
    "phase": "Pending",
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/5 nodes are available: 5 Insufficient nvidia.com/gpu.",
        }
    ],
}


@pytest.mark.parametrize(
    ("status", "metadata", "phase", "said"),
    [
        ({"phase": "Pending"}, {}, "waiting", "waits for the scheduler"),
        (NOWHERE, {}, "waiting", "no node takes the pod: 0/5 nodes are available: 5 Insufficient nvidia.com/gpu."),
        ({"phase": "Pending"}, {"gates": ["kueue.x-k8s.io/admission"]}, "waiting", "in Kueue's queue research"),
        ({"phase": "Pending"}, {"gates": ["other/gate"]}, "waiting", "held back by other/gate"),
        (container({"waiting": {"reason": "ContainerCreating"}}), {}, "waiting", "being made (ContainerCreating)"),
        (
            container({"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}}),
            {}, "waiting", "cannot be made: ImagePullBackOff: no such tag",
        ),
        (container({"running": {"startedAt": "11:00"}}, phase="Running"), {}, "running", "on node node-7 since 11:00"),
        (container({"running": {}}, phase="Unknown"), {}, "running", "node node-7 says nothing any more"),
        (container({"running": {}}, phase="Running"), {"deletionTimestamp": "x"}, "running", "being taken away"),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
            {}, "ended", "Evicted: The node was low on resource: memory.",
        ),
        (container({"terminated": {"exitCode": 0, "reason": "Completed"}}), {}, "ended", "the pod ended"),
        (
            container({"terminated": {"exitCode": 1, "reason": "Error", "message": "TransientError: no database"}}),
            {}, "ended", "with code 1 (Error): TransientError: no database",
        ),
        (
            container({"terminated": {"exitCode": 0, "reason": "Completed"}}, phase="Running"),
            {}, "ended", "the pod ended",
        ),
    ],
)  # fmt: skip
def test_how_a_pod_stands_in_words(status: dict[str, Any], metadata: dict[str, Any], phase: str, said: str):
    """Every state has its sentence; none of these ends the training for good."""
    found = seen_of(status, **metadata)
    assert (found.look.phase, said in found.look.reason, found.hopeless) == (Phase(phase), True, None), found


@pytest.mark.parametrize(
    ("status", "age", "said"),
    [
        (NOWHERE, timedelta(hours=25), "found no node in 90000 s: no node takes the pod: 0/5 nodes"),
        (container({"waiting": {"reason": "ErrImagePull"}}), timedelta(minutes=20), "see to `trainer.image`"),
        (container({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}), timedelta(0), "raise `trainer.memory`"),
    ],
)
def test_what_has_no_hope_says_what_to_do(status: dict[str, Any], age: timedelta, said: str):
    """A pod that would end the same when tried again calls a person."""
    assert said in (seen_of(status, age=age).hopeless or "")
