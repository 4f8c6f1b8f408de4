"""What pods say of the version that they serve, and why they do not start. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]
LABEL = "driftloop/version"
"""The annotation of a pod that holds its version's label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadStanding:
    """What an object's pods serve."""

    label: str | None
    """The version's; None: not one alone, or not all of them yet."""
    reason: str = ""
    """Why there is none."""
    has_failed: bool = False
    """Whether the cluster has given up: it will not come by waiting."""


def of_pods(pods: Sequence[Object], label: str | None) -> WorkloadStanding:
    """Say which version all pods serve that get requests."""
    ready = [pod for pod in pods if _is_ready(pod)]
    other = [pod for pod in ready if annotation_of(pod) != label]
    if label is None:
        return WorkloadStanding(label=None, reason="it was told of no version")
    if not ready:
        words = f"none of its pods is ready{trouble(pods, label)}"
        return WorkloadStanding(label=None, reason=words if pods else "it has no pod; where it scales to zero keep one")
    if other:
        has = annotation_of(other[0]) or "no version of driftloop's"
        words = f"{len(ready) - len(other)} of {len(ready)} ready pods have {label}; {_name(other[0])} has {has}"
        return WorkloadStanding(label=None, reason=f"{words}{trouble(pods, label)}")
    return WorkloadStanding(label=label)


def _is_ready(pod: Object) -> bool:
    return "deletionTimestamp" not in pod["metadata"] and condition(pod, "Ready").get("status") == "True"


def trouble(pods: Sequence[Object], label: str | None) -> str:
    """Say why the first of the new pods that is in trouble does not start."""
    for pod in pods:
        status = pod.get("status") or {}
        for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
            waiting = (container.get("state") or {}).get("waiting") or {}
            if annotation_of(pod) == label and waiting.get("reason") not in (
                None,
                "PodInitializing",
                "ContainerCreating",
            ):
                words = ": ".join(filter(None, (waiting["reason"], waiting.get("message"))))
                return f"; {_name(pod)}, container {container['name']}: {words[:300]}"
        scheduled = condition(pod, "PodScheduled")
        if annotation_of(pod) == label and scheduled.get("status") == "False":
            return f"; {_name(pod)}: {str(scheduled.get('message'))[:300]}"
    return ""


def condition(there: Object, kind: str) -> Object:
    """Give one of the conditions in an object's status; empty: it has none of that kind."""
    conditions = [entry for entry in (there.get("status") or {}).get("conditions") or () if entry["type"] == kind]
    return dict(conditions[0]) if conditions else {}


def annotation_of(there: Object) -> str | None:
    """Give the label that a pod, or a template of pods, bears."""
    value = ((there.get("metadata") or {}).get("annotations") or {}).get(LABEL)
    return str(value) if value is not None else None


def labels_of_pod(pod: Object) -> Mapping[str, str]:
    """Give what Kubernetes calls a pod's labels."""
    return dict(pod["metadata"].get("labels") or {})


def _name(pod: Object) -> str:
    return f"pod {pod['metadata']['name']}"
