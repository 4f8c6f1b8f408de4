"""The section of the YAML on where a training runs."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from datasets_defs.spec.fields import NonBlank, Section


class LocalTrainer(Section):
    """One process on the machine of the Airflow task, which lives on when the task or Airflow dies."""

    kind: Literal["local"] = "local"
    """One process on the machine of Airflow's task."""


class _Processes(Section):
    processes: int = Field(default=1, ge=1)
    """On each machine; they share the rows of every step. On GPUs: one for each."""
    sharding: Literal["none", "full"] = "none"
    """`none`: every process holds the whole model (DDP); `full`: weights and optimizer are split (FSDP2)."""


class TorchrunTrainer(_Processes):
    """Several processes that train one model together, started by torchrun, on one machine or several."""

    kind: Literal["torchrun"]
    """Several processes that train together."""
    nodes: int = Field(default=1, ge=1)
    """Machines; each but the first runs `driftloop trainer-node MODEL`."""
    rendezvous: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\[\]:-]+:\d+$")] | None = None
    """`host:port` of the machine that Airflow's task runs on, as the others reach it; needed with several."""

    @model_validator(mode="after")
    def _can_meet(self) -> "TorchrunTrainer":
        if self.nodes > 1 and self.rendezvous is None:
            raise ValueError(f"{self.nodes} nodes have to meet somewhere: set `rendezvous: host:port`")
        return self


_AMOUNT = r"^\d+(\.\d+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
Amount = Annotated[
    str,
    Field(pattern=_AMOUNT),
    BeforeValidator(lambda value: str(value) if isinstance(value, int | float) else value),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": _AMOUNT}, {"type": "number", "minimum": 0}]}),
]
"""As Kubernetes writes amounts: `4`, `500m`, `64Gi`."""


ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]


class TolerationSpec(Section):
    """A taint of nodes that the pod may run on all the same, in Kubernetes' words."""

    key: str | None = None
    """Key of the taint; none with `Exists`: every taint."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """`Exists`: any value of the key; `Equal`: the value below."""
    value: str | None = None
    """Value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; none: every effect."""


class PodPlace(Section):
    """Where a pod runs, and what it may use."""

    connection: str = "kubernetes_default"
    """Airflow Connection that leads to the cluster; without one: the cluster in which Airflow itself runs."""
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")] = "driftloop"
    """Of one driftloop alone: pods are named after models and incidents."""
    secret: ObjectName = "driftloop"  # noqa: S105  # a name, not a password
    """Secret with addresses and passwords for driftloop's containers, as `DRIFTLOOP_*` and other variables."""
    gpu_resource: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[a-zA-Z0-9._-]+$")] = "nvidia.com/gpu"
    """What the cluster calls a GPU, such as `amd.com/gpu` or `nvidia.com/mig-3g.40gb`."""
    cpu: Amount = "4"
    """CPU cores that the training asks for, as Kubernetes writes them."""
    memory: Amount = "32Gi"
    """Memory that the training asks for and may use at most."""
    shared_memory: Amount = "8Gi"
    """Of `/dev/shm`, by which processes and GPUs exchange tensors; counts as `memory` once used."""
    claim: ObjectName | None = None
    """PersistentVolumeClaim with checkpoints; none: they go with the pod, and a lost pod's training begins anew."""
    queue: ObjectName | None = None
    """Kueue's LocalQueue, of the same namespace."""
    queue_seconds: float = Field(default=24 * 3600, gt=0)
    """A pod that found no node after so long is taken back, and a person is called."""
    node_selector: dict[str, str] = {}
    """Labels that a node needs to run the pod."""
    tolerations: tuple[TolerationSpec, ...] = ()
    """Beside that of the GPU resource's own taint."""
    priority_class: ObjectName | None = None
    """PriorityClass of the pod; none: the cluster's default."""
    runtime_class: ObjectName | None = None
    """Such as `nvidia`, where that is not the nodes' default."""
    service_account: ObjectName | None = None
    """ServiceAccount of the pod; none: the namespace's default."""
    image_pull_secret: ObjectName | None = None
    """Secret by which the cluster fetches the images."""
    user: int | None = Field(default=1000, ge=1)
    """Number of the user in the pod; `null`: the cluster gives one, as OpenShift does."""
    labels: dict[str, str] = {}
    """Further labels of the pod."""
    annotations: dict[str, str] = {}
    """Further annotations of the pod."""


