"""Reads versions over MLflow's REST API, without its client: that takes seconds to import, and many commands only read.

What the API does not give plainly (an error, another way to log in, a store that the server cannot read) is left to the
client in `training.registry.registry`, whose word counts.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import httpx

from datasets_defs.core.errors import TransientError
from datasets_defs.store.work import work_folder
from training.registry.manifest import FOLDER, MANIFEST, MANIFEST_SHA256

TIMEOUT_SECONDS = 30.0


class Reader:
    """A reader of the registry behind one MLflow server.

    Raises (every method):
        TransientError: the server is away or failing.
        ContractError: it refuses the request, or a version is not what was registered.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def tags(self, model: str, version: int) -> dict[str, str]:
        """Read a version's tags."""
        try:
            with self._client() as client:
                return _tags(_version(client, model, version))
        except _UNREADABLE as err:
            self._give_up_if_away(err)
            from training.registry.registry import Registry

            return Registry(self.url).tags(model, version)

    def require_whole(self, model: str, version: int) -> None:
        """Fetch every file of a version, and compare it with the manifest that was registered; nothing is kept."""
        try:
            with self._client() as client:
                if _is_whole(client, _version(client, model, version)):
                    return
        except _UNREADABLE as err:
            self._give_up_if_away(err)
        from training.registry.registry import Registry

        registry = Registry(self.url)
        expected = registry.tags(model, version).get(MANIFEST_SHA256, "none")
        with work_folder("verify") as fresh:  # no cached copy may stand in
            registry.download(model, version, fresh, expected=expected)

    def _give_up_if_away(self, err: Exception) -> None:
        """Raise what the client would after seconds of import: with plain HTTP it gets no further."""
        if isinstance(err, httpx.TransportError) and self.url.startswith("http://"):
            raise TransientError(f"MLflow at {self.url} does not answer ({type(err).__name__})") from err

    def _client(self) -> httpx.Client:
        user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
        token = os.environ.get("MLFLOW_TRACKING_TOKEN")
        return httpx.Client(
            base_url=self.url,
            timeout=TIMEOUT_SECONDS,
            auth=(user, password) if user and password else None,
            headers={"Authorization": f"Bearer {token}"} if token and not user else None,
        )


_UNREADABLE = (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError)
"""No answer, one that is an error, or one that is not as documented."""


def _version(client: httpx.Client, model: str, version: int) -> Mapping[str, Any]:
    answer = client.get("/api/2.0/mlflow/model-versions/get", params={"name": model, "version": str(version)})
    model_version: Mapping[str, Any] = answer.raise_for_status().json()["model_version"]
    return model_version


def _tags(version: Mapping[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in version.get("tags", ())}


def _is_whole(client: httpx.Client, version: Mapping[str, Any]) -> bool:
    """Say whether manifest and files are those that were registered; what is not as expected is not whole."""
    run, expected = version["run_id"], _tags(version)[MANIFEST_SHA256]
    answer = client.get("/get-artifact", params={"run_uuid": run, "path": f"{FOLDER}/{MANIFEST}"}).raise_for_status()
    if hashlib.sha256(answer.content).hexdigest() != expected:
        return False
    files = json.loads(answer.content)["files"]
    return all(_fetched(client, run, name) == (file["bytes"], file["sha256"]) for name, file in files.items())


def _fetched(client: httpx.Client, run: str, name: str) -> tuple[int, str]:
    """Fetch a file of a run, and give its size in bytes and its SHA-256."""
    size, digest = 0, hashlib.sha256()
    with client.stream("GET", "/get-artifact", params={"run_uuid": run, "path": f"{FOLDER}/{name}"}) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_bytes(1 << 20):
            size += len(chunk)
            digest.update(chunk)
    return size, digest.hexdigest()
