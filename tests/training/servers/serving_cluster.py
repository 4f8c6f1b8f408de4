"""A cluster that serves a model: Deployments, and KServe's objects, with controllers that behave as theirs; simulated.

What a Deployment is told has to hold by Kubernetes' schemas. KServe's fields are those of its own resources (read in
0.18's CustomResourceDefinitions); any other is refused here, where a cluster would drop it without a word.
"""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jsonschema
import kubernetes_validate

from tests.training.kubernetes_server import NAMESPACE, VERSION, Kubernetes, RefusedError
from tests.training.servers.simulated_vllm import SimulatedVllm

PATH = re.compile(
    r"/apis/(apps/v1|serving\.kserve\.io/v1beta1|serving\.kserve\.io/v1alpha1)/namespaces/([^/]+)/(\w+)/([^/]+)"
)
APIS = {"deployments": "apps/v1", "inferenceservices": "serving.kserve.io/v1beta1",
        "llminferenceservices": "serving.kserve.io/v1alpha1"}  # fmt: skip
KINDS = {"deployments": "Deployment", "inferenceservices": "InferenceService",
         "llminferenceservices": "LLMInferenceService"}  # fmt: skip
_WORDS = {"type": "object", "additionalProperties": {"type": "string"}}


def _closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


SCHEMAS = {
    "inferenceservices": _closed(
        predictor=_closed(
            annotations=_WORDS,
            labels=_WORDS,
            canaryTrafficPercent={"type": "integer"},
            minReplicas={"type": "integer"},
            containers={"type": "array"},
            model=_closed(
                modelFormat=_closed(name={"type": "string"}),
                storageUri={"type": "string"},
                storage={"type": "object"},
                runtime={"type": "string"},
                args={"type": "array"},
            ),
        )
    ),
    "llminferenceservices": _closed(
        annotations=_WORDS,
        labels=_WORDS,
        replicas={"type": "integer"},
        model=_closed(uri={"type": "string"}, name={"type": "string"}),
        prefill=_closed(annotations=_WORDS, replicas={"type": "integer"}),
        router={"type": "object"},
    ),
}


