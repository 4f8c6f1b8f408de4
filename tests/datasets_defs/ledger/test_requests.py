"""Which incident a run takes up: the event's, the one that it began with, or the one whose step is due."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from datasets_defs.core.conditions import RingKey
from datasets_defs.core.incidents import Incident, State, Wake
from datasets_defs.core.requests import NO_REASON, Request, chosen
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.requests import key_of

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
FIRST = Incident(
    id=1, model="first", state=State.OPEN, signal="drift", opened_at=NOW, updated_at=NOW, degraded_since=NOW
)
SECOND = replace(FIRST, id=2, model="second", state=State.RETRAINING)
HELD = {"claimed_by": "triage:run", "lease_until": NOW + timedelta(hours=1)}
LATER = {"not_before": NOW + timedelta(hours=1)}


def asked(**form: object) -> Request:
    """Give what a person asks for in a form."""
    return Request.of(None, "ann", form)


def test_a_form_is_read() -> None:
    """Empty fields are none, and a person's name says where they acted."""
    request = asked(model="", reason=None, version=3)
    assert (request.who, request.model, request.version, request.reason) == ("airflow:ann", None, 3, NO_REASON)


@pytest.mark.parametrize(
    ("wake", "form", "incidents", "expected"),
    [
        pytest.param(Wake.TRIAGE, {}, [FIRST, SECOND], FIRST, id="the one whose step it is"),
        pytest.param(Wake.RETRAIN, {}, [FIRST, SECOND], SECOND, id="and no other"),
        pytest.param(Wake.TRIAGE, {}, [replace(FIRST, rung_at=NOW)], replace(FIRST, rung_at=NOW), id="just rung"),
        pytest.param(Wake.TRIAGE, {"model": "second"}, [SECOND], "incident 2 of second is retraining", id="not its"),
        pytest.param(Wake.TRIAGE, {}, [replace(FIRST, **HELD)], "in the hands of triage:run", id="held"),
        pytest.param(Wake.TRIAGE, {}, [replace(FIRST, **LATER)], "nothing is due here", id="it waits"),
        pytest.param(
            Wake.TRIAGE, {"model": "first"}, [replace(FIRST, **LATER)], replace(FIRST, **LATER), id="a person need not"
        ),
        pytest.param(Wake.TRIAGE, {}, [], "no incident is open, so there is nothing", id="none"),
        pytest.param(Wake.TRIAGE, {"model": "third"}, [FIRST], "no incident of third is open", id="none of the model"),
    ],
)  # fmt: skip
def test_chosen(wake: Wake, form: dict[str, object], incidents: list[Incident], expected: Incident | str) -> None:
    """A run takes the oldest incident whose step is its own; where there is none, the sentence says how all stand."""
    found = chosen(wake, asked(**form), incidents, NOW)
    assert expected in found if isinstance(expected, str) and isinstance(found, str) else found == expected


def test_a_run_keeps_to_its_incident(engine: Engine) -> None:
    """Tried again, or in a later task, a run goes on with what it took up; who asked stands in the history once."""
    ledger = Ledger(engine)
    for model in ("first", "second"):
        ledger.open_incident(model, signal="drift", degraded_since=NOW, reason="r", evidence={}, actor="t")
    request = asked(model="second", reason="the feed is broken")
    run = {"db": engine, "actor": "triage:manual__1"}
    keys = [key_of(request, Wake.TRIAGE, **run), key_of(request, Wake.TRIAGE, **run), key_of(asked(), None, **run)]
    assert [key.model for key in keys if isinstance(key, RingKey)] == ["second"] * 3
    notes = [event for event in ledger.events("second") if event.kind == "note"]
    assert [note.reason for note in notes] == ["asked for by airflow:ann: the feed is broken"]
    assert "took up no incident" in str(key_of(asked(), None, db=engine, actor="triage:manual__2"))


@pytest.mark.parametrize(
    ("key", "said"), [("docs-writer", "expected 'model|incident|ring'"), ("first|4711|1", "first has no incident 4711")]
)
def test_an_event_with_nonsense(engine: Engine, key: str, said: str) -> None:
    """A key that a person made up is answered with a sentence that says what is wrong with it."""
    assert said in str(key_of(Request.of(key, None, None), Wake.TRIAGE, db=engine, actor="triage:1"))
