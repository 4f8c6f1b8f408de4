"""Which version a gateway says has answered: what the server confirmed where it can speak, else the ledger's word."""

from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store.database import engine_for
from datasets_defs.store.heartbeats import beat
from serving.gateway.directory import Directory
from serving.gateway.doorkeeper import Doorkeeper


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
