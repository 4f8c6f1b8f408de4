"""Replicas of a Deployment or StatefulSet, by the API's subresource `scale`; no other file asks for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.sdk.exceptions import AirflowException
from kubernetes.client import ApiException, AppsV1Api
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.spec.scaling import ScaleByKubernetes

TIMEOUT = (3, 10)
"""Seconds to connect to the API server, and to wait for its answer."""
CONFLICT, UNAUTHORIZED = 409, 401
FINAL = frozenset({400, UNAUTHORIZED, 403, 404, 405, 422})
"""Answers that stay the same until a person does something."""


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
            try:
                self._client = AppsV1Api(KubernetesHook(conn_id=self._spec.connection).get_conn())
            except (AirflowException, ConfigException) as err:
                raise ContractError(
                    f"Connection {self._spec.connection!r} leads to no Kubernetes cluster ({err}); "
                    "make one of type Kubernetes"
                ) from err
        return self._client

    @contextmanager
    def _asked(self, doing: str) -> Iterator[None]:
        """Translate what the API server says.

        Raises:
            TransientError: it is away or busy, or somebody else changed the same thing.
            ContractError: it refuses for good.
        """
        try:
            yield
        except ApiException as err:
            words = f"{self.name}: {doing}: answered {err.status}, {err.reason}"
            if err.status == CONFLICT:
                raise TransientError(f"{words}: somebody else changed it at that moment") from err
            if err.status in FINAL:
                raise ContractError(f"{words}; look at its name and at what the Connection's account may do") from err
            raise TransientError(words) from err
        except HTTPError as err:
            raise TransientError(f"{self.name}: {doing}: does not answer ({type(err).__name__})") from err
