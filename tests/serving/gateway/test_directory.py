"""Which version a gateway says has answered: what the server confirmed where it can speak, else the ledger's word."""

import httpx

from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.retiring import bring_back, retire
from datasets_defs.store.database import engine_for
from datasets_defs.store.heartbeats import beat
from serving.gateway.directory import Directory
from serving.gateway.doorkeeper import Doorkeeper
from tests.waiting import wait_for


def promote(engine, to, expected):
    kind = "promote" if expected else "bootstrap"
    Ledger(engine).change_champion("writer", expected=expected, to=to, kind=kind, reason="test", actor="test")


def test_a_server_that_cannot_speak(engine):
    """Of a server that says nothing the version is the ledger's, whatever an old heartbeat tells."""
    beat(engine, "serving:writer", {"loaded_version": 7})
    directory = Directory(engine, Doorkeeper())
    directory.read()
    assert directory.version("writer") is None
    promote(engine, 1, None)
    directory.read()
    assert directory.version("writer") == 1


def test_a_server_that_speaks(engine):
    """Between a change of champion and the server's word the former version answers; a failed load changes nothing."""
    directory = Directory(engine, Doorkeeper(), speaking=["writer"])
    promote(engine, 1, None)
    directory.read()
    assert directory.version("writer") == 1  # nothing said yet: the ledger's
    beat(engine, "serving:writer", {"loaded_version": 1})
    promote(engine, 2, 1)
    directory.read()
    assert directory.version("writer") == 1
    beat(engine, "serving:writer", {"loaded_version": None, "load_error": "broken"})
    directory.read()
    assert directory.version("writer") == 1
    beat(engine, "serving:writer", {"loaded_version": 2})
    directory.read()
    assert directory.version("writer") == 2


def test_the_last_word_holds(engine):
    """While PostgreSQL is away versions and keys stay as they were, and why and since when is said."""
    keeper = Doorkeeper()
    directory = Directory(engine, keeper)
    promote(engine, 1, None)
    directory.read()
    assert directory.problem is None
    directory._ledger = Ledger(engine_for("postgresql://nobody@127.0.0.1:1/nothing"))
    directory.read()
    assert (directory.version("writer"), keeper.keys) == (1, {})
    assert "not reachable" in directory.problem
    assert directory.age() >= 0


def test_a_retired_model_answers_nobody_once_its_route_is_closed(run_gateway, engine):
    """With its route kept it goes on answering; closed it is unknown, with the reason, until it is brought back."""
    running = run_gateway(1)
    running.promote(1, None)
    ledger, body = Ledger(engine), {"model": "writer", "prompt": "hello"}

    def answer() -> tuple[int, str]:
        said = httpx.post(f"{running.url}/v1/completions", json=body, timeout=20)
        return said.status_code, said.json().get("error", {}).get("message", "")

    def listed() -> list[str]:
        return [each["id"] for each in httpx.get(f"{running.url}/v1/models", timeout=20).json()["data"]]

    words = {"drops_aliases": False, "actor": "cli:ann", "reason": "nobody asks"}
    retire(ledger, "writer", closes_route=False, **words)
    running.gateway.directory.read()
    assert (answer()[0], listed()) == (200, ["writer"])
    retire(ledger, "writer", closes_route=True, **words)
    wait_for(lambda: answer()[0] == 404)
    assert "'writer' was retired on" in answer()[1]
    assert (listed(), httpx.get(f"{running.url}/v1/models/writer", timeout=20).status_code) == ([], 404)
    bring_back(ledger, "writer", actor="cli:ann", reason="wanted again")
    wait_for(lambda: answer()[0] == 200)
    assert listed() == ["writer"]
