"""A serving process with a model whose words and costs are known, on a real port with a real PostgreSQL."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import uvicorn
from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.model import FromScratch, ModelSpec
from ops.stack.ports import free_port
from serving.app import create_app
from serving.reload import Pace
from serving.service import Service
from tests.waiting import wait_for


@dataclass(frozen=True)
class Cost:
    """A known cost."""

    bits: float
    bytes: int


@dataclass(frozen=True)
class Said:
    """A known completion."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    prompt_loss: Cost
    completion_loss: Cost | None


@dataclass
class Parrot:
    """Repeats the prompt's end; one token a character, two bits a byte, a context of 100 tokens."""

    version: int = 1
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    held: bool = False
    seen: list[dict] = field(default_factory=list)

    def complete(self, prompt, *, max_tokens, temperature, top_p, seed, stop):
        """Answer with the version and the prompt."""
        self.seen.append({"prompt": prompt, "temperature": temperature, "top_p": top_p, "seed": seed, "stop": stop})
        self.entered.release()
        if self.held:
            assert self.gate.wait(20)
        if len(prompt) + max_tokens > 100:
            raise ContractError(f"prompt has {len(prompt)} tokens and max_tokens is {max_tokens}; the context is 100")
        if prompt == "explode":
            raise ZeroDivisionError("a bug in the model")
        text = f"v{self.version}:{prompt}"[:max_tokens]
        size = len(prompt.encode())
        bits = float("nan") if prompt == "nan" else 2.0 * size
        return Said(text, "length", len(prompt), len(text), Cost(bits, size), Cost(1.0 * len(text), len(text)))


class Shelf:
    """The registry as a dictionary: a version is a parrot, or the error that loading it raises."""

    def __init__(self) -> None:
        self.versions: dict[int, Parrot | Exception] = {1: Parrot(1), 2: Parrot(2)}
        self.fetched: list[int] = []
        """Versions whose load began."""
        self.given: list[int] = []
        """Versions whose load came to its end."""
        self.away = False
        self._gates: dict[int, threading.Event] = {}

    def hold(self, version: int) -> threading.Event:
        """Let the load of a version wait until the event is set."""
        return self._gates.setdefault(version, threading.Event())

    def fetch(self, _model: str, version: int) -> Parrot:
        """Give a version, or fail as told."""
        self.fetched.append(version)
        if self.away:
            raise TransientError("MLflow is not reachable")
        if version in self._gates:
            assert self._gates[version].wait(20)
        found = self.versions[version]
        if isinstance(found, Exception):
            raise found
        self.given.append(version)
        return found


@dataclass
class Running:
    """A running server, and what is behind it."""

    url: str
    service: Service
    shelf: Shelf
    ledger: Ledger
    server: uvicorn.Server

    def promote(self, version: int, expected: int | None, model: str = "writer") -> None:
        """Make a version the champion."""
        kind = "promote" if expected else "bootstrap"
        self.ledger.change_champion(model, expected=expected, to=version, kind=kind, reason="test", actor="test")


def writer_spec(**changes) -> ModelSpec:
    """A served model called `writer`."""
    return ModelSpec(**{"name": "writer", **changes}, base_model=FromScratch(), training_text="builtin:python-docs")


@pytest.fixture
def wait_until() -> Callable[..., object]:
    return wait_for


@pytest.fixture
def make_spec() -> Callable[..., ModelSpec]:
    return writer_spec


@pytest.fixture
def make_parrot() -> type[Parrot]:
    return Parrot


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def run_server(shelf: Shelf, engine: Engine) -> Iterator[Callable[..., Running]]:
    """Start servers on free ports; they are stopped at the end, before their database goes (hence `engine`)."""
    started: list[tuple[uvicorn.Server, threading.Thread]] = []

    def run(engine: Engine, names: tuple[str, ...] = ("writer",)) -> Running:
        pace = Pace(poll=0.05, beat=0.1, retry_away=0.1, retry_broken=0.2)
        service = Service(engine, {name: writer_spec(name=name) for name in names}, shelf.fetch, pace=pace)
        port = free_port()
        server = uvicorn.Server(uvicorn.Config(create_app(service), port=port, log_level="error", access_log=False))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        started.append((server, thread))
        wait_for(lambda: server.started)
        return Running(f"http://127.0.0.1:{port}", service, shelf, Ledger(engine), server)

    yield run
    for server, thread in started:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def running(run_server: Callable[..., Running], engine: Engine) -> Running:
    """A server whose first champion is loaded."""
    server = run_server(engine)
    server.promote(1, None)
    wait_for(lambda: server.service.models["writer"].version == 1)
    return server
