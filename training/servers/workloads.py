"""What an object of Kubernetes is told so that its pods read a version, and what it and they say. Pure.

A pod bears its version's label as an annotation, which it gets from the object in the same change as the address. No
object's `Ready` is believed alone: KServe's `observedGeneration` is that of what it made, not of what was asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from datasets_defs.core.errors import ContractError

Object = Mapping[str, Any]
LABEL = "driftloop/version"
"""The annotation."""
REVISION = "serving.knative.dev/revision"
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadStanding:
    """What an object's pods serve."""

    label: str | None
    """The version's; None: not one alone, or not all of them yet."""
    reason: str = ""
    """Why there is none."""
    has_failed: bool = False
    """Whether the cluster has given up: it will not come by waiting."""


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
        for each in wanted.get("matchExpressions") or ():
            values = ",".join(each.get("values") or ())
            words = {"In": f" in ({values})", "NotIn": f" notin ({values})", "Exists": ""}
            parts.append(
                f"!{each['key']}" if each["operator"] == "DoesNotExist" else each["key"] + words[each["operator"]]
            )
        return ",".join(parts)

    def order(self, there: Object, label: str, address: str) -> dict[str, Any]:
        """Give the change: a strategic merge, which leaves other containers and variables as they are."""
        env = [{"name": self.variable, "value": address}]
        spec = {"containers": [{"name": self._container(there)["name"], "env": env}]}
        return {"spec": {"template": {"metadata": {"annotations": {LABEL: label}}, "spec": spec}}}

    def has(self, there: Object, label: str, address: str) -> bool:
        """Say whether template and variable name the version."""
        held = {each["name"]: each.get("value") for each in self._container(there).get("env") or ()}
        return self.ordered(there) == label and held.get(self.variable) == address

    def ordered(self, there: Object) -> str | None:
        """Give the template's label."""
        return _annotation(there["spec"]["template"])

    def shift(self, there: Object, pods: Sequence[Object]) -> dict[str, Any] | None:
        """Say that there is none: a Deployment sends requests to whatever is ready."""

    def standing(self, there: Object, pods: Sequence[Object]) -> WorkloadStanding:
        """Say what its pods serve; a rollout that ran out of its `progressDeadlineSeconds` has failed."""
        status, label = there.get("status") or {}, self.ordered(there)
        if status.get("observedGeneration", 0) < there["metadata"].get("generation", 0):
            return WorkloadStanding(label=None, reason="the cluster has not seen the change yet")
        progress = _condition(there, "Progressing")
        if progress.get("reason") == "ProgressDeadlineExceeded":
            words = f"{progress.get('message', 'its rollout did not come to an end')}{_trouble(pods, label)}"
            return WorkloadStanding(label=None, reason=words, has_failed=True)
        if there["spec"].get("paused"):
            return WorkloadStanding(label=None, reason="its rollouts are paused (`kubectl rollout resume`)")
        updated, every = status.get("updatedReplicas", 0), status.get("replicas", 0)
        if updated < every or _condition(there, "Available").get("status") != "True":
            failure = _condition(there, "ReplicaFailure").get("message", "")
            words = f"{updated} of its {every} pods are new{_trouble(pods, label)}"
            return WorkloadStanding(label=None, reason=f"{words}; {failure}" if failure else words)
        return _of_pods(pods, label)

    def _container(self, there: Object) -> Object:
        containers = there["spec"]["template"]["spec"]["containers"]
        found = [each for each in containers if self.container in (None, each["name"])]
        if not found:
            names = ", ".join(each["name"] for each in containers)
            raise ContractError(f"serving.kubernetes.container: it has no {self.container}, but {names}")
        return dict(found[0])


