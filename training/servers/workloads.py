"""What an object of Kubernetes is told so that its pods read a version, and what it and they say. Pure.

A pod bears its version's label as an annotation, which it gets from the object in the same change as the address. No
object's `Ready` is believed alone: KServe's `observedGeneration` is that of what it made, not of what was asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from datasets_defs.core.errors import ContractError
from training.servers.pods import LABEL, Object, WorkloadStanding, annotation_of, condition, of_pods, trouble


class ServingObject(Protocol):
    """One kind of object."""

    def selector(self, there: Object) -> str:
        """Give the selector of its pods."""

    def order(self, there: Object, label: str, address: str) -> dict[str, Any]:
        """Give the change that lets new pods read a version.

        Raises:
            ContractError: the object has no place for it.
        """

    def has(self, there: Object, label: str, address: str) -> bool:
        """Say whether it was told so."""

    def ordered(self, there: Object) -> str | None:
        """Give the label of the version that it was told."""

    def shift(self, there: Object, pods: Sequence[Object]) -> dict[str, Any] | None:
        """Give the change that sends requests to new pods that have none yet and are ready; None: there is none."""

    def preview(self, there: Object) -> str | None:
        """Give the address of new pods that are ready and have no requests yet; None: they have none of their own."""

    def standing(self, there: Object, pods: Sequence[Object]) -> WorkloadStanding:
        """Say what its pods serve."""


@dataclass(frozen=True, slots=True)
class DeploymentObject:
    """A Deployment, whose container gets the address in an environment variable."""

    container: str | None
    variable: str

    def selector(self, there: Object) -> str:
        """Give the selector of its pods."""
        wanted = there["spec"]["selector"]
        parts = [f"{key}={value}" for key, value in (wanted.get("matchLabels") or {}).items()]
        for expression in wanted.get("matchExpressions") or ():
            values = ",".join(expression.get("values") or ())
            words = {"In": f" in ({values})", "NotIn": f" notin ({values})", "Exists": ""}
            parts.append(
                f"!{expression['key']}"
                if expression["operator"] == "DoesNotExist"
                else expression["key"] + words[expression["operator"]]
            )
        return ",".join(parts)

    def order(self, there: Object, label: str, address: str) -> dict[str, Any]:
        """Give the change: a strategic merge, which leaves other containers and variables as they are."""
        env = [{"name": self.variable, "value": address}]
        spec = {"containers": [{"name": self._container(there)["name"], "env": env}]}
        return {"spec": {"template": {"metadata": {"annotations": {LABEL: label}}, "spec": spec}}}

    def has(self, there: Object, label: str, address: str) -> bool:
        """Say whether template and variable name the version."""
        held = {variable["name"]: variable.get("value") for variable in self._container(there).get("env") or ()}
        return self.ordered(there) == label and held.get(self.variable) == address

    def ordered(self, there: Object) -> str | None:
        """Give the template's label."""
        return annotation_of(there["spec"]["template"])

    def shift(self, there: Object, pods: Sequence[Object]) -> dict[str, Any] | None:
        """Say that there is none: a Deployment sends requests to whatever is ready."""

    def preview(self, there: Object) -> str | None:
        """Say that they have none."""

    def standing(self, there: Object, pods: Sequence[Object]) -> WorkloadStanding:
        """Say what its pods serve; a rollout that ran out of its `progressDeadlineSeconds` has failed."""
        status, label = there.get("status") or {}, self.ordered(there)
        if status.get("observedGeneration", 0) < there["metadata"].get("generation", 0):
            return WorkloadStanding(label=None, reason="the cluster has not seen the change yet")
        progress = condition(there, "Progressing")
        if progress.get("reason") == "ProgressDeadlineExceeded":
            words = f"{progress.get('message', 'its rollout did not come to an end')}{trouble(pods, label)}"
            return WorkloadStanding(label=None, reason=words, has_failed=True)
        if there["spec"].get("paused"):
            return WorkloadStanding(label=None, reason="its rollouts are paused (`kubectl rollout resume`)")
        updated, every = status.get("updatedReplicas", 0), status.get("replicas", 0)
        if updated < every or condition(there, "Available").get("status") != "True":
            failure = condition(there, "ReplicaFailure").get("message", "")
            words = f"{updated} of its {every} pods are new{trouble(pods, label)}"
            return WorkloadStanding(label=None, reason=f"{words}; {failure}" if failure else words)
        return of_pods(pods, label)

    def _container(self, there: Object) -> Object:
        containers = there["spec"]["template"]["spec"]["containers"]
        fitting = [container for container in containers if self.container in (None, container["name"])]
        if not fitting:
            names = ", ".join(container["name"] for container in containers)
            raise ContractError(f"serving.kubernetes.container: it has no {self.container}, but {names}")
        return dict(fitting[0])
