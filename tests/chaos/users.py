"""Users of a model during a chaos run, who remember when a request of theirs was not answered, and why."""

import time
from dataclasses import dataclass, field

import httpx

from ops.demo.traffic import REFERENCE_DELAY_SECONDS, Traffic
from tests.chaos.watching import Answered
from training.data.training_text import Passage


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without an answer; times are `time.monotonic()`."""

    path: str
    began: float
    ended: float
    why: str


@dataclass
class Outages:
    """When a component was away because of what was done to it."""

    ended: list[tuple[float, float]] = field(default_factory=list)
    since: float | None = None

    def begin(self) -> None:
        """It is attacked now."""
        self.since = self.since if self.since is not None else time.monotonic()

    def end(self) -> None:
        """It works again."""
        if self.since is not None:
            self.ended.append((self.since, time.monotonic()))
            self.since = None

    def excuse(self, failure: Failure) -> bool:
        """Say whether a request overlapped with one of them."""
        spans = [*self.ended, *([(self.since, float("inf"))] if self.since is not None else [])]
        return any(failure.began <= end and failure.ended >= begin for begin, end in spans)


class Users(Traffic):
    """The demo's traffic, with a record of what failed."""

    failures: list[Failure]
    requests: list[Answered]

    def __init__(self, *, url: str, model: str, per_second: float, seed: int) -> None:
        super().__init__(url=url, model=model, per_second=per_second, seed=seed)
        self.failures = []
        self.requests = []

    def _ask(self, passage: Passage, user: str, session: str) -> None:
        request = {"model": self.model, "prompt": passage.prompt, "max_tokens": 8, "user": user, "session_id": session}
        try:
            answer = self._post("/v1/completions", request)
            if answer is None:
                return
            self.requests.append(Answered(self.model, answer["id"], time.monotonic()))
            self._stop.wait(REFERENCE_DELAY_SECONDS)
            told = {"model": self.model, "request_id": answer["id"], "reference": passage.continuation}
            self._post("/v1/feedback", told)
            self.counts.answered += 1
        finally:
            self._idle.release()

    def _post(self, path: str, content: dict) -> dict | None:
        began = time.monotonic()
        try:
            return self._client.post(path, json=content).raise_for_status().json()
        except httpx.HTTPError as err:
            self.counts.failed += 1
            self.failures.append(Failure(path, began, time.monotonic(), f"{type(err).__name__}: {err}"))
            return None
