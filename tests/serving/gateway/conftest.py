"""A gateway on a real port, with a real PostgreSQL, before simulated servers on real ports."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import uvicorn
from sqlalchemy import Engine, select

from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.model import FromScratch, ModelSpec
from datasets_defs.store import tables
from ops.stack.ports import free_port
from serving.gateway.app import create_app
from serving.gateway.gateway import Gateway
from tests.serving.gateway.simulated_vllm import SimulatedVllm
from tests.waiting import wait_for


@dataclass
class Server:
    """An application that listens."""

    url: str
    server: uvicorn.Server
    thread: threading.Thread

    def stop(self) -> None:
        """Stop listening; what is in flight gets a while."""
        self.server.should_exit = True
        self.thread.join(20)


@dataclass
class Running:
    """A gateway, and what is behind it."""

    url: str
    gateway: Gateway
    replicas: list[SimulatedVllm]
    servers: list[Server]
    own: Server
    engine: Engine

    def promote(self, version: int, expected: int | None, model: str = "writer") -> None:
        """Make a version the champion, and wait until the gateway knows."""
        kind = "promote" if expected else "bootstrap"
        ledger = Ledger(self.engine)
        ledger.change_champion(model, expected=expected, to=version, kind=kind, reason="test", actor="test")
        wait_for(lambda: self.gateway.directory.version(model) == version)

    def rows(self, count: int) -> list[dict]:
        """Give the log's rows once there are so many."""

        def read() -> list[dict]:
            with self.engine.connect() as on:
                found = on.execute(select(tables.inference).order_by(tables.inference.c.at)).all()
            return [dict(row._mapping) for row in found]

        wait_for(lambda: len(read()) >= count)
        return read()


def writer(urls: tuple[str, ...], **serving) -> ModelSpec:
    """Describe a model called `writer`."""
    section = {"kind": "external", "replicas": urls, "silence_seconds": 20, **serving}
    retrain = {"method": "lora", "lora": {"merge": False}} if serving.get("swap") == "adapters" else {}
    return ModelSpec(
        name="writer", base_model=FromScratch(), training_text="builtin:python-docs", serving=section, retrain=retrain
    )


@pytest.fixture
def listen(engine: Engine) -> Iterator[Callable[..., Server]]:
    """Let applications listen on free ports; they are stopped before their database goes."""
    started: list[Server] = []

    def run(app, port: int | None = None) -> Server:
        port = port or free_port()
        config = uvicorn.Config(app, port=port, log_level="critical", access_log=False, timeout_graceful_shutdown=10)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        started.append(Server(f"http://127.0.0.1:{port}", server, thread))
        wait_for(lambda: server.started)
        return started[-1]

    yield run
    for server in started:
        server.stop()


@pytest.fixture
def run_gateway(listen: Callable[..., Server], engine: Engine) -> Callable[..., Running]:
    """Start a gateway before so many simulated servers."""

    def run(count: int = 1, **serving) -> Running:
        replicas = [SimulatedVllm(name=f"replica-{at}") for at in range(count)]
        servers = [listen(replica) for replica in replicas]
        spec = writer(tuple(server.url for server in servers), **serving)
        gateway = Gateway(engine, {"writer": spec}, poll=0.05)
        own = listen(create_app(gateway))
        return Running(own.url, gateway, replicas, servers, own, engine)

    return run


@pytest.fixture
def running(run_gateway: Callable[..., Running]) -> Running:
    """A gateway before one simulated server."""
    return run_gateway()
