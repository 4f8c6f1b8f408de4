"""A local server that behaves as Kubernetes' API does for pods, with a kubelet that a test scripts or that runs pods.

What it is sent has to hold by the schemas of Kubernetes, as kubernetes-validate has them, and by the rules for names.
"""

import copy
import json
import re
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate

from tests.training.kubelet import Kubelet, kill

VERSION = "1.34"
NAMESPACE = "models"
TOKEN = "a-token-of-the-test"
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
SCALES = re.compile(r"/apis/apps/v1/namespaces/([^/]+)/(deployments|statefulsets)/([^/]+)/scale")
PODS = re.compile(r"/api/v1/namespaces/([^/]+)/pods(?:/([^/]+)(/log)?)?")


class RefusedError(Exception):
    """An answer with a Status object."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


@dataclass
class Fault:
    """What happens to the next requests of a method instead of, or after, what they ask for."""

    method: str
    code: int | None = None
    """Answered with this; none: the connection is dropped."""
    message: str = "somebody is in the way"
    done: bool = False
    """Whether what was asked for happens all the same."""
    seconds: float = 0
    """How long the answer takes; an answer that is only slow has neither code nor drop."""
    only_slow: bool = False
    times: int = 1


@dataclass
class Kubernetes:
    """The state of the cluster, and the hands of a test on it."""

    folder: Path
    """Where pods that run have their volumes and logs."""
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    runs_pods: bool = False
    """Whether a pod's command is really started, as a process of this machine."""
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    scales: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Scale objects of Deployments and StatefulSets, by `deployments/NAME`."""
    logs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Each pod's lines, with their times."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of every request that came."""
    created: list[str] = field(default_factory=list)
    """Names of the pods that were made, in order."""
    deleted: list[str] = field(default_factory=list)
    set_to: list[tuple[str, int]] = field(default_factory=list)
    """What scales were set to, in order."""
    faults: list[Fault] = field(default_factory=list)
    down: bool = False
    """Whether every connection is dropped."""
    url: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    version: int = 1

    def config(self, token: str = TOKEN) -> Path:
        """Write a kubeconfig that leads here."""
        path = self.folder / "kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": {"server": self.url}}],
            "users": [{"name": "loop", "user": {"token": token}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "loop"}}],
            "current-context": "here",
        }
        path.write_text(json.dumps(content))
        return path

    # what a test does to the cluster

    def set_status(self, name: str, **status: Any) -> None:
        """Change a pod's status, as the scheduler and the kubelet do."""
        with self.lock:
            self.pods[name]["status"] |= status
            self._bump(self.pods[name])

    def unschedulable(self, name: str, message: str) -> None:
        """Say that no node takes the pod."""
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        self.set_status(name, phase="Pending", conditions=[condition])

    def waits(self, name: str, reason: str, message: str = "") -> None:
        """Say why the pod's container does not start."""
        self.set_status(
            name,
            phase="Pending",
            **_scheduled(),
            containerStatuses=[_container({"waiting": {"reason": reason, "message": message}})],
        )

    def starts(self, name: str) -> None:
        """Let the pod's container run."""
        state = {"running": {"startedAt": _now()}}
        self.set_status(name, phase="Running", **_scheduled(), containerStatuses=[_container(state)])

    def ends(self, name: str, code: int, reason: str = "", message: str = "") -> None:
        """Let the pod's container end."""
        words = reason or ("Completed" if code == 0 else "Error")
        ended = {"exitCode": code, "reason": words, "message": message, "finishedAt": _now()}
        phase = "Succeeded" if code == 0 else "Failed"
        self.set_status(name, phase=phase, containerStatuses=[_container({"terminated": ended})])

    def evicts(self, name: str, message: str) -> None:
        """Let the kubelet throw the pod out."""
        self.set_status(name, phase="Failed", reason="Evicted", message=message)

    def says(self, name: str, *lines: str) -> None:
        """Let the pod's container write lines."""
        with self.lock:
            self.logs.setdefault(name, []).extend((_now(), line) for line in lines)

    def remove(self, name: str) -> None:
        """Take a pod away for good, as somebody's `kubectl delete` does in the end."""
        with self.lock:
            self.pods.pop(name)
            self.logs.pop(name, None)

    # what the API does

    def create(self, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        if namespace != NAMESPACE:
            raise RefusedError(404, "NotFound", f'namespaces "{namespace}" not found')
        name = body["metadata"]["name"]
        _check(body)
        if name in self.pods:
            raise RefusedError(409, "AlreadyExists", f'pods "{name}" already exists')
        body["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": _now(), "namespace": namespace}
        body["status"] = {"phase": "Pending", "conditions": []}
        self.pods[name] = body
        self.created.append(name)
        self._bump(body)
        if self.runs_pods:
            Kubelet(self, name, _now, _scheduled()).begin()
        return body

    def get(self, name: str) -> dict[str, Any]:
        if name not in self.pods:
            raise RefusedError(404, "NotFound", f'pods "{name}" not found')
        return self.pods[name]

    def workload(self, name: str, replicas: int) -> None:
        """Have a workload `deployments/NAME` or `statefulsets/NAME`, as somebody's `kubectl apply` does."""
        self.version += 1
        self.scales[name] = {
            "apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": {"name": name.split("/")[1], "namespace": NAMESPACE, "resourceVersion": str(self.version),
                         "uid": str(uuid.uuid4())},
            "spec": {"replicas": replicas}, "status": {"replicas": replicas, "selector": "app=server"},
        }  # fmt: skip

    def replicas(self, name: str) -> int:
        """Say how many replicas a workload wants."""
        return self.scales[name]["spec"].get("replicas", 0)

    def rescale(self, method: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Read a workload's scale, or put another one in the place of the very one that was read."""
        if name not in self.scales:
            raise RefusedError(404, "NotFound", f"{name} not found")
        if method == "GET":
            return self.scales[name]
        try:
            kubernetes_validate.validate(body, VERSION, strict=True)
        except kubernetes_validate.ValidationError as err:
            raise RefusedError(422, "Invalid", f"Scale is invalid: {err.message}") from err
        if body["metadata"].get("resourceVersion") not in (None, self.scales[name]["metadata"]["resourceVersion"]):
            raise RefusedError(409, "Conflict", "the object has been modified; please apply your changes to the latest")
        self.workload(name, body["spec"]["replicas"])
        self.set_to.append((name, body["spec"]["replicas"]))
        return self.scales[name]

    def patch(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Merge labels and annotations into a pod's."""
        pod = self.get(name)
        for key in ("labels", "annotations"):
            pod["metadata"].setdefault(key, {}).update(body.get("metadata", {}).get(key, {}))
        self._bump(pod)
        return pod

    def list(self, selector: str) -> dict[str, Any]:
        found = [each for each in self.pods.values() if _matches(each["metadata"].get("labels", {}), selector)]
        return {
            "apiVersion": "v1",
            "kind": "PodList",
            "metadata": {"resourceVersion": str(self.version)},
            "items": found,
        }

    def delete(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        pod = self.get(name)
        asked = (options.get("preconditions") or {}).get("uid")
        if asked not in (None, pod["metadata"]["uid"]):
            raise RefusedError(409, "Conflict", f"the UID in the precondition ({asked}) does not match")
        grace = options.get("gracePeriodSeconds")
        grace = pod["spec"].get("terminationGracePeriodSeconds", 30) if grace is None else grace
        self.deleted.append(name)
        unstarted = not pod["status"].get("containerStatuses")
        if grace == 0 or unstarted or pod["status"]["phase"] in ("Succeeded", "Failed"):
            self._end(name, 0)
            self.remove(name)
            return pod
        pod["metadata"] |= {"deletionTimestamp": _now(grace), "deletionGracePeriodSeconds": grace}
        self._bump(pod)
        self._end(name, grace)
        return pod

    def other(self, method: str, path: str, content_type: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Answer for objects that are neither pods nor scales; None: there are none of that kind."""

    def log(self, name: str, query: Mapping[str, str]) -> str:
        pod = self.get(name)
        states = [each["state"] for each in pod["status"].get("containerStatuses", [])]
        if not states or "waiting" in states[0]:
            raise RefusedError(
                400, "BadRequest", f'container "{query.get("container")}" in pod "{name}" is waiting to start'
            )
        lines = self.logs.get(name, [])
        if "sinceSeconds" in query:
            since = _now(-int(query["sinceSeconds"]))
            lines = [line for line in lines if line[0] >= since]
        if "tailLines" in query:
            lines = lines[-int(query["tailLines"]) :]
        stamped = query.get("timestamps") in ("true", "True")
        return "".join(f"{at} {line}\n" if stamped else f"{line}\n" for at, line in lines)

    def _bump(self, pod: dict[str, Any]) -> None:
        self.version += 1
        pod["metadata"]["resourceVersion"] = str(self.version)

    # the kubelet that runs pods as processes of this machine

    def _end(self, name: str, grace: float) -> None:
        for process in [each for key, each in self.processes.items() if key.split("/")[0] == name]:
            if process.poll() is not None:
                continue
            kill(process, signal.SIGTERM if grace else signal.SIGKILL)
            if grace:
                timer = threading.Timer(grace, kill, (process,))
                timer.daemon = True
                timer.start()

    def kill(self, name: str, container: str = "base") -> None:
        """Kill the processes of a pod's container, as the kernel does when memory runs out."""
        kill(self.processes[name if container == "base" else f"{name}/{container}"])

    def close(self) -> None:
        """End what runs."""
        for process in self.processes.values():
            kill(process)
            process.wait()


def _check(pod: dict[str, Any]) -> None:
    """Refuse what the API server refuses."""
    try:
        kubernetes_validate.validate(pod, VERSION, strict=True)
    except kubernetes_validate.ValidationError as err:
        raise RefusedError(422, "Invalid", f"Pod is invalid: {err.message}") from err
    metadata = pod["metadata"]
    names = [metadata["name"], *(each["name"] for each in pod["spec"]["containers"])]
    bad = [name for name in names if not LABEL.fullmatch(name)]
    bad += [value for value in metadata.get("labels", {}).values() if not LABEL_VALUE.fullmatch(value)]
    mounted = {each["name"] for each in pod["spec"]["containers"][0].get("volumeMounts", [])}
    bad += sorted(mounted - {each["name"] for each in pod["spec"].get("volumes", [])})
    if bad:
        raise RefusedError(422, "Invalid", f"Pod is invalid: {bad}")


def _matches(labels: Mapping[str, str], selector: str) -> bool:
    """Say whether labels are selected: `a=b`, `a!=b`, `a`, `!a`."""
    for part in filter(None, selector.split(",")):
        if "!=" in part:
            name, _, value = part.partition("!=")
            if labels.get(name) == value:
                return False
        elif "=" in part:
            name, _, value = part.replace("==", "=").partition("=")
            if labels.get(name) != value:
                return False
        elif (part.lstrip("!") in labels) is part.startswith("!"):
            return False
    return True


def _scheduled() -> dict[str, Any]:
    return {"startTime": _now(), "conditions": [{"type": "PodScheduled", "status": "True"}]}


def _container(state: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "base", "image": "here", "imageID": "", "ready": "running" in state, "restartCount": 0, "state": state,
    }  # fmt: skip


def _now(later: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=later)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


AnyCluster = TypeVar("AnyCluster", bound=Kubernetes)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: Kubernetes

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.cluster.lock:
            self.cluster.requests.append((self.command, self.path))
            fault = self._fault()
        if self.cluster.down:
            self.close_connection = True
            return
        if fault is not None:
            time.sleep(fault.seconds)
            if fault.done:
                self._answer(body)
            if not fault.only_slow:
                self._fail(fault)
                return
        self._send(*self._answer(body))

    def _fault(self) -> Fault | None:
        for fault in self.cluster.faults:
            if fault.method == self.command and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def _fail(self, fault: Fault) -> None:
        if fault.code is None:
            self.close_connection = True
            return
        reason = {401: "Unauthorized", 403: "Forbidden", 429: "TooManyRequests"}.get(fault.code, "InternalError")
        self._send(fault.code, _status(fault.code, reason, fault.message))

    def _answer(self, body: bytes) -> tuple[int, dict[str, Any] | str]:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, _status(401, "Unauthorized", "Unauthorized")
        split = urlsplit(self.path)
        found = PODS.fullmatch(split.path)
        if (scale := SCALES.fullmatch(split.path)) is not None and scale[1] == NAMESPACE:
            with self.cluster.lock:
                try:
                    name = f"{scale[2]}/{scale[3]}"
                    return 200, copy.deepcopy(self.cluster.rescale(self.command, name, json.loads(body or b"{}")))
                except RefusedError as err:
                    return err.code, _status(err.code, err.reason, err.message)
        if found is None:
            with self.cluster.lock:
                try:
                    kind = self.headers.get("Content-Type") or ""
                    other = self.cluster.other(self.command, split.path, kind, json.loads(body or b"{}"))
                except RefusedError as err:
                    return err.code, _status(err.code, err.reason, err.message)
            if other is not None:
                return 200, copy.deepcopy(other)
            return 404, _status(404, "NotFound", "the server could not find the requested resource")
        namespace, name, log = found.groups()
        query = {key: values[0] for key, values in parse_qs(split.query).items()}
        with self.cluster.lock:
            try:
                # a copy: the pod may change while it is sent
                return copy.deepcopy(self._do(namespace, name, log, query, json.loads(body or b"{}") or {}))
            except RefusedError as err:
                return err.code, _status(err.code, err.reason, err.message)

    def _do(
        self, namespace: str, name: str | None, log: str | None, query: dict[str, str], body: dict[str, Any]
    ) -> tuple[int, dict[str, Any] | str]:
        match self.command, name, log:
            case "POST", None, None:
                return 201, self.cluster.create(namespace, body)
            case "GET", None, None:
                return 200, self.cluster.list(query.get("labelSelector", ""))
            case "GET", str(), None:
                return 200, self.cluster.get(name)
            case "GET", str(), "/log":
                return 200, self.cluster.log(name, query)
            case "PATCH", str(), None:
                return 200, self.cluster.patch(name, body)
            case "DELETE", str(), None:
                return 200, self.cluster.delete(name, {**query, **body})
        return 405, _status(405, "MethodNotAllowed", self.command)

    def _send(self, code: int, content: dict[str, Any] | str) -> None:
        text = isinstance(content, str)
        raw = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if text else "application/json")
        self.send_header("Content-Length", str(len(raw)))
        if code == 429:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(raw)


def _status(code: int, reason: str, message: str) -> dict[str, Any]:
    return {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code,
    }  # fmt: skip


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that were killed."""


@contextmanager
def kubernetes(folder: Path) -> Iterator[Kubernetes]:
    """Run the API of an empty cluster."""
    with serving_api(Kubernetes(folder)) as cluster:
        yield cluster


@contextmanager
def serving_api(cluster: AnyCluster) -> Iterator[AnyCluster]:
    """Run a cluster's API."""
    handler = type("Handler", (_Handler,), {"cluster": cluster})
    server = _Server(("127.0.0.1", 0), handler)
    cluster.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
        cluster.close()
