"""The pod of a team's own image, held against Kubernetes' schemas, and how its containers' ends read in words."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import kubernetes_validate
import pytest
from pydantic import ValidationError

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import Settings
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.trainers import pod_of
from tests.training.own.test_run import record
from tests.training.trainers.test_pod import NOW, _leaves
from training.data.snapshot import Snapshot, SnapshotFile
from training.trainers import carry
from training.trainers.attempt import Attempt
from training.trainers.command import by_command, prepared
from training.trainers.contract import Ending, Job, Phase, own_folder
from training.trainers.own_pod import description_of
from training.trainers.own_pod_status import image_of, judge_own

LOOP = Settings(database_url="postgresql://loop:a-password@host/loop", lease_seconds=77)
FEW = {"image": "registry/team/train:7", "carrier": "registry/driftloop:1"}
MANY = {
    **FEW, "namespace": "gpu-team", "gpu_resource": "amd.com/gpu", "cpu": 32, "memory": "1.5Ti", "queue": "research",
    "claim": "checkpoints", "carrier_cpu": 2, "carrier_memory": "40Gi", "environment_secret": "hub",
    "priority_class": "low", "user": 4000,
}  # fmt: skip


def spec_of(pod: dict[str, Any], **more: Any) -> ModelSpec:
    run = ["python", "train.py", "--data", "{data}", "--base={champion}", "--out", "{output}", "--seed", "{seed}"]
    trainer = {"kind": "command", "run": run, "gpus": 4, "pod": pod, **more}
    return ModelSpec.model_validate(
        {"name": "writer", "base_model": {}, "training_text": "builtin:python-docs", "trainer": trainer}
    )


def described(pod: dict[str, Any], **more: Any) -> dict[str, Any]:
    return description_of(spec_of(pod, **more), Job(model="writer", incident_id=12, attempt=3), LOOP)


def containers(made: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in [*made["spec"]["initContainers"], *made["spec"]["containers"]]}


@pytest.mark.parametrize("version", ["1.30", "1.34", "1.37"])
@pytest.mark.parametrize("pod", [FEW, MANY], ids=["few", "many"])
def test_kubernetes_knows_every_word_of_the_three_containers(pod: dict[str, Any], version: str):
    """The description holds by the strict schemas, and what the provider makes of it loses nothing."""
    from kubernetes.client import ApiClient

    from training.trainers.kubernetes import _made

    told = described(pod, directory="/opt/train")
    kubernetes_validate.validate(told, version, strict=True)
    made = ApiClient().sanitize_for_serialization(_made(told))
    kubernetes_validate.validate(made, version, strict=True)
    assert {path: value for path, value in _leaves(told).items() if _leaves(made).get(path) != value} == {}


def test_the_team_s_container_runs_the_team_s_command():
    """Its image, its GPUs, its folder; the places of the arguments are folders of the volume, and the variables too."""
    made = described(MANY, directory="/opt/train", environment={"TEAM": "research"})
    team = containers(made)["train"]
    assert (team["image"], team["workingDir"]) == ("registry/team/train:7", "/opt/train")
    assert team["command"][3:] == [
        "train", "/driftloop/talk", "python", "train.py", "--data", "/driftloop/data", "--base=/driftloop/champion",
        "--out", "/driftloop/output", "--seed", "0",
    ]  # fmt: skip
    assert team["resources"]["limits"] == {"cpu": "32", "memory": "1.5Ti", "amd.com/gpu": "4"}
    variables = {each["name"]: each["value"] for each in team["env"]}
    assert (variables["DRIFTLOOP_CHECKPOINTS"], variables["TEAM"]) == ("/driftloop/checkpoints", "research")
    shown = {each["mountPath"]: each for each in team["volumeMounts"] if each["name"] == "home"}
    folder = "training/writer/incident-12-attempt-3-own"
    assert {path: (each["subPath"], each["readOnly"]) for path, each in shown.items()} == {
        "/driftloop/data": (f"{folder}/data", True),
        "/driftloop/champion": (f"{folder}/champion", True),
        "/driftloop/output": (f"{folder}/output", False),
        "/driftloop/checkpoints": (f"{folder}/checkpoints", False),
    }
    assert made["spec"]["volumes"][0]["persistentVolumeClaim"] == {"claimName": "checkpoints"}


def test_driftloop_s_containers_bring_and_take():
    """The same image before and beside the command, without GPUs, with the Secret and the model's YAML."""
    made = containers(described(FEW))
    for name, part in (("fetch", "fetch"), ("base", "deliver")):
        carrier = made[name]
        assert carrier["command"] == ["python", "-m", "training.trainers.carry", part, "writer", "12", "3"]
        assert (carrier["image"], carrier["envFrom"]) == (
            "registry/driftloop:1", [{"secretRef": {"name": "driftloop"}}],
        )  # fmt: skip
        assert carrier["resources"]["limits"] == {"cpu": "1", "memory": "8Gi"}


