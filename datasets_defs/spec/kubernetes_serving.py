"""The part of `serving` that says which objects of a Kubernetes cluster serve a model's versions. Pure."""

from typing import Annotated

from pydantic import Field, model_validator

from datasets_defs.spec.fields import Section
from datasets_defs.spec.trainers import ObjectName

Workload = Annotated[
    str, Field(pattern=r"^(deployment|inferenceservice|llminferenceservice)/[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
]


class KubernetesServing(Section):
    """Objects whose pods serve the model: driftloop tells each which version to read, and asks its pods."""

    workloads: tuple[Workload, ...] = Field(min_length=1)
    """One for each of `replicas`, in their order: `deployment/NAME`, `inferenceservice/NAME` or
    `llminferenceservice/NAME` (KServe's)."""
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
    """Where they are."""
    connection: str = "kubernetes_default"
    """Airflow Connection that leads to the cluster."""
    address: str = Field(default="{folder}", pattern=r"^([^{}]|\{(folder|model|label)\})+$")
    """Where pods read a version: `{folder}` is its folder in `versions_folder`, `{model}` the model's name and
    `{label}` the version's, e.g. `pvc://versions/{model}/{label}`."""
    container: ObjectName | None = None
    """Container of a Deployment that gets the address; left out: its first."""
    variable: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "VERSION_ADDRESS"
    """Environment variable in which a Deployment's container gets the address; `$(NAME)` in its arguments stands for
    it."""
    probe: bool = True
    """Ask `replicas` for prompts' log-probabilities as vLLM gives them; `false` for a server that gives none."""

    @model_validator(mode="after")
    def _address_is_one_versions(self) -> "KubernetesServing":
        """Refuse an address that is the same for all versions, or that KServe cannot read.

        Raises:
            ValueError: it is; the message says what to write.
        """
        if "{folder}" not in self.address and "{label}" not in self.address:
            raise ValueError(
                f"address: {self.address!r} is the same for all versions; write {{label}} or {{folder}} in it"
            )
        twice = sorted({workload for workload in self.workloads if self.workloads.count(workload) > 1})
        if twice:
            raise ValueError(f"workloads: {', '.join(twice)} stands there twice")
        kserve = [workload for workload in self.workloads if not workload.startswith("deployment/")]
        if kserve and "://" not in self.address:
            raise ValueError(
                f"address: {kserve[0]} reads an address such as pvc://CLAIM/{{model}}/{{label}}, found {self.address!r}"
            )
        return self
