"""The pod of a team's own command: what Kubernetes is told, as a pure function of the spec and the job.

`fetch` (driftloop's image) runs first and brings the rows and the champion. Then `train` (the team's image) and `base`
(driftloop's) run side by side. The team's container sees four folders of the volume and the pipes, and nothing else: no
Secret of driftloop's, no other attempt's files, and no process of another container.
"""

from pathlib import Path
from typing import Any

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import Settings
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.trainers import CommandTrainer, KubernetesTrainer, OwnPodSpec
from training.own.beside import DELIVER, FETCH, FOLDERS, TALK, WRAPPER
from training.own.given import Given
from training.trainers.contract import Job, own_folder
from training.trainers.pod import (
    CONTAINER,
    FEW_RIGHTS,
    MOUNTS,
    around,
    environment,
    metadata,
    pod,
    variables,
    volumes,
)  # fmt: skip

TRAIN = "train"
"""The name of the team's container."""
TALK_PLACE = "/driftloop/talk"
"""Where the pipes are, in all containers; an empty volume of the pod's own, which takes pipes whatever the claim is."""
PLACE = "/driftloop"
_READ_ONLY = ("data", "champion")


def own_pod(spec: ModelSpec, trainer: CommandTrainer, place: OwnPodSpec, job: Job, loop: Settings) -> dict[str, Any]:
    """Describe the pod in which a team's own image trains one attempt, as the API's JSON.

    Processes are not shared between its containers: the team's must not read the variables of driftloop's.
    """
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(spec, place, job),
        "spec": {
            **around(spec, place, trainer.gpus),
            "initContainers": [_carrier(FETCH, FETCH, place, job, loop)],
            "containers": [_carrier(CONTAINER, DELIVER, place, job, loop), _team(spec, trainer, place, job)],
            "volumes": [*volumes(place, job.model), {"name": "talk", "emptyDir": {}}, {"name": "own", "emptyDir": {}}],
        },
    }


def description_of(spec: ModelSpec, job: Job, loop: Settings) -> dict[str, Any]:
    """Describe the pod that trains one attempt, in driftloop's image or in the team's own.

    Raises:
        ContractError: the model's trainings run in no pod.
    """
    match spec.trainer:
        case KubernetesTrainer():
            return pod(spec, spec.trainer, job, loop)
        case CommandTrainer(pod=OwnPodSpec() as place):
            return own_pod(spec, spec.trainer, place, job, loop)
        case _:
            raise ContractError(f"{spec.name}: trainer is {spec.trainer.kind!r}, and has no pod")


def seen_by_the_team(spec: ModelSpec, trainer: CommandTrainer) -> Given:
    """Say where the team's container finds what it is given."""
    data, champion, output, checkpoints = (Path(PLACE, name) for name in FOLDERS)
    return Given(
        data=data, champion=champion, output=output, checkpoints=checkpoints,
        seed=spec.retrain.seed, gpus=trainer.gpus, max_seconds=spec.retrain.max_seconds,
    )  # fmt: skip


def _carrier(name: str, part: str, place: OwnPodSpec, job: Job, loop: Settings) -> dict[str, Any]:
    amounts = {"cpu": place.carrier_cpu, "memory": place.carrier_memory}
    return {
        "name": name,
        "image": place.carrier,
        "command": ["python", "-m", "training.trainers.carry", part, job.model, str(job.incident_id), str(job.attempt)],
        "env": variables({**environment(loop), TALK: TALK_PLACE}),
        "envFrom": [{"secretRef": {"name": place.secret}}],
        "resources": {"requests": amounts, "limits": amounts},
        "securityContext": {**FEW_RIGHTS, "readOnlyRootFilesystem": True},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [*MOUNTS, {"name": "talk", "mountPath": TALK_PLACE}],
    }


def _team(spec: ModelSpec, trainer: CommandTrainer, place: OwnPodSpec, job: Job) -> dict[str, Any]:
    amounts = {"cpu": place.cpu, "memory": place.memory}
    if trainer.gpus:
        amounts[place.gpu_resource] = str(trainer.gpus)
    given = seen_by_the_team(spec, trainer)
    own = {"HOME": "/tmp", "USER": "driftloop", **trainer.environment, **given.variables}  # noqa: S108  # its own volume
    folder = own_folder(job.model, job.name)
    shown = [
        {"name": "home", "mountPath": f"{PLACE}/{name}", "subPath": f"{folder}/{name}", "readOnly": name in _READ_ONLY}
        for name in FOLDERS
    ]
    secret = [{"secretRef": {"name": place.environment_secret}}] if place.environment_secret else []
    return {
        "name": TRAIN,
        "image": place.image,
        "command": ["/bin/sh", "-c", WRAPPER, "train", TALK_PLACE, *trainer.arguments(given.places)],
        **({"workingDir": trainer.directory} if trainer.directory else {}),
        "env": variables(own),
        **({"envFrom": secret} if secret else {}),
        "resources": {"requests": amounts, "limits": amounts},
        "securityContext": FEW_RIGHTS,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            *shown,
            {"name": "talk", "mountPath": TALK_PLACE},
            {"name": "own", "mountPath": "/tmp"},  # noqa: S108  # not driftloop's
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108  # in memory, for its processes
        ],
    }
