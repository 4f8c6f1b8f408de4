"""What a kubelet does with a pod, as processes of this machine: init containers one after another, the rest together.

A mount's path stands for a folder of the test, in arguments and variables; all else runs as the description says.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

DIGEST = "sha256:" + "ab" * 32


class Cluster(Protocol):
    """What a kubelet needs of the API server."""

    folder: Path
    secrets: dict[str, dict[str, str]]
    pods: dict[str, dict[str, Any]]
    processes: dict[str, subprocess.Popen[bytes]]
    lock: threading.RLock

    def says(self, name: str, *lines: str) -> None: ...
    def set_status(self, name: str, **status: Any) -> None: ...
    def remove(self, name: str) -> None: ...


class Kubelet:
    """Runs one pod to its end."""

    def __init__(self, cluster: Cluster, name: str, now: Any, start: Mapping[str, Any]) -> None:
        self.cluster, self.name, self.now, self.start = cluster, name, now, start
        self.pod = cluster.pods[name]
        self.spec = self.pod["spec"]
        self.states: dict[str, dict[str, Any]] = {}
        self.running: set[str] = set()

    def begin(self) -> None:
        """Begin; a pod without init containers has its container at once."""
        places = self._volumes()
        if not self.spec.get("initContainers"):
            self._start_all(places)
            return
        threading.Thread(target=self._in_order, args=(places,), daemon=True).start()

    def _in_order(self, places: Mapping[str, Path]) -> None:
        for each in self.spec["initContainers"]:
            process = self._started(each, places)
            code = self._heard(each["name"], process)
            if self._ended(each["name"], code) or code:
                return
        with self.cluster.lock:
            if self.name in self.cluster.pods:
                self._start_all(places)

    def _start_all(self, places: Mapping[str, Path]) -> None:
        started = [(each["name"], self._started(each, places)) for each in self.spec["containers"]]
        for name, process in started:
            threading.Thread(target=self._to_its_end, args=(name, process), daemon=True).start()

    def _to_its_end(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self._ended(name, self._heard(name, process))

    def _started(self, container: Mapping[str, Any], volumes: Mapping[str, Path]) -> subprocess.Popen[bytes]:
        places = self._mounts(container, volumes)
        given: dict[str, str] = {}
        for source in container.get("envFrom", []):
            given |= self.cluster.secrets[source["secretRef"]["name"]]
        given |= {each["name"]: each["value"] for each in container.get("env", [])}
        root = Path(__file__).parents[2]
        own = self.cluster.folder / "image"
        own.mkdir(exist_ok=True)
        process = subprocess.Popen(
            [sys.executable if part == "python" else _put(part, places) for part in container["command"]],
            env={"PATH": os.environ["PATH"], **{key: _put(value, places) for key, value in given.items()}},
            cwd=container.get("workingDir", root if container["command"][0] == "python" else own),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        with self.cluster.lock:
            self.running.add(container["name"])
            self.cluster.processes[self._key(container["name"])] = process
            self._say(container["name"], {"running": {"startedAt": self.now()}})
        return process

    def _heard(self, name: str, process: subprocess.Popen[bytes]) -> int:
        assert process.stdout is not None
        for line in process.stdout:
            if name != "train":
                self.cluster.says(self.name, line.decode(errors="replace").rstrip("\n"))
        code = process.wait()
        return 128 - code if code < 0 else code

    def _ended(self, name: str, code: int) -> bool:
        """Note a container's end; say whether the pod is gone or being taken away."""
        with self.cluster.lock:
            self.running.discard(name)
            if self.cluster.pods.get(self.name) is not self.pod:
                return True
            leaving = "deletionTimestamp" in self.pod["metadata"]
            if leaving and not self.running:
                self.cluster.remove(self.name)
            elif not leaving:
                reason = "Completed" if code == 0 else "Error"
                self._say(name, {"terminated": {"exitCode": code, "reason": reason, "finishedAt": self.now()}})
            return leaving

    def _say(self, name: str, state: dict[str, Any]) -> None:
        self.states[name] = state
        first = [each["name"] for each in self.spec.get("initContainers", [])]
        rest = [each["name"] for each in self.spec["containers"]]
        self.cluster.set_status(
            self.name, phase=self._phase(first, rest), **self.start,
            initContainerStatuses=[self._status(each) for each in first if each in self.states],
            containerStatuses=[self._status(each) for each in rest],
        )  # fmt: skip

    def _phase(self, first: list[str], rest: list[str]) -> str:
        codes = {name: (state.get("terminated") or {}).get("exitCode") for name, state in self.states.items()}
        if any(codes.get(name) for name in first):
            return "Failed"
        if any(codes.get(name) is None for name in rest):
            return "Running" if any(name in self.states for name in rest) else "Pending"
        return "Failed" if any(codes[name] for name in rest) else "Succeeded"

    def _status(self, name: str) -> dict[str, Any]:
        state = self.states.get(name, {"waiting": {"reason": "PodInitializing"}})
        containers = [*self.spec.get("initContainers", []), *self.spec["containers"]]
        image = next(each["image"] for each in containers if each["name"] == name)
        known = "" if "waiting" in state else f"{image}@{DIGEST}"
        return {
            "name": name, "image": image, "imageID": known, "ready": "running" in state, "restartCount": 0,
            "state": state,
        }  # fmt: skip

    def _key(self, container: str) -> str:
        return self.name if container == "base" else f"{self.name}/{container}"

    def _volumes(self) -> dict[str, Path]:
        """Make the pod's volumes; give where each is on this machine."""
        places = {}
        for volume in self.spec["volumes"]:
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            place = self.cluster.folder / (
                f"claim-{claim}" if claim else f"{self.name}-{self.pod['metadata']['uid'][:8]}-{volume['name']}"
            )
            place.mkdir(parents=True, exist_ok=True)
            for item in volume.get("downwardAPI", {}).get("items", []):
                key = re.fullmatch(r"metadata\.annotations\['(.+)'\]", item["fieldRef"]["fieldPath"])
                assert key is not None
                (place / item["path"]).write_text(self.pod["metadata"]["annotations"][key[1]])
            places[volume["name"]] = place
        return places

    def _mounts(self, container: Mapping[str, Any], volumes: Mapping[str, Path]) -> dict[str, str]:
        """Give where each of a container's mounts is; a folder of a volume that is not there is made."""
        places = {}
        for mount in container["volumeMounts"]:
            place = volumes[mount["name"]] / mount.get("subPath", "")
            place.mkdir(parents=True, exist_ok=True)
            places[mount["mountPath"]] = str(place)
        return places


def _put(part: str, places: Mapping[str, str]) -> str:
    """Put this machine's folder in the place of a mount's path that a word is, or begins with."""
    if part in places:
        return places[part]
    for path in places:
        if part.startswith(f"{path}/") and path != "/tmp":  # the test's own folders lie there
            return places[path] + part[len(path) :]
    return part


def kill(process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> None:
    """Send a container's processes a signal; those that are gone are fine."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
