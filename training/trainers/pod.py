"""The pod of a training: everything that Kubernetes is told, as a pure function of the spec and the job."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from datasets_defs.core.settings import Settings
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.trainers import KubernetesTrainer, PodPlace
from training.trainers.contract import Job

CONTAINER = "base"
"""The name that Airflow's provider gives a pod's main container."""
HOME = "/var/lib/driftloop"
SPECS = "/etc/driftloop/models"
SPEC_ANNOTATION = "driftloop/spec"
MODEL_ANNOTATION = "driftloop/model"
GRACE_SECONDS = 30
"""Time that a trainer has to stop by itself once it is asked to."""
BESIDE_TRAINING_SECONDS = 6 * 3600
"""What freezing the rows, fetching the champion and uploading the challenger may take beside `max_seconds`."""
LONGEST_NAME = 63
FEW_RIGHTS = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
MOUNTS = [
    {"name": "home", "mountPath": HOME},
    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  # an empty volume of the pod's own
    {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108  # the same, in memory
    {"name": "spec", "mountPath": SPECS, "readOnly": True},
]
"""Of driftloop's own containers."""
_PLACES = ("home", "models_dir", "artifact_root", "training_queue")
"""Settings that say where something is here; those of the pod come from its Secret, as all addresses do."""


def pod_name(job: Job) -> str:
    """Name the pod after the job, so that the API server itself lets a job have one pod only; a DNS label."""
    ends = f"-{job.incident_id}-{job.attempt}{'' if job.trial is None else f'-{job.trial}'}"
    name = f"driftloop-{job.model}{ends}"
    if len(name) <= LONGEST_NAME:
        return name
    ends = f"-{_digest(job.model)}{ends}"
    return name[: LONGEST_NAME - len(ends)].rstrip("-") + ends


def labels_of_model(model: str) -> dict[str, str]:
    """Give the labels by which all pods of a model's trainings are found."""
    return {
        "app.kubernetes.io/name": "driftloop",
        "app.kubernetes.io/component": "trainer",
        "app.kubernetes.io/managed-by": "driftloop",
        "driftloop/model": model if re.fullmatch(r".{0,62}[a-z0-9]", model) else _digest(model),
    }


def attempt_labels(job: Job) -> dict[str, str]:
    """Give the labels that all pods of an attempt have, those of its trials too."""
    return {"driftloop/incident": str(job.incident_id), "driftloop/attempt": str(job.attempt)}


def pod(spec: ModelSpec, trainer: KubernetesTrainer, job: Job, loop: Settings) -> dict[str, Any]:
    """Describe the pod that trains one attempt, as the API's JSON.

    The model's spec travels with it as an annotation, which the pod reads as a file; so do the loop's figures. Where
    things are, and every secret, comes from the Secret that the spec names.
    """
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(spec, trainer, job),
        "spec": {
            **around(spec, trainer, trainer.gpus),
            "shareProcessNamespace": True,  # the trainer is not process 1, which a signal does not end
            "containers": [_container(trainer, job, loop)],
            "volumes": volumes(trainer, job.model),
        },
    }


def around(spec: ModelSpec, place: PodPlace, gpus: int) -> dict[str, Any]:
    """Say what holds of a training's pod as a whole: how long, for whom, with which rights and on which nodes."""
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "activeDeadlineSeconds": int(spec.longest_seconds) + BESIDE_TRAINING_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # a Service called `driftloop` would set DRIFTLOOP_PORT and others
        "securityContext": {
            "runAsNonRoot": True,
            **({} if place.user is None else _as_user(place.user)),
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **_where(place, gpus),
    }


def metadata(spec: ModelSpec, trainer: PodPlace, job: Job) -> dict[str, Any]:
    """Name the pod and mark it, so that it is found again by model, incident and attempt."""
    return {
        "name": pod_name(job),
        "namespace": trainer.namespace,
        "labels": {
            **trainer.labels,
            **({"kueue.x-k8s.io/queue-name": trainer.queue} if trainer.queue else {}),
            **labels_of_model(job.model),
            **attempt_labels(job),
        },
        "annotations": {
            **trainer.annotations,
            MODEL_ANNOTATION: job.model,
            SPEC_ANNOTATION: spec.model_dump_json(exclude={"scale"}, exclude_unset=True),
        },
    }


def _container(trainer: KubernetesTrainer, job: Job, loop: Settings) -> dict[str, Any]:
    amounts = {"cpu": trainer.cpu, "memory": trainer.memory}
    if trainer.gpus:
        amounts[trainer.gpu_resource] = str(trainer.gpus)
    return {
        "name": CONTAINER,
        "image": trainer.image,
        "command": ["python", *job.arguments],
        "env": variables(environment(loop)),
        "envFrom": [{"secretRef": {"name": trainer.secret}}],
        "resources": {"requests": amounts, "limits": amounts},  # equal: the last to be evicted
        "securityContext": {**FEW_RIGHTS, "readOnlyRootFilesystem": True},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": MOUNTS,
    }


def variables(values: Mapping[str, str]) -> list[dict[str, str]]:
    """Write variables of the environment as Kubernetes does."""
    return [{"name": name, "value": value} for name, value in values.items()]


def environment(loop: Settings) -> dict[str, str]:
    """Give the loop's figures, which must be the same in the pod, and the places that are the pod's own."""
    figures = {
        f"DRIFTLOOP_{name.upper()}": str(value)
        for name, value in loop.model_dump(exclude_none=True).items()
        if not name.endswith("_url") and name not in _PLACES and not isinstance(value, SecretStr)
    }
    return {
        **figures,
        "DRIFTLOOP_HOME": HOME,
        "DRIFTLOOP_MODELS_DIR": SPECS,
        "HOME": "/tmp",  # noqa: S108  # caches of torch and others: the image itself is read-only
        "USER": "driftloop",  # torch asks for the user's name, and the image knows none of that number
        "PYTHONUNBUFFERED": "1",
    }


def _as_user(user: int) -> dict[str, Any]:
    return {"runAsUser": user, "runAsGroup": user, "fsGroup": user, "fsGroupChangePolicy": "OnRootMismatch"}


def _where(trainer: PodPlace, gpus: int) -> dict[str, Any]:
    """Say on which nodes, for whom and with which rank; what is not set is left to the cluster."""
    tolerations = [toleration.model_dump(by_alias=True, exclude_none=True) for toleration in trainer.tolerations]
    if gpus:
        tolerations.append({"key": trainer.gpu_resource, "operator": "Exists", "effect": "NoSchedule"})
    placement = {
        "nodeSelector": dict(trainer.node_selector),
        "tolerations": tolerations,
        "serviceAccountName": trainer.service_account,
        "priorityClassName": trainer.priority_class,
        "runtimeClassName": trainer.runtime_class,
        "imagePullSecrets": [{"name": trainer.image_pull_secret}] if trainer.image_pull_secret else None,
    }
    return {name: value for name, value in placement.items() if value}


def volumes(trainer: PodPlace, model: str) -> list[dict[str, Any]]:
    """Give the pod's volumes: what is kept, what is not, memory to share, and the model's YAML."""
    kept: Mapping[str, Any] = (
        {"persistentVolumeClaim": {"claimName": trainer.claim}} if trainer.claim else {"emptyDir": {}}
    )
    spec = {"path": f"{model}.yaml", "fieldRef": {"fieldPath": f"metadata.annotations['{SPEC_ANNOTATION}']"}}
    return [
        {"name": "home", **kept},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": trainer.shared_memory}},
        {"name": "spec", "downwardAPI": {"items": [spec]}},
    ]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
