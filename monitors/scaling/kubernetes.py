"""Replicas of a Deployment or StatefulSet, by the API's subresource `scale`; no other file asks for them."""

from contextlib import AbstractContextManager
from typing import Any

from kubernetes.client import AppsV1Api

from datasets_defs.cluster import TIMEOUT, changing, connect
from datasets_defs.spec.scaling import ScaleByKubernetes


class KubernetesGiver:
    """Sets the replicas that a cluster wants; which pods that makes is the cluster's business."""

    def __init__(self, spec: ScaleByKubernetes) -> None:
        self._spec = spec
        self._kind, _, self._object = spec.target.partition("/")
        self.name = f"{spec.target} in namespace {spec.namespace} (Connection {spec.connection})"
        self._client: AppsV1Api | None = None

    def present(self, known: int) -> int | None:
        """Read how many replicas are wanted."""
        del known
        return int(self._read()["spec"].get("replicas", 0))

    def set(self, replicas: int, *, before: int) -> None:
        """Set the replicas of the very state that was read: of two who change it at once one is told so."""
        del before
        scale = self._read()
        if scale["spec"].get("replicas", 0) == replicas:
            return
        scale["spec"]["replicas"] = replicas
        with self._asked(f"setting {replicas} replicas"):
            if self._kind == "deployment":
                self._apps.replace_namespaced_deployment_scale(
                    self._object, self._spec.namespace, scale, _request_timeout=TIMEOUT
                )
            else:
                self._apps.replace_namespaced_stateful_set_scale(
                    self._object, self._spec.namespace, scale, _request_timeout=TIMEOUT
                )

    def _read(self) -> dict[str, Any]:
        with self._asked("reading its scale"):
            if self._kind == "deployment":
                answer = self._apps.read_namespaced_deployment_scale(
                    self._object, self._spec.namespace, _request_timeout=TIMEOUT
                )
            else:
                answer = self._apps.read_namespaced_stateful_set_scale(
                    self._object, self._spec.namespace, _request_timeout=TIMEOUT
                )
        scale: dict[str, Any] = self._apps.api_client.sanitize_for_serialization(answer)
        return scale

    @property
    def _apps(self) -> AppsV1Api:
        if self._client is None:
            self._client = AppsV1Api(connect(self._spec.connection))
        return self._client

    def _asked(self, doing: str) -> AbstractContextManager[None]:
        return changing(self.name, doing, {}, "look at its name and at what the Connection's account may do")