def test_the_team_s_container_sees_no_secret_and_no_process_of_ours():
    """No Secret but its own, none of the loop's settings, no shared processes, no right in the cluster."""
    made = described(MANY)
    team = containers(made)["train"]
    assert team["envFrom"] == [{"secretRef": {"name": "hub"}}]
    assert not made["spec"].get("shareProcessNamespace")
    assert made["spec"]["automountServiceAccountToken"] is False
    assert {each["name"] for each in team["volumeMounts"]} == {"home", "talk", "own", "shm"}
    assert "DRIFTLOOP_LEASE_SECONDS" not in json.dumps(team)
    assert "a-password" not in json.dumps(made)
    assert team["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_a_pod_needs_both_images():
    """Without an image of driftloop nobody would bring the rows."""
    with pytest.raises(ValidationError, match="carrier"):
        spec_of({"image": "registry/team/train:7"})


def seen(
    base: dict[str, Any] | None = None,
    train: dict[str, Any] | None = None,
    fetch: dict[str, Any] | None = None,
    **status: Any,
) -> Any:
    started = (NOW - timedelta(minutes=20)).isoformat()
    found = {
        "metadata": {"creationTimestamp": started},
        "spec": {"nodeName": "node-7"},
        "status": {
            "phase": "Running", "startTime": started, "conditions": [{"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [
                {"name": name, "state": state} for name, state in (("base", base), ("train", train)) if state
            ],
            "initContainerStatuses": [{"name": "fetch", "state": fetch or ended(0, seconds=10)}],
            **status,
        },
    }  # fmt: skip
    place = pod_of(spec_of(FEW).trainer)
    assert place is not None
    return judge_own(found, place, NOW)


def ended(code: int, reason: str = "Error", *, seconds: float = 1, message: str = "") -> dict[str, Any]:
    finished = (NOW - timedelta(seconds=seconds)).isoformat()
    return {"terminated": {"exitCode": code, "reason": reason, "finishedAt": finished, "message": message}}


RUNS: dict[str, Any] = {"running": {"startedAt": "11:00"}}
NOT_YET: dict[str, Any] = {"waiting": {"reason": "PodInitializing"}}
NO_IMAGE = {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}}


@pytest.mark.parametrize(
    ("states", "phase", "said"),
    [
        pytest.param((NOT_YET, NOT_YET, RUNS), "running", "brings the rows and the champion", id="fetching"),
        pytest.param((RUNS, RUNS), "running", "runs on node node-7 since 11:00", id="training"),
        pytest.param((RUNS, ended(0, "Completed", seconds=9000)), "running", "runs on node", id="taking a large model"),
        pytest.param((RUNS, ended(1)), "running", "runs on node", id="ours says what it means"),
        pytest.param((ended(0, "Completed"), ended(0, "Completed")), "ended", "the pod ended", id="done"),
        pytest.param((ended(1), ended(137)), "ended", "ended with code 1", id="both"),
        pytest.param((RUNS, ended(137, seconds=400)), "ended", "did not notice", id="never heard"),
        pytest.param((RUNS, NO_IMAGE), "waiting", "the image of `trainer.pod.image` cannot be run: Image", id="pull"),
        pytest.param((NOT_YET, NOT_YET, NO_IMAGE), "waiting", "`trainer.pod.carrier` cannot be run", id="ours"),
        pytest.param(
            (NOT_YET, NOT_YET, ended(1, message="no database")), "ended", "brings the rows ended with code 1",
            id="not fetched",
        ),
    ],
)  # fmt: skip
def test_how_three_containers_stand_in_words(states: tuple[dict[str, Any], ...], phase: str, said: str):
    """Whichever container decides is named; a training goes on beside one that only waits."""
    found = seen(*states)
    assert (found.look.phase, said in found.look.reason) == (Phase(phase), True), found


@pytest.mark.parametrize(
    ("states", "status", "ending", "said"),
    [
        ((RUNS, ended(137, "OOMKilled")), {}, Ending.OUT_OF_MEMORY, "raise `trainer.pod.memory`"),
        ((ended(1), ended(1, "OOMKilled")), {}, Ending.OUT_OF_MEMORY, "used more than its 32Gi"),
        ((RUNS, ended(128, "StartError", message="no /bin/sh")), {}, Ending.CONTRACT, "needs `/bin/sh`"),
        ((RUNS, NO_IMAGE, ended(0, seconds=1000)), {}, Ending.CONTRACT, "no such tag; see to `trainer.pod.image`"),
        ((NOT_YET, NOT_YET, NO_IMAGE), {}, Ending.CONTRACT, "see to `trainer.pod.carrier`"),
        (
            (ended(137), ended(137)), {"phase": "Failed", "reason": "DeadlineExceeded"}, Ending.CONTRACT,
            "took longer than `retrain.max_seconds`",
        ),
    ],
    ids=["memory, at once", "memory, afterwards", "no shell", "no image", "no image of ours", "deadline"],
)  # fmt: skip
def test_what_would_end_the_same_again_calls_a_person(
    states: tuple[dict[str, Any], ...], status: dict[str, Any], ending: Ending, said: str
):
    """It is said at the first time, with what to set."""
    found = seen(*states, **status)
    assert said in (found.hopeless or ""), found
    assert found.ending is ending


def test_a_container_that_used_up_its_memory_and_ended_well():
    """A worker of it was killed, and the command went on to its end: that is a model."""
    assert seen(RUNS, ended(0, "OOMKilled")).hopeless is None


def test_the_image_is_named_by_its_digest():
    """As the node resolved it; before it was fetched nothing is said."""
    status = {"containerStatuses": [{"name": "base", "imageID": "x"}, {"name": "train", "image": "t:7", "imageID": ""}]}
    assert image_of({"status": status}) == {}
    status["containerStatuses"][1]["imageID"] = "registry/team/train@sha256:1"
    assert image_of({"status": status}) == {"image": "t:7", "image_digest": "registry/team/train@sha256:1"}


def attempt_of(parent: int, attempt: int = 3) -> Attempt:
    """Give an attempt that asks neither the ledger nor the registry."""
    return Attempt(
        spec=spec_of(FEW), parent=parent, name=f"incident-12-attempt-{attempt}", key="k", since=NOW,
        ledger=cast(Any, None), registry=cast(Any, None), actor="t", hold=lambda: None,
    )  # fmt: skip


def test_what_the_team_s_container_sees_is_laid_out_once(home: Path):
    """Rows and champion stand in the attempt's folder as the mounts name it; another champion begins it anew."""
    source = home / "cache" / "v1"
    source.mkdir(parents=True)
    (source / "model.safetensors").write_bytes(b"weights")
    with SnapshotFile(home / "rows.parquet") as rows:
        rows.add("train", [record("train", "a prompt")])
    snapshot = Snapshot.of(str(home / "rows.parquet"), None)
    first = attempt_of(parent=1)
    given = prepared(first, source, snapshot)
    assert given.champion == home / own_folder("writer", "incident-12-attempt-3") / "champion"
    assert (given.champion / "model.safetensors").stat().st_ino == (source / "model.safetensors").stat().st_ino
    (given.checkpoints / "step-9").touch()
    assert prepared(first, source, snapshot) == given
    assert (given.checkpoints / "step-9").exists()
    prepared(attempt_of(parent=2), source, snapshot)
    assert (given.data / "train.jsonl").exists()
    assert not (given.checkpoints / "step-9").exists()
    later = attempt_of(parent=2, attempt=4)
    prepared(later, source, snapshot)
    carry._forget_others(later.folder)
    assert [path.name for path in (home / "training" / "writer").iterdir()] == ["incident-12-attempt-4-own"]


def test_by_hand_there_is_no_pod(home: Path):
    """`driftloop train` says what to do instead, before it waits for a container that nobody begins."""
    source = home / "cache" / "v1"
    source.mkdir(parents=True)
    with SnapshotFile(home / "rows.parquet") as rows:
        rows.add("train", [record("train", "a prompt")])
    with pytest.raises(
        ContractError, match=r"`trainer\.pod` trains in a pod, and this is none.*driftloop offer writer"
    ):
        by_command(attempt_of(parent=1), source, Snapshot.of(str(home / "rows.parquet"), None))
