"""Versions served by a Kubernetes cluster: the one file of this wing that asks its API.

A change of version is a change of a Deployment or of one of KServe's objects. What happens then is the cluster's
business: old pods answer until new ones are ready. Pods say which version they have, and the probe asks one of them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubernetes.client import ApiClient, AppsV1Api, CoreV1Api, CustomObjectsApi

from datasets_defs.cluster import FORBIDDEN, NOT_FOUND, TIMEOUT, UNAUTHORIZED, changing, connect
from datasets_defs.core.errors import ContractError
from datasets_defs.core.faults import reached
from datasets_defs.spec.kubernetes_serving import KubernetesServing
from training.servers.kserve import InferenceServiceObject, LLMInferenceServiceObject
from training.servers.pods import Object, WorkloadStanding
from training.servers.probe import judged
from training.servers.seam import Version, Word
from training.servers.vllm import Vllm
from training.servers.workloads import DeploymentObject, ServingObject

MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
GROUP = "serving.kserve.io"
VERSIONS = {"inferenceservices": "v1beta1", "llminferenceservices": "v1alpha1"}
ADVICE = {
    UNAUTHORIZED: "renew what the Connection logs in with",
    FORBIDDEN: "let the Connection's account get and patch it, and list pods",
    NOT_FOUND: "look at serving.kubernetes.workloads and namespace, and whether KServe is installed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What is served where."""

    url: str
    """Where the pods answer, all of them together."""
    workload: str
    model: str
    root: Path
    """The folder of the model's versions, as the loop's workers see it."""
    tolerance: float = 0.1
    """Of the probe of pods that have no requests yet."""