class KubernetesTrainer(PodPlace, _Processes):
    """A pod in a Kubernetes cluster."""

    kind: Literal["kubernetes"]
    """A pod in a Kubernetes cluster."""
    image: str = Field(min_length=1)
    """Holds driftloop and its dependencies; the pod runs `python -m training.trainers.job`."""
    gpus: int = Field(default=1, ge=0)
    """One process each, unless `processes` says otherwise."""

    @model_validator(mode="before")
    @classmethod
    def _a_process_each(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "processes" in value or not isinstance(value.get("gpus"), int):
            return value
        return {**value, "processes": max(1, value["gpus"])}

    @model_validator(mode="after")
    def _a_gpu_each(self) -> "KubernetesTrainer":
        if self.gpus and self.processes > self.gpus:
            raise ValueError(f"{self.processes} processes cannot share {self.gpus} GPUs: one needs one of its own")
        return self


class OwnPodSpec(PodPlace):
    """The pod of a team's own command, in an image that knows nothing of driftloop."""

    image: str = Field(min_length=1)
    """Your image: it holds the command and `/bin/sh`, and nothing of driftloop."""
    carrier: str = Field(min_length=1)
    """Image that holds driftloop, for the containers that bring the rows and take the model."""
    carrier_cpu: Amount = "1"
    """CPU cores for driftloop's container beside the command."""
    carrier_memory: Amount = "8Gi"
    """Memory for driftloop's containers; they load the finished model once, to try it."""
    environment_secret: ObjectName | None = None
    """Secret whose entries the command gets as variables, such as a hub's token; it never gets `secret`."""


PLACES = ("data", "champion", "output", "checkpoints", "seed", "gpus", "max_seconds")
"""What a command's arguments may name in braces."""
_IN_BRACES = re.compile(r"\{([a-z_]+)\}")


def _with_known_places(run: tuple[str, ...]) -> tuple[str, ...]:
    named = {name for argument in run for name in _IN_BRACES.findall(argument)}
    if unknown := sorted(named - set(PLACES)):
        known = ", ".join(f"{{{name}}}" for name in PLACES)
        raise ValueError(f"{', '.join(f'{{{name}}}' for name in unknown)} is not known; known are {known}")
    return run


class CommandTrainer(Section):
    """A team's own command, which knows nothing of driftloop, on the machine of Airflow's task or in a pod."""

    kind: Literal["command"]
    """A team's own command, which knows nothing of driftloop."""
    run: Annotated[tuple[NonBlank, ...], Field(min_length=1), AfterValidator(_with_known_places)]
    """Program and arguments. In them `{data}`, `{champion}`, `{output}` and `{checkpoints}` stand for folders.

    `{seed}`, `{gpus}` and `{max_seconds}` stand for numbers. No shell reads them.
    """
    directory: str | None = None
    """Folder that it runs in; none: that of the models' YAML files, or in a pod the image's own."""
    environment: dict[str, str] = {}
    """Further variables; it gets Airflow's environment without driftloop's, Airflow's and MLflow's own variables.

    In a pod it gets that of its image.
    """
    gpus: int = Field(default=1, ge=0)
    """GPUs that it takes, for the budget and the places; the command itself says which ones it uses."""
    silent_seconds: float | None = Field(default=None, gt=0)
    """A command that writes no line for so long hangs, and is ended; none: only `retrain.max_seconds` ends it."""
    max_disk_gib: float = Field(default=100, gt=0)
    """GiB that its output and checkpoints may take together; a command that writes more is ended."""
    pod: OwnPodSpec | None = None
    """It runs in a pod, in an image of your own; none: on the machine of Airflow's task."""

    def arguments(self, places: Mapping[str, object]) -> list[str]:
        """Give program and arguments with their places filled in. Pure."""
        return [_IN_BRACES.sub(lambda match: str(places[match[1]]), argument) for argument in self.run]


IN_A_WORD = ("local", "torchrun")
"""Kinds that need no further field, so that the YAML may name them alone."""


def pod_of(trainer: "AnyTrainer") -> PodPlace | None:
    """Say where the pods of a trainer run; None: it trains on machines that Airflow's tasks know. Pure."""
    match trainer:
        case KubernetesTrainer():
            return trainer
        case CommandTrainer(pod=pod):
            return pod
        case _:
            return None


AnyTrainer = LocalTrainer | TorchrunTrainer | KubernetesTrainer | CommandTrainer
TrainerSpec = Annotated[
    AnyTrainer,
    Field(discriminator="kind"),
    BeforeValidator(lambda value: {"kind": value} if isinstance(value, str) else value),
]
"""Where trainings run; in YAML also a kind's name alone."""