class InferenceServiceObject:
    """KServe's InferenceService, whose predictor's model has a `storageUri`.

    On Knative a new revision gets `canaryTrafficPercent: 0` with the order, and all requests once its pods are ready.
    """

    def selector(self, there: Object) -> str:
        """Give the selector of its predictor's pods."""
        return f"serving.kserve.io/inferenceservice={there['metadata']['name']},component=predictor"

    def order(self, there: Object, label: str, address: str) -> dict[str, Any]:
        """Give the change, which sends nobody to the new pods where another revision serves."""
        self._model(there)
        predictor: dict[str, Any] = {"annotations": {LABEL: label}, "model": {"storageUri": address}}
        if self._component(there).get("latestRolledoutRevision"):
            predictor["canaryTrafficPercent"] = 0
        return {"spec": {"predictor": predictor}}

    def has(self, there: Object, label: str, address: str) -> bool:
        """Say whether its predictor names the version."""
        return self.ordered(there) == label and self._model(there).get("storageUri") == address

    def ordered(self, there: Object) -> str | None:
        """Give the label that its predictor's pods get."""
        return (there["spec"]["predictor"].get("annotations") or {}).get(LABEL)

    def shift(self, there: Object, pods: Sequence[Object]) -> dict[str, Any] | None:
        """Give all requests to the newest revision once a pod of it is ready; that is KServe's own way to promote."""
        held, newest = self._component(there), self._component(there).get("latestReadyRevision")
        if there["spec"]["predictor"].get("canaryTrafficPercent") is None or not newest:
            return None
        said = _of_pods(_of_revisions(pods, {newest}), self.ordered(there))
        if newest != held.get("latestCreatedRevision") or said.label is None:
            return None
        return {"spec": {"predictor": {"canaryTrafficPercent": None}}}

    def standing(self, there: Object, pods: Sequence[Object]) -> WorkloadStanding:
        """Say what the pods serve that requests go to; on Knative those of revisions with a share of the traffic."""
        label = self.ordered(there)
        if there["spec"]["predictor"].get("canaryTrafficPercent") is not None:
            words = "its new revision gets no requests before a pod of it is ready"
            return WorkloadStanding(label=None, reason=f"{words}{self._failure(there)}{_trouble(pods, label)}")
        if (ready := _condition(there, "Ready")).get("status") != "True":
            words = ready.get("message") or ready.get("reason") or "it is not ready"
            return WorkloadStanding(label=None, reason=f"{words}{self._failure(there)}{_trouble(pods, label)}")
        traffic = self._component(there).get("traffic")
        if traffic:
            pods = _of_revisions(pods, {each.get("revisionName") for each in traffic if each.get("percent")})
        return _of_pods(pods, label)

    @staticmethod
    def _component(there: Object) -> Object:
        found: Object = ((there.get("status") or {}).get("components") or {}).get("predictor") or {}
        return found

    @staticmethod
    def _model(there: Object) -> Object:
        model = there["spec"]["predictor"].get("model")
        if model is None:
            raise ContractError(
                "its predictor has no `model` whose `storageUri` could name a version; give it one, or name a "
                "Deployment in serving.kubernetes.workloads"
            )
        if "storage" in model:
            raise ContractError("its predictor's model has `storage`, which `storageUri` excludes; take it out")
        return dict(model)

    @staticmethod
    def _failure(there: Object) -> str:
        failure = ((there.get("status") or {}).get("modelStatus") or {}).get("lastFailureInfo") or {}
        words = ": ".join(filter(None, (failure.get("reason"), failure.get("message"))))
        return f"; KServe says {words[:300]}" if words else ""


