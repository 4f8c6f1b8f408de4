"""Traffic as users would send it: prompts to the gateway, and a little later what a person wrote instead."""

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from training.data.training_text import Passage

REFERENCE_DELAY_SECONDS = 2.0
"""How long after the answer the reference arrives."""
USERS = 40
"""Who ask side by side, more than usually wait or write; when all are busy nobody asks, and no old text queues up."""


@dataclass(slots=True)
class Counts:
    """What the traffic met."""

    answered: int = 0
    failed: int = 0
    """Requests that serving did not answer; a person would try again."""
    why: str = ""
    """What was wrong with the last of them."""


class Traffic:
    """Sends passages of one domain at a steady rate until stopped; the domain can be changed while it runs."""

    def __init__(self, *, url: str, model: str, per_second: float, seed: int) -> None:
        self.url = url
        self.model = model
        self.pause = 1 / per_second
        self.counts = Counts()
        self._random = random.Random(seed)  # noqa: S311 which passage, not a secret
        self._passages: list[Passage] = []
        self._stop = threading.Event()
        self._idle = threading.Semaphore(USERS)
        self._thread = threading.Thread(target=self._run, name="demo traffic", daemon=True)
        self._client = httpx.Client(base_url=url, timeout=30)

    def switch_to(self, passages: list[Passage]) -> None:
        """Send these passages, in random order, from now on."""
        self._passages = passages

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait until what was sent has been answered."""
        self._stop.set()
        self._thread.join(timeout=60)
        self._client.close()

    def _run(self) -> None:
        with ThreadPoolExecutor(max_workers=USERS, thread_name_prefix="demo user") as users:
            due = time.monotonic()
            for number in self._numbers():
                self._idle.acquire()
                passage = self._random.choice(self._passages)
                users.submit(self._ask, passage, f"user-{number % 40}", f"session-{number // 5}")
                due = max(due + self.pause, time.monotonic() - 1)
                self._stop.wait(max(0.0, due - time.monotonic()))

    def _numbers(self) -> Iterator[int]:
        number = 0
        while not self._stop.is_set():
            yield number
            number += 1

    def _ask(self, passage: Passage, user: str, session: str) -> None:
        request = {
            "model": self.model,
            "prompt": passage.prompt,
            "max_tokens": 16,
            "temperature": 0.8,
            "user": user,
            "session_id": session,
        }
        try:
            answer = self._client.post("/v1/completions", json=request).raise_for_status().json()
            self._stop.wait(REFERENCE_DELAY_SECONDS)
            feedback = {"model": self.model, "request_id": answer["id"], "reference": passage.continuation}
            self._client.post("/v1/feedback", json=feedback).raise_for_status()
            self.counts.answered += 1
        except httpx.HTTPError as err:
            self.counts.failed += 1
            reason = err.response.text if isinstance(err, httpx.HTTPStatusError) else repr(err)
            self.counts.why = f"{err.request.url.path}: {reason}"
        finally:
            self._idle.release()