@dataclass
class ServingCluster(Kubernetes):
    """Objects that make pods; what they are told is carried out at once unless a test holds it back."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By `deployments/NAME`, `inferenceservices/NAME` or `llminferenceservices/NAME`."""
    holds: bool = False
    """Whether a test says when pods are made and become ready."""
    patches: list[dict[str, Any]] = field(default_factory=list)
    answers: Callable[[str, str], None] = lambda *_: None
    """Told which address the pods read that requests to an object go to."""
    endpoints: dict[str, SimulatedVllm] = field(default_factory=dict)
    """Who answers at an object's address."""
    knative: bool = False
    """Whether InferenceServices get revisions, of which the newest may have a part of the requests."""
    preview: str = ""
    """The address that the newest revision has of its own, where an InferenceService asks for one."""
    shows: Callable[[str], None] = lambda *_: None
    """Told which address the pods read that answer there."""
    goes_back: bool = False
    """Whether KServe sees a share of 0 before the new revision is made, and takes it for a wish to go back."""
    drops: tuple[str, ...] = ()
    """Fields of `spec` that the cluster's definitions do not know, and lose."""

    def apply(self, key: str, spec: dict[str, Any], **annotations: str) -> None:
        """Make an object, whose pods come up as they are, told of no version."""
        plural, name = key.split("/")
        self.objects[key] = {
            "apiVersion": APIS[plural], "kind": KINDS[plural], "spec": spec, "status": {},
            "metadata": {"name": name, "namespace": NAMESPACE, "generation": 1, "resourceVersion": "1",
                         "annotations": annotations},
        }  # fmt: skip
        self.make_pods(key)
        self.finish(key)

    def other(self, method: str, path: str, content_type: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Read or change an object."""
        found = PATH.fullmatch(path)
        if found is None or APIS.get(found[3]) != found[1]:
            return None
        key = f"{found[3]}/{found[4]}"
        if found[2] != NAMESPACE or key not in self.objects:
            raise RefusedError(404, "NotFound", f'{found[3]} "{found[4]}" not found')
        if method == "GET":
            return self.objects[key]
        assert method == "PATCH", method
        return self._patched(key, content_type, body)

    def _patched(self, key: str, content_type: str, body: dict[str, Any]) -> dict[str, Any]:
        old, is_deployment = self.objects[key], key.startswith("deployments/")
        wanted = "application/strategic-merge-patch+json" if is_deployment else "application/merge-patch+json"
        if content_type != wanted:
            raise RefusedError(415, "UnsupportedMediaType", f"{content_type}: accepted media types include {wanted}")
        if body.get("metadata", {}).get("resourceVersion") not in (None, old["metadata"]["resourceVersion"]):
            raise RefusedError(409, "Conflict", "the object has been modified; please apply your changes to the latest")
        new = merged(old, body, by_name=is_deployment)
        for name in self.drops:
            new["spec"].pop(name, None)
        self._check(key, new)
        self.patches.append(body["spec"])
        if new["spec"] == old["spec"]:
            return old
        new["metadata"]["generation"] += 1
        self.objects[key] = new
        self._touch(key)
        answer = copy.deepcopy(new)
        if list(body["spec"].get("predictor", {})) == ["canaryTrafficPercent"]:
            self._route(key)
        elif not self.holds:
            self.make_pods(key)
            self.finish(key)
        return answer

    @staticmethod
    def _check(key: str, new: dict[str, Any]) -> None:
        try:
            if key.startswith("deployments/"):
                kubernetes_validate.validate(new, VERSION, strict=True)
            else:
                jsonschema.validate(new["spec"], SCHEMAS[key.split("/", maxsplit=1)[0]])
        except (kubernetes_validate.ValidationError, jsonschema.ValidationError) as err:
            raise RefusedError(422, "Invalid", f"{key} is invalid: {err.message}") from err

    # the controllers

    def make_pods(self, key: str) -> None:
        """Make pods of what an object says now, which are not ready yet; where nothing of theirs is new, none."""
        with self.lock:
            there, (plural, name) = self.objects[key], key.split("/")
            labels, annotations, address = self._template(key)
            revision = f"{name}-{there['metadata']['generation']:05}"
            if not any(self._is_of(pod, key, address, annotations) for pod in self.pods.values()):
                for number in (1, 2):
                    self._pod(f"{revision}-{number}", key, {**labels}, annotations, address)
                    if self._has_revisions(key):
                        self.pods[f"{revision}-{number}"]["metadata"]["labels"] |= {
                            "serving.knative.dev/revision": revision
                        }
                if self._has_revisions(key):
                    self._component(key)["latestCreatedRevision"] = revision
                    self._goes_back(key)
            status = there["status"]
            new = len(self._new(key))
            if plural == "deployments":
                every = len([pod for pod in self.pods.values() if pod["of"] == key])
                status |= {
                    "observedGeneration": there["metadata"]["generation"],
                    "replicas": every,
                    "updatedReplicas": new,
                }
                self._says(key, "Progressing", "True", "ReplicaSetUpdated", "")
            self._touch(key)

    def finish(self, key: str) -> None:
        """Let the newest pods become ready, and send requests to them where the object says so."""
        with self.lock:
            for pod in self._new(key):
                pod["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
            if self._has_revisions(key):
                self._component(key)["latestReadyRevision"] = self._component(key)["latestCreatedRevision"]
                self._route(key)
                return
            self._settle(key)

    def _settle(self, key: str) -> None:
        """Send all requests to the newest pods, and remove the others."""
        with self.lock:
            self.pods = {name: pod for name, pod in self.pods.items() if pod["of"] != key or pod in self._new(key)}
            self._says(key, "Available" if key.startswith("deployments/") else "Ready", "True", "", "")
            if key.startswith("deployments/"):
                new = len(self._new(key))
                self.objects[key]["status"] |= {"replicas": new, "updatedReplicas": new, "availableReplicas": new}
                self._says(key, "Progressing", "True", "NewReplicaSetAvailable", "")
            self._touch(key)
            self.answers(key, self._template(key)[2])

    def _route(self, key: str) -> None:
        """Divide requests as KServe does by `canaryTrafficPercent`; what is rolled out whole leaves no other pods."""
        held, percent = self._component(key), self.objects[key]["spec"]["predictor"].get("canaryTrafficPercent")
        ready, before = held["latestReadyRevision"], held.get("latestRolledoutRevision")
        newest: dict[str, Any] = {"revisionName": ready, "percent": 100, "latestRevision": True}
        if self.preview and self.objects[key]["metadata"]["annotations"]:
            newest |= {"tag": "latest", "url": self.preview}
        held["traffic"] = [newest]
        self._touch(key)
        if percent is not None and before:
            newest["percent"] = percent
            held["traffic"].append({"revisionName": before, "percent": 100 - percent, "tag": "prev"})
            self.shows(self._template(key)[2])
            return
        held |= {"latestRolledoutRevision": ready, "previousRolledoutRevision": before}
        if ready == held["latestCreatedRevision"]:
            self._settle(key)

    def _goes_back(self, key: str) -> None:
        held = self._component(key)
        if self.goes_back and self.objects[key]["spec"]["predictor"].get("canaryTrafficPercent") == 0:
            held["latestRolledoutRevision"] = held["previousRolledoutRevision"]
            held["traffic"] = [
                {"revisionName": held["latestReadyRevision"], "percent": 0, "latestRevision": True},
                {"revisionName": held["previousRolledoutRevision"], "percent": 100, "tag": "prev"},
            ]

    def fail(self, key: str, message: str) -> None:
        """Let the newest pods not start, and the object say so."""
        with self.lock:
            for pod in self._new(key):
                state = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
                container = {"name": "server", "image": "here", "imageID": "", "ready": False, "restartCount": 3}
                pod["status"] = {"conditions": [{"type": "Ready", "status": "False"}],
                                 "containerStatuses": [{**container, "state": state}]}  # fmt: skip
            if key.startswith("deployments/"):
                self._says(key, "Progressing", "False", "ProgressDeadlineExceeded", "the rollout timed out progressing")
            else:
                self._says(key, "Ready", "False", "RevisionFailed", "the newest revision does not start")
                failure = {"reason": "ModelLoadFailed", "message": message}
                self.objects[key]["status"]["modelStatus"] = {"transitionStatus": "BlockedByFailedLoad",
                                                              "lastFailureInfo": failure}  # fmt: skip
            self._touch(key)

    def _template(self, key: str) -> tuple[dict[str, str], dict[str, str], str]:
        """Give labels, annotations and address of the pods that an object makes."""
        spec, (plural, name) = self.objects[key]["spec"], key.split("/")
        if plural == "deployments":
            template = spec["template"]
            env = {each["name"]: each.get("value") for each in template["spec"]["containers"][0].get("env", [])}
            held = template["metadata"]
            return held["labels"], held.get("annotations", {}), env.get("VERSION_ADDRESS", "")
        if plural == "inferenceservices":
            predictor = spec["predictor"]
            labels = {"serving.kserve.io/inferenceservice": name, "component": "predictor"}
            return labels, predictor.get("annotations", {}), predictor.get("model", {}).get("storageUri", "")
        labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "llminferenceservice",
                  "app.kubernetes.io/component": "llminferenceservice-workload"}  # fmt: skip
        return labels, spec.get("annotations", {}), spec["model"]["uri"]

    def _pod(self, name: str, key: str, labels: dict[str, str], annotations: dict[str, str], address: str) -> None:
        self.pods[name] = {
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels, "annotations": dict(annotations)},
            "spec": {"containers": [{"name": "server", "image": "here"}]}, "status": {"conditions": []},
            "of": key, "reads": address,
        }  # fmt: skip

    def _new(self, key: str) -> list[dict[str, Any]]:
        _, annotations, address = self._template(key)
        return [pod for pod in self.pods.values() if self._is_of(pod, key, address, annotations)]

    def _is_of(self, pod: dict[str, Any], key: str, address: str, annotations: dict[str, str]) -> bool:
        revision = self._component(key).get("latestCreatedRevision") if self._has_revisions(key) else None
        held = pod["metadata"]["labels"].get("serving.knative.dev/revision")
        same = pod["of"] == key and pod["reads"] == address and pod["metadata"]["annotations"] == annotations
        return same and held in (None, revision)

    def _has_revisions(self, key: str) -> bool:
        return self.knative and key.startswith("inferenceservices/")

    def _component(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = self.objects[key]["status"].setdefault("components", {}).setdefault("predictor", {})
        return found

    def _says(self, key: str, kind: str, status: str, reason: str, message: str) -> None:
        held = self.objects[key]["status"].setdefault("conditions", [])
        held[:] = [each for each in held if each["type"] != kind]
        held.append({"type": kind, "status": status, "reason": reason, "message": message})

    def _touch(self, key: str) -> None:
        self.version += 1
        self.objects[key]["metadata"]["resourceVersion"] = str(self.version)


def merged(old: Any, change: Any, *, by_name: bool) -> Any:
    """Merge a change into an object: as RFC 7386 says, or with lists of named things merged by their names."""
    if isinstance(change, list) and by_name and isinstance(old, list):
        named = {each["name"]: each for each in old}
        for each in change:
            named[each["name"]] = merged(named.get(each["name"], {}), each, by_name=True)
        return list(named.values())
    if not isinstance(change, dict):
        return copy.deepcopy(change)
    result = copy.deepcopy(old) if isinstance(old, dict) else {}
    for name, value in change.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value, by_name=by_name)
    return result


def a_deployment() -> dict[str, Any]:
    """Give the spec of a Deployment whose server reads `$(VERSION_ADDRESS)`."""
    server = {"name": "server", "image": "vllm/vllm-openai", "args": ["--model", "$(VERSION_ADDRESS)"],
              "env": [{"name": "HOME", "value": "/tmp"}]}  # fmt: skip
    template = {"metadata": {"labels": {"app": "bot"}}, "spec": {"containers": [server, {"name": "log", "image": "l"}]}}
    return {"replicas": 2, "selector": {"matchLabels": {"app": "bot"}}, "template": template}


def an_inference_service() -> dict[str, Any]:
    """Give the spec of an InferenceService."""
    model = {"modelFormat": {"name": "huggingface"}, "storageUri": "hf://somebody/base"}
    return {"predictor": {"minReplicas": 2, "model": model}}


def an_llm_service() -> dict[str, Any]:
    """Give the spec of an LLMInferenceService whose prompts are read by pods of their own."""
    return {"replicas": 2, "model": {"uri": "hf://somebody/base", "name": "bot"}, "prefill": {"replicas": 1}}
