"""One model behind the gateway: its replicas, and which of them is asked, once more where that does no harm."""

import math
import os
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

from datasets_defs.spec.model import ModelSpec
from serving.gateway.arms import Arm
from serving.gateway.asked import CHAT, COMPLETIONS
from serving.gateway.breaker import Replica, Replicas
from serving.protocol import ApiError, not_ready
from serving.wire.http_client import AwayError, Headers, HttpClient, Reply, SilentError

CANNOT_NOW = frozenset({502, 503, 504})
"""Answers by which a server, or what stands before it, says that it cannot now: another replica may."""
FORGOT = 404
"""With adapters: the replica has restarted and does not know the version's name until it is told again."""
MOST_TRIES = 3


class Upstream:
    """A model and the servers that answer for it."""

    def __init__(self, spec: ModelSpec, urls: tuple[str, ...], client: HttpClient, retried: Callable[[], None]) -> None:
        self.spec, self.replicas = spec, Replicas(tuple(Replica(url) for url in urls))
        self.limits = spec.serving
        self.api_key = os.environ.get(self.limits.api_key_env) if self.limits.api_key_env else None
        self._client, self._retried = client, retried

    @property
    def logs_itself(self) -> bool:
        """Whether the server writes the inference log: driftloop's own does, with losses, under the gateway's id."""
        return self.spec.serving.kind == "driftloop"

    def resting(self) -> int:
        """Count the replicas that fail and are left alone."""
        return sum(not replica.breaker.closed for replica in self.replicas.all)

    def in_flight(self) -> int:
        """Count the requests that are being answered."""
        return sum(replica.in_flight for replica in self.replicas.all)

    @asynccontextmanager
    async def ask(
        self, method: str, path: str, headers: Headers, body: bytes | None, *, arm: Arm | None = None
    ) -> AsyncIterator[Reply]:
        """Ask a replica; another one, or the same once more, when none of the answer had come.

        The last replica's own refusal is given as it is. While two versions serve, `arm` says which replicas may be
        asked, and learns which one answered.

        Raises:
            ApiError: 503 when no replica can be asked or reached, 504 when one went silent.
        """
        tried: list[Replica] = []
        problem = ""
        fails = self._fails(path)
        self.replicas.turn += 1
        for attempt in range(MOST_TRIES):
            replica = self._choose(tried, arm)
            if replica is None:
                break
            tried.append(replica)
            if attempt:
                self._retried()
            last = attempt + 1 == MOST_TRIES or self._choose(tried, arm, look=True) is None
            try:
                async with self._one(replica, method, path, headers, body, fails) as reply:
                    if reply.status in fails and (reply.status == FORGOT or not last):
                        problem = f"{replica.url} says {reply.status}"
                        continue
                    if arm is not None:
                        arm.answered_by = replica.url
                    yield reply
                    return
            except AwayError as err:
                problem = f"{replica.url}: {err}"
            except SilentError as err:
                raise ApiError(504, f"{self.spec.name}: {replica.url}: {err}.", type_="server_error",
                               code="timeout") from err  # fmt: skip
        raise self._nobody(problem)

    @asynccontextmanager
    async def _one(
        self, replica: Replica, method: str, path: str, headers: Headers, body: bytes | None, fails: Collection[int]
    ) -> AsyncIterator[Reply]:
        """Ask one replica, and let its breaker know how that went."""
        replica.in_flight += 1
        replica.breaker.begins()
        shown = False
        try:
            async with self._client.send(method, replica.url + path, headers, body, self.limits) as reply:
                shown = True
                if reply.status in fails:
                    replica.breaker.failed(time.monotonic())
                else:
                    replica.breaker.succeeded()
                yield reply
        except (AwayError, SilentError):
            shown = True
            replica.breaker.failed(time.monotonic())
            raise
        finally:
            replica.in_flight -= 1
            if not shown:
                replica.breaker.abandoned()

    def _fails(self, path: str) -> Collection[int]:
        """Say which answers are a replica's failure and not its word on the request."""
        names_version = self.limits.swap == "adapters" and path.partition("?")[0] in (COMPLETIONS, CHAT)
        return CANNOT_NOW | {FORGOT} if names_version else CANNOT_NOW

    def _choose(self, tried: list[Replica], arm: Arm | None, *, look: bool = False) -> Replica | None:
        """Choose a replica that was not tried; of a single one also the same once more, whose connection was old.

        A challenger's user whose replicas are all away is answered by one of the champion's.
        """
        now = time.monotonic()
        chosen = self.replicas.pick(now, tried, arm.urls if arm is not None else None)
        if chosen is None and arm is not None and arm.instead:
            return self.replicas.pick(now, tried, arm.instead)
        if chosen is not None or len(tried) != 1 or look:
            return chosen
        return tried[0] if tried[0].breaker.may(now) else None

    def _nobody(self, problem: str) -> ApiError:
        name = self.spec.name
        if not self.replicas.all:
            return not_ready(f"{name} has no server behind the gateway; name some as serving.replicas in its YAML")
        count = len(self.replicas.all)
        error = not_ready(f"none of {name}'s {count} replicas answers{f' ({problem})' if problem else ''}")
        error.retry_after = max(1, math.ceil(self.replicas.rest(time.monotonic())))
        return error
