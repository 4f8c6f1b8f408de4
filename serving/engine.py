"""One worker thread per model: a bounded queue in front of whatever version is loaded."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from datasets_defs.spec.model import ModelSpec
from serving.protocol import CompletionRequest, busy, not_ready

QUEUE_LIMIT = 64


class LossLike(Protocol):
    """Cost of a text: bits, and the UTF-8 bytes it was spread over."""

    @property
    def bits(self) -> float: ...  # noqa: D102  # the class says it
    @property
    def bytes(self) -> int: ...  # noqa: D102


class CompletionLike(Protocol):
    """What a model wrote, and what prompt and completion cost it."""

    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def finish_reason(self) -> str: ...  # noqa: D102
    @property
    def prompt_tokens(self) -> int: ...  # noqa: D102
    @property
    def completion_tokens(self) -> int: ...  # noqa: D102
    @property
    def prompt_loss(self) -> LossLike: ...  # noqa: D102
    @property
    def completion_loss(self) -> LossLike | None: ...  # noqa: D102


class Completer(Protocol):
    """A loaded model; `training.model.language_model.LanguageModel` is one."""

    def complete(
        self, prompt: str, *, max_tokens: int, temperature: float, top_p: float, seed: int | None, stop: list[str]
    ) -> CompletionLike:
        """Continue a prompt."""
        ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version in memory."""

    version: int
    completer: Completer


@dataclass(frozen=True, slots=True)
class ServedCompletion:
    """A completion, and which version wrote it."""

    version: int
    completion: CompletionLike


class ServedModel:
    """A model and its worker. `loaded` may be swapped at any time: a request uses the one it began with."""

    def __init__(self, spec: ModelSpec, *, limit: int = QUEUE_LIMIT) -> None:
        self.spec = spec
        self.loaded: Loaded | None = None
        self.beside: Loaded | None = None
        """A challenger that is rolled out: it answers whoever is sent to its version."""
        self._limit = limit
        self._waiting = 0
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"serve-{spec.name}", initializer=_one_torch_thread)

    @property
    def version(self) -> int | None:
        """The version in memory, if any."""
        loaded = self.loaded
        return loaded.version if loaded else None

    @property
    def queue_length(self) -> int:
        """Requests that wait or are being answered."""
        return self._waiting

    def submit(self, request: CompletionRequest, version: int | None = None) -> Future[ServedCompletion]:
        """Queue a request; the version that it is meant for answers if it is loaded beside the champion.

        Raises:
            ApiError: nothing is loaded yet, or the queue is full.
        """
        if self.loaded is None:
            raise not_ready(f"{self.spec.name} has no champion loaded yet; see /healthz")
        with self._lock:
            if self._waiting >= self._limit:
                raise busy(self.spec.name, self._waiting)
            self._waiting += 1
        try:
            future = self._worker.submit(self._answer, request, version)
        except RuntimeError as err:  # how an executor says that it has been shut down
            self._leave(None)
            raise not_ready("the server is shutting down") from err
        future.add_done_callback(self._leave)
        return future

    def close(self) -> None:
        """Finish what is being answered and refuse the rest."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _answer(self, request: CompletionRequest, version: int | None) -> ServedCompletion:
        beside = self.beside
        loaded = beside if beside is not None and beside.version == version else self.loaded
        if loaded is None:
            raise not_ready(f"{self.spec.name} has no champion loaded")
        completion = loaded.completer.complete(
            request.prompt,
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            stop=request.stops,
        )
        return ServedCompletion(loaded.version, completion)

    def _leave(self, _: object) -> None:
        with self._lock:
            self._waiting -= 1


def _one_torch_thread() -> None:
    import torch

    torch.set_num_threads(1)  # small models are slower on more, and training and Airflow share the cores