class ClusterServer:
    """One Deployment, InferenceService or LLMInferenceService, and its pods."""

    def __init__(
        self,
        served: Served,
        place: KubernetesServing,
        *,
        ask: Callable[[str], Vllm] | None,
        cluster: Callable[[str], ApiClient] = connect,
    ) -> None:
        self.where, self.is_later = served.url, True
        self._served, self._place, self._ask, self._cluster = served, place, ask, cluster
        kind, _, self._name = served.workload.partition("/")
        self._plural = f"{kind}s"
        self._is_deployment = kind == "deployment"
        self._kind: ServingObject
        if self._is_deployment:
            self._kind = DeploymentObject(place.container, place.variable)
        else:
            self._kind = InferenceServiceObject() if kind == "inferenceservice" else LLMInferenceServiceObject()
        self._held: ApiClient | None = None
        self._why = ""

    def loaded(self) -> str | None:
        """Give the label of the version that was ordered, once every pod that gets requests has it."""
        standing = self._looked()[2]
        self._why = standing.reason
        return standing.label

    def load(self, version: Version) -> None:
        """Order a version, or see its rollout through; one that the cluster has given up is refused.

        Killed anywhere and run again, it goes on: what stands in the object decides.
        """
        there, pods, standing = self._looked()
        with self._named():
            if not self._kind.has(there, version.label, self._address(version.label)):
                order = self._kind.order(there, version.label, self._address(version.label))
                self._require_kept(self._patch(there, order, f"ordering {version.label}"), version)
                reached("kubernetes.ordered")
            elif (shift := self._kind.shift(there, pods)) is not None:
                self._require_right(self._kind.preview(there), version)
                self._patch(there, shift, f"sending requests to {version.label}")
                reached("kubernetes.shifted")
            elif standing.has_failed:
                raise ContractError(standing.reason)

    def why_not(self) -> str:
        """Say what was missing at the last look, in the cluster's words; empty: nothing."""
        return self._why

    def hold(self) -> None:
        """Do nothing: pods that are not ready get no requests."""

    def resume(self) -> None:
        """Do nothing, likewise."""

    def score(self, tokens: Sequence[Sequence[int]]) -> list[list[float]] | None:
        """Ask whoever answers at the address for the prompts' log-probabilities; None: the YAML says that it cannot."""
        return self._scores(self.where, tokens)

    def _scores(self, url: str, tokens: Sequence[Sequence[int]]) -> list[list[float]] | None:
        if self._ask is None:
            return None
        try:
            return self._ask(url).score(tokens)
        except ContractError as err:
            raise ContractError(
                f"{err}; if this server gives no `prompt_logprobs`, set `serving.kubernetes.probe: false`"
            ) from err

    def _looked(self) -> tuple[Object, list[Object], WorkloadStanding]:
        there = self._read()
        with self._named():
            pods = self._pods(self._kind.selector(there))
            standing = self._kind.standing(there, pods)
            label = self._kind.ordered(there)
            if label is not None and not self._kind.has(there, label, self._address(label)):
                standing = WorkloadStanding(label=None, reason=f"it bears {label} and reads another address")
        return there, pods, standing

    def _address(self, label: str) -> str:
        return self._place.address.format(folder=self._served.root / label, model=self._served.model, label=label)

    def _read(self) -> Object:
        with self._asked("reading it"):
            return self._plain(
                self._apps.read_namespaced_deployment(self._name, self._place.namespace, _request_timeout=TIMEOUT)
                if self._is_deployment
                else self._custom.get_namespaced_custom_object(*self._path, self._name, _request_timeout=TIMEOUT)
            )

    def _pods(self, selector: str) -> list[Object]:
        with self._asked("listing its pods"):
            listed = CoreV1Api(self._client).list_namespaced_pod(
                self._place.namespace, label_selector=selector, _request_timeout=TIMEOUT
            )
            return list(self._plain(listed)["items"])

    def _patch(self, there: Object, change: dict[str, Any], doing: str) -> Object:
        """Change the very state that was read: whoever was held up while another changed it is told so."""
        change = {**change, "metadata": {"resourceVersion": there["metadata"]["resourceVersion"]}}
        limits = {"_request_timeout": TIMEOUT, "_content_type": STRATEGIC if self._is_deployment else MERGE}
        with self._asked(doing):
            return self._plain(
                self._apps.patch_namespaced_deployment(self._name, self._place.namespace, change, **limits)
                if self._is_deployment
                else self._custom.patch_namespaced_custom_object(*self._path, self._name, change, **limits)
            )

    def _require_right(self, preview: str | None, version: Version) -> None:
        """Probe new pods at an address of their own, before anybody else asks them."""
        if preview is None:
            return
        at = preview.rstrip("/") + urlsplit(self.where).path.rstrip("/")
        scores = self._scores(at, version.probe.tokens)
        word = Word(True, "") if scores is None else judged(version.probe, scores, tolerance=self._served.tolerance)
        if not word.is_confirmed:
            raise ContractError(f"its new revision, which no request reached, is wrong: {word.reason} (at {at})")

    def _require_kept(self, there: Object, version: Version) -> None:
        """Refuse a cluster that took the change and left a field out, which CustomResourceDefinitions do."""
        if not self._kind.has(there, version.label, self._address(version.label)):
            raise ContractError("it took the change and dropped a part of it; this KServe is too old for `annotations`")

    @property
    def _path(self) -> tuple[str, str, str, str]:
        return GROUP, VERSIONS[self._plural], self._place.namespace, self._plural

    @property
    def _apps(self) -> AppsV1Api:
        return AppsV1Api(self._client)

    @property
    def _custom(self) -> CustomObjectsApi:
        return CustomObjectsApi(self._client)

    @property
    def _client(self) -> ApiClient:
        if self._held is None:
            self._held = self._cluster(self._place.connection)
        return self._held

    def _plain(self, answer: Any) -> Object:
        plain: Object = self._client.sanitize_for_serialization(answer)
        return plain

    @property
    def _where(self) -> str:
        return f"{self._served.workload} in namespace {self._place.namespace} (Connection {self._place.connection})"

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Put the object's name before what is said of it."""
        try:
            yield
        except ContractError as err:
            if str(err).startswith(self._where):
                raise
            raise ContractError(f"{self._where}: {err}") from err

    def _asked(self, doing: str) -> AbstractContextManager[None]:
        return changing(self._where, doing, ADVICE, "look at the object")
