"""The dry run of the sensors, on a real database: it says what they would say, and leaves no trace."""

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import InternalError

from datasets_defs.core.incidents import Action
from datasets_defs.store import tables
from datasets_defs.store.heartbeats import beat
from monitors.dry_run import Check, check
from monitors.prometheus.client import PrometheusClient
from monitors.watch_drift import watch
from ops.stack.ports import free_port
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation, licences

OLD, NEW = documentation(), licences()


def trace(loop: Loop) -> tuple[dict[str, list[Any]], list[str]]:
    """Read everything that the loop keeps: all rows of all tables, and all files."""
    with loop.db.connect() as on:
        rows = {
            name: [tuple(row) for row in on.execute(select(table))] for name, table in tables.metadata.tables.items()
        }
    return rows, sorted(str(path) for path in loop.home.rglob("*"))


def tried(loop: Loop, number: int) -> tuple[Check, dict[str, str]]:
    """Check one window, and that nothing was written; give the conditions by signal, too."""
    before = trace(loop)
    found = check(
        MODEL, until=loop.until(number), db=loop.db, prometheus=PrometheusClient(f"http://127.0.0.1:{free_port()}")
    )
    assert trace(loop) == before
    return found, {each.signal: str(each.condition) for each in found.verdicts}


def test_a_shift(loop: Loop) -> None:
    """A shift is judged as the sensor judges it, confirmed by the verdicts before, and triaged; nothing is written."""
    loop.spec(quality=[{"name": "a", "promql": "x", "bad": 1}], gpu="dcgm")
    loop.champion()
    loop.reference(OLD[:400])
    for number in (1, 2):
        loop.traffic(number, NEW[100 * number : 100 * number + 100], loss=4.5)
    found, conditions = tried(loop, 1)
    assert {name: conditions[name] for name in ("data", "drift", "loss")} == {
        "data": "OK", "drift": "BAD", "loss": "BAD",
    }  # fmt: skip
    assert (conditions["quality:a"], conditions["gpu:xid_errors"]) == ("NO_DATA", "NO_DATA")
    assert found.decision is not None
    assert (found.decision.action, found.confirmed, found.incident_id) == (Action.RETRAIN, frozenset(), None)
    watch(MODEL, until=loop.until(1), db=loop.db, actor="test")
    found, _ = tried(loop, 2)
    assert (found.window, found.confirmed) == (loop.window(2), {"drift", "loss"})
    watch(MODEL, until=loop.until(2), db=loop.db, actor="test")
    found, _ = tried(loop, 2)
    assert found.incident_id == 1


def test_no_reference_is_made(loop: Loop) -> None:
    """With rows enough for a reference, none is made."""
    loop.champion()
    loop.traffic(1, OLD[:600])
    found, conditions = tried(loop, 1)
    assert set(conditions.values()) == {"NO_DATA"}
    assert found.decision is None
    watch(MODEL, until=loop.until(1), db=loop.db, actor="test")
    loop.traffic(2, OLD[600:700])
    assert tried(loop, 2)[1] == {"data": "OK", "drift": "OK", "loss": "OK"}


def test_no_champion(loop: Loop) -> None:
    """A model that nothing serves yet cannot be judged, and triage has nothing to say."""
    found, conditions = tried(loop, 1)
    assert (found.champion_version, set(conditions.values()), found.decision) == (None, {"NO_DATA"}, None)


def test_the_database_would_refuse(loop: Loop) -> None:
    """The transactions that the dry run uses cannot write, and the engine it was given still can."""
    with pytest.raises(InternalError, match="read-only"):
        beat(loop.db.execution_options(postgresql_readonly=True), "x")
    beat(loop.db, "x")
