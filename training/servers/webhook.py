"""A service of the user's own that swaps versions: told by a signed request, confirmed by asking it back."""

import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence

import httpx

from datasets_defs.core.errors import ContractError
from training.servers.http import asked
from training.servers.seam import Version

SIGNATURE = "X-Driftloop-Signature"
"""Holds `sha256=` and the HMAC-SHA256 of `TIME.BODY`, in hexadecimal digits; TIME stands in the other header."""
TIME = "X-Driftloop-Time"
"""Holds the request's time in seconds since 1970: a receiver refuses what is too old."""
KEY = "Idempotency-Key"
"""Holds the version's label: the same order twice is one order."""


def signature(secret: str, at: str, body: bytes) -> str:
    """Give what the header holds for a body sent at a time."""
    return "sha256=" + hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()


class Webhook:
    """`POST URL` orders a version; `GET URL` answers `{"replicas": [{"name": …, "label": …}, …]}`, one for each."""

    def __init__(self, url: str, model: str, secret: str, *, seconds: float) -> None:
        self.where, self.is_later = url, True
        self._model, self._secret = model, secret
        self._client = httpx.Client(base_url=url, timeout=httpx.Timeout(seconds, connect=3))

    def loaded(self) -> str | None:
        """Give the one label that every replica has; None: they differ, or there is none."""
        headers = self._signed(b"")
        answer = asked(self._client, "GET", "", params={"model": self._model}, headers=headers)
        try:
            labels = {str(replica["label"]) for replica in answer["replicas"]}
        except (KeyError, TypeError) as err:
            raise ContractError(
                f'{self.where} answered {str(answer)[:200]}; it must be {{"replicas": [{{"name": …, "label": …}}]}}'
            ) from err
        return labels.pop() if len(labels) == 1 else None

    def why_not(self) -> str:
        """Say nothing: it has no words for that."""
        return ""

    def load(self, version: Version) -> None:
        """Order a version; that the order was taken says nothing yet."""
        order: Mapping[str, str | int] = {
            "model": self._model, "version": version.number, "label": version.label, "folder": str(version.folder),
        }  # fmt: skip
        body = json.dumps(order, sort_keys=True).encode()
        headers = {**self._signed(body), KEY: version.label, "Content-Type": "application/json"}
        asked(self._client, "POST", "", content=body, headers=headers)

    def hold(self) -> None:
        """Do nothing: there is no such order."""

    def resume(self) -> None:
        """Do nothing, likewise."""

    def score(self, tokens: Sequence[Sequence[int]]) -> list[list[float]] | None:
        """Say that it cannot."""

    def _signed(self, body: bytes) -> dict[str, str]:
        at = str(int(time.time()))
        return {TIME: at, SIGNATURE: signature(self._secret, at, body)}
