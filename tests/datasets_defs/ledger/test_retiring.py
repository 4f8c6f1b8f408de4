"""Retiring a model, killed anywhere and done again, is done once."""

import multiprocessing
import os
import signal
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.faults import KILL_AT
from datasets_defs.core.incidents import State
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.retirements import retirement_of
from datasets_defs.ledger.retiring import bring_back, retire
from datasets_defs.store.database import engine_for

MODEL = "writer"


def act(name: str, url: str, kill_at: str) -> None:
    os.environ[KILL_AT] = kill_at
    ledger = Ledger(engine_for(url))
    if name == "retire":
        retire(ledger, MODEL, closes_route=True, drops_aliases=False, actor="cli:ann", reason="r")
    else:
        bring_back(ledger, MODEL, actor="cli:ann", reason="r")


@pytest.mark.parametrize(
    ("name", "point"),
    [("retire", "retire.writing"), ("retire", "retire.written"), ("bring back", "bring_back.writing")],
)
def test_killed_anywhere_it_is_done_once(engine: Engine, database_url: str, name: str, point: str):
    """A kill in the transaction or after it, then the same again: one event, and the incident ended once."""
    ledger = Ledger(engine)
    ledger.change_champion(MODEL, expected=None, to=1, kind="bootstrap", reason="r", actor="t")
    incident, _ = ledger.open_incident(
        MODEL, signal="loss", degraded_since=datetime.now(UTC), reason="r", evidence={}, actor="t"
    )
    if name == "bring back":
        act("retire", database_url, "")
    for kill_at in (point, ""):
        process = multiprocessing.get_context("spawn").Process(target=act, args=(name, database_url, kill_at))
        process.start()
        process.join(60)
        assert process.exitcode == (-signal.SIGKILL if kill_at else 0)
    kinds = [event.kind for event in ledger.events(MODEL)]
    assert kinds.count(EventKind.RETIRED) == 1
    assert kinds.count(EventKind.BROUGHT_BACK) == (name == "bring back")
    assert (retirement_of(engine, MODEL) is None) == (name == "bring back")
    assert (ledger.incident(incident.id).state, kinds.count(EventKind.MOVED)) == (State.RESOLVED, 1)
    assert ledger.verify(MODEL) == []
