"""KServe's objects: what an InferenceService or LLMInferenceService is told, and what it and its pods say. Pure."""

from collections.abc import Sequence
from typing import Any

from datasets_defs.core.errors import ContractError
from training.servers.pods import LABEL, Object, WorkloadStanding, condition, labels_of_pod, of_pods, trouble

REVISION = "serving.knative.dev/revision"
TAGS = "serving.kserve.io/enable-tag-routing"
"""Annotation of an InferenceService whose newest revision has an address of its own."""
_WORKLOAD = "llminferenceservice-workload"


class InferenceServiceObject:
    """KServe's InferenceService, whose predictor's model has a `storageUri`.

    Knative sends requests to a new revision once it is ready. Where the newest has an address of its own, it gets
    `canaryTrafficPercent: 0` with the order, and all requests once it has been probed there.
    """

    def selector(self, there: Object) -> str:
        """Give the selector of its predictor's pods."""
        return f"serving.kserve.io/inferenceservice={there['metadata']['name']},component=predictor"

    def order(self, there: Object, label: str, address: str) -> dict[str, Any]:
        """Give the change, which sends nobody to the new pods where they can be asked beforehand."""
        self._model(there)
        predictor: dict[str, Any] = {"annotations": {LABEL: label}, "model": {"storageUri": address}}
        if self._is_tagged(there) and self._component(there).get("latestRolledoutRevision"):
            predictor["canaryTrafficPercent"] = 0
        elif self._is_held_back(there):
            predictor["canaryTrafficPercent"] = None
        return {"spec": {"predictor": predictor}}

    def has(self, there: Object, label: str, address: str) -> bool:
        """Say whether its predictor names the version."""
        return self.ordered(there) == label and self._model(there).get("storageUri") == address

    def ordered(self, there: Object) -> str | None:
        """Give the label that its predictor's pods get."""
        return (there["spec"]["predictor"].get("annotations") or {}).get(LABEL)

    def shift(self, there: Object, pods: Sequence[Object]) -> dict[str, Any] | None:
        """Give all requests to the newest revision once a pod of it is ready; that is KServe's own way to promote.

        KServe takes a share below 100 for a wish to go back if it sees it before the new revision is made. Requests are
        then at the revision before the one that served, and get that one again.
        """
        if not self._is_held_back(there):
            return None
        all_to_newest = {"spec": {"predictor": {"canaryTrafficPercent": None}}}
        if not self._is_tagged(there):
            return all_to_newest
        ready = self._component(there).get("latestReadyRevision")
        if not self._is_newest_ready(there):
            return all_to_newest if self._answering(there) - {ready} else None
        told = of_pods(_of_revisions(pods, {ready}), self.ordered(there))
        return all_to_newest if told.label is not None else None

    def preview(self, there: Object) -> str | None:
        """Give the address of the newest revision, by KServe's tag `latest`."""
        if not self._is_held_back(there) or not self._is_newest_ready(there):
            return None
        traffic = self._component(there).get("traffic") or ()
        return next((target.get("url") for target in traffic if target.get("tag") == "latest"), None)

    def standing(self, there: Object, pods: Sequence[Object]) -> WorkloadStanding:
        """Say what the pods serve that requests go to; on Knative those of revisions with a share of the traffic."""
        label = self.ordered(there)
        if self._is_held_back(there):
            words = "its new revision gets no requests before a pod of it is ready"
            return WorkloadStanding(label=None, reason=f"{words}{self._failure(there)}{trouble(pods, label)}")
        if (ready := condition(there, "Ready")).get("status") != "True":
            words = ready.get("message") or ready.get("reason") or "it is not ready"
            return WorkloadStanding(label=None, reason=f"{words}{self._failure(there)}{trouble(pods, label)}")
        if self._component(there).get("traffic"):
            pods = _of_revisions(pods, self._answering(there))
        return of_pods(pods, label)

    @staticmethod
    def _is_held_back(there: Object) -> bool:
        return there["spec"]["predictor"].get("canaryTrafficPercent") is not None

    @staticmethod
    def _is_tagged(there: Object) -> bool:
        return (there["metadata"].get("annotations") or {}).get(TAGS) == "true"

    def _is_newest_ready(self, there: Object) -> bool:
        held = self._component(there)
        return held.get("latestReadyRevision") == held.get("latestCreatedRevision")

    def _answering(self, there: Object) -> set[Any]:
        """Give the revisions that requests go to."""
        traffic = self._component(there).get("traffic") or ()
        return {target.get("revisionName") for target in traffic if target.get("percent")}

    @staticmethod
    def _component(there: Object) -> Object:
        component: Object = ((there.get("status") or {}).get("components") or {}).get("predictor") or {}
        return component

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

    def preview(self, there: Object) -> str | None:
        """Say that they have none."""

    def standing(self, there: Object, pods: Sequence[Object]) -> WorkloadStanding:
        """Say what its workload's pods serve."""
        label = self.ordered(there)
        pods = [
            pod
            for pod in pods
            if labels_of_pod(pod).get("app.kubernetes.io/component", _WORKLOAD).startswith(_WORKLOAD)
        ]
        if (ready := condition(there, "Ready")).get("status") != "True":
            words = ready.get("message") or ready.get("reason") or "it is not ready"
            return WorkloadStanding(label=None, reason=f"{words}{trouble(pods, label)}")
        return of_pods(pods, label)


def _of_revisions(pods: Sequence[Object], names: set[Any]) -> list[Object]:
    return [pod for pod in pods if labels_of_pod(pod).get(REVISION) in names]
