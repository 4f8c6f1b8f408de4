"""The section of the YAML on serving capacity: who gives more of it, how much, for how long."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from datasets_defs.spec.fields import NonBlank, Section

WORDS = ("replicas", "before", "gpus", "model")
"""What a command's arguments may name in braces."""
_IN_BRACES = re.compile(r"\{([a-z_]+)\}")


class ScaleByPerson(Section):
    """Nobody but a person adds capacity: the incident is escalated."""

    kind: Literal["person"] = "person"
    """A person is told."""


class ScaleByWebhook(Section):
    """A webhook of yours is asked, and does what it thinks right."""

    kind: Literal["webhook"] = "webhook"
    """A webhook is asked."""
    webhook: str
    """URL that gets a POST with model, incident and evidence; the wake-up's key is the `Idempotency-Key`."""


class Capacity(Section):
    """How much may be added, and for how long: the same for whoever adds it."""

    min_replicas: int = Field(default=1, ge=0)
    """Replicas below which nothing is ever set; what stands there where that cannot be read."""
    max_replicas: int = Field(ge=1)
    """Replicas above which nothing is ever set."""
    step: int = Field(default=1, ge=1)
    """Replicas that one wake-up adds."""
    gpus_per_replica: int = Field(default=1, ge=1)
    """For the fleet's budget of GPU-hours, and for `--gpu-count`."""
    hours: float = Field(default=2.0, gt=0, le=24 * 31)
    """How long it stays up; then it comes down by itself, unless triage has asked again."""
    cool_down_minutes: float = Field(default=10.0, ge=0)
    """Time after a change before the loop adds more: a new replica needs a while until it helps."""

    @model_validator(mode="after")
    def _leaves_room(self) -> "Capacity":
        if self.max_replicas <= self.min_replicas:
            raise ValueError(
                f"max_replicas is {self.max_replicas} and min_replicas {self.min_replicas}: nothing can be added; "
                "raise max_replicas"
            )
        return self


class ScaleByKubernetes(Capacity):
    """The replicas of a Deployment or StatefulSet are set."""

    kind: Literal["kubernetes"]
    """The replicas of a Deployment or StatefulSet are set."""
    target: Annotated[str, Field(pattern=r"^(deployment|statefulset)/[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
    """`deployment/NAME` or `statefulset/NAME`."""
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")] = "default"
    """Where it is."""
    connection: str = "kubernetes_default"
    """Airflow Connection that leads to the cluster."""


def _with_known_words(run: tuple[str, ...]) -> tuple[str, ...]:
    named = {name for argument in run for name in _IN_BRACES.findall(argument)}
    if unknown := sorted(named - set(WORDS)):
        known = ", ".join(f"{{{name}}}" for name in WORDS)
        raise ValueError(f"{', '.join(f'{{{name}}}' for name in unknown)} is not known; known are {known}")
    return run


Command = Annotated[tuple[NonBlank, ...], Field(min_length=1), AfterValidator(_with_known_words)]


class ScaleByCommand(Capacity):
    """A command of yours sets the number of replicas: Slurm's `scontrol`, Ray's `request_resources`, a cloud's CLI."""

    kind: Literal["command"]
    """A command of yours sets the number of replicas."""
    run: Command
    """Program and arguments; in them `{replicas}`, `{before}`, `{gpus}` and `{model}` stand for what is wanted.

    It has to set a number, not to add to one: it is run again when it was cut short. Exit code 75 asks for another try.
    """
    read: Command | None = None
    """Program that prints how many replicas there are; none: what was set last, or `min_replicas`."""

    def arguments(self, command: tuple[str, ...], words: Mapping[str, object]) -> list[str]:
        """Give program and arguments with their words filled in. Pure."""
        return [_IN_BRACES.sub(lambda match: str(words[match[1]]), argument) for argument in command]


class ScaleByMetric(Capacity):
    """KEDA, or another autoscaler, follows the exporter's metric `driftloop_scale_wanted_replicas`."""

    kind: Literal["metric"]
    """KEDA, or another autoscaler, follows the exporter's `driftloop_scale_wanted_replicas`."""


Scaler = ScaleByKubernetes | ScaleByCommand | ScaleByMetric
"""Kinds that the loop scales by itself, up and down."""


def _kind_of(value: Any) -> Any:
    if not isinstance(value, dict) or "kind" in value:
        return value
    return {**value, "kind": "webhook" if value.get("webhook") else "person"} if value.keys() <= {"webhook"} else value


AnyScale = ScaleByPerson | ScaleByWebhook | ScaleByKubernetes | ScaleByCommand | ScaleByMetric
ScaleSpec = Annotated[
    Annotated[AnyScale, Field(discriminator="kind")],
    BeforeValidator(lambda value: _without_none(_kind_of(value))),
]
"""Who gives more serving capacity; in YAML also `{webhook: URL}` alone."""


def _without_none(value: Any) -> Any:
    """Let `{webhook: null}` say what it always said: there is none."""
    if isinstance(value, dict) and value.get("kind") == "person":
        return {name: item for name, item in value.items() if name != "webhook"}
    return value