class LLMInferenceServiceObject:
    """KServe's LLMInferenceService, whose model has a `uri`."""

    def selector(self, there: Object) -> str:
        """Give the selector of its pods; those of its scheduler are among them."""
        return f"app.kubernetes.io/part-of=llminferenceservice,app.kubernetes.io/name={there['metadata']['name']}"

    def order(self, there: Object, label: str, address: str) -> dict[str, Any]:
        """Give the change; pods for prefill, where there are some, get the label, too."""
        spec: dict[str, Any] = {"annotations": {LABEL: label}, "model": {"uri": address}}
        if there["spec"].get("prefill") is not None:
            spec["prefill"] = {"annotations": {LABEL: label}}
        return {"spec": spec}

    def has(self, there: Object, label: str, address: str) -> bool:
        """Say whether it names the version."""
        return self.ordered(there) == label and (there["spec"].get("model") or {}).get("uri") == address

    def ordered(self, there: Object) -> str | None:
        """Give the label that its pods get."""
        return (there["spec"].get("annotations") or {}).get(LABEL)

    def shift(self, there: Object, pods: Sequence[Object]) -> dict[str, Any] | None:
        """Say that there is none: its Deployment sends requests to whatever is ready."""

    def standing(self, there: Object, pods: Sequence[Object]) -> WorkloadStanding:
        """Say what its workload's pods serve."""
        label = self.ordered(there)
        pods = [pod for pod in pods if _labels(pod).get("app.kubernetes.io/component", _WORKLOAD).startswith(_WORKLOAD)]
        if (ready := _condition(there, "Ready")).get("status") != "True":
            words = ready.get("message") or ready.get("reason") or "it is not ready"
            return WorkloadStanding(label=None, reason=f"{words}{_trouble(pods, label)}")
        return _of_pods(pods, label)


_WORKLOAD = "llminferenceservice-workload"


def _of_pods(pods: Sequence[Object], label: str | None) -> WorkloadStanding:
    """Say which version all pods serve that get requests."""
    ready = [pod for pod in pods if _is_ready(pod)]
    other = [pod for pod in ready if _annotation(pod) != label]
    if label is None:
        return WorkloadStanding(label=None, reason="it was told of no version")
    if not ready:
        words = f"none of its pods is ready{_trouble(pods, label)}"
        return WorkloadStanding(label=None, reason=words if pods else "it has no pod; where it scales to zero keep one")
    if other:
        has = _annotation(other[0]) or "no version of driftloop's"
        words = f"{len(ready) - len(other)} of {len(ready)} ready pods have {label}; {_name(other[0])} has {has}"
        return WorkloadStanding(label=None, reason=f"{words}{_trouble(pods, label)}")
    return WorkloadStanding(label=label)


def _of_revisions(pods: Sequence[Object], names: set[Any]) -> list[Object]:
    return [pod for pod in pods if _labels(pod).get(REVISION) in names]


def _is_ready(pod: Object) -> bool:
    return "deletionTimestamp" not in pod["metadata"] and _condition(pod, "Ready").get("status") == "True"


def _trouble(pods: Sequence[Object], label: str | None) -> str:
    """Say why the first of the new pods that is in trouble does not start."""
    for pod in pods:
        status = pod.get("status") or {}
        for each in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
            waiting = (each.get("state") or {}).get("waiting") or {}
            if _annotation(pod) == label and waiting.get("reason") not in (
                None,
                "PodInitializing",
                "ContainerCreating",
            ):
                words = ": ".join(filter(None, (waiting["reason"], waiting.get("message"))))
                return f"; {_name(pod)}, container {each['name']}: {words[:300]}"
        scheduled = _condition(pod, "PodScheduled")
        if _annotation(pod) == label and scheduled.get("status") == "False":
            return f"; {_name(pod)}: {str(scheduled.get('message'))[:300]}"
    return ""


def _condition(there: Object, kind: str) -> Object:
    found = [each for each in (there.get("status") or {}).get("conditions") or () if each["type"] == kind]
    return dict(found[0]) if found else {}


def _annotation(there: Object) -> str | None:
    value = ((there.get("metadata") or {}).get("annotations") or {}).get(LABEL)
    return str(value) if value is not None else None


def _labels(pod: Object) -> Mapping[str, str]:
    return dict(pod["metadata"].get("labels") or {})


def _name(pod: Object) -> str:
    return f"pod {pod['metadata']['name']}"
