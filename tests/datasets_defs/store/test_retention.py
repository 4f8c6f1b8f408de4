"""What is past its time goes from every table, in batches, and what is in use stays; on real tables."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, insert, select

from datasets_defs.core.incidents import State
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store import retention, tables
from datasets_defs.store.places import place
from datasets_defs.store.retention import drop_old, versions_in_use
from datasets_defs.store.versions import note_version

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
PROFILE = {"uri": "u", "sha256": "s", "rows": 1, "source": "t"}
DRIFT = {"revision": 1, "source": "t", "rows": 1, "encoding": "e", "content": b""}
LABEL = {"label": "l", "window_start": NOW, "window_end": NOW, "labels": 1, "total": 1.0, "squares": 1.0, "icc": 0.0}


def age(name: str, *, past: bool) -> datetime:
    """Give a time at which a row is just past its limit, or just within it."""
    return NOW - place(name).age + timedelta(seconds=-1 if past else 1)


def fill(db: Engine, *, past: bool) -> None:
    """Put a row into each table that goes by time alone."""
    name = "past" if past else "within"
    end = age("verdict", past=past)
    rows = {
        tables.feedback: {"model": "m", "request_id": name, "score": 1.0, "received_at": age("feedback", past=past)},
        tables.shadow_score: {
            "model": "m", "champion_version": 2, "request_id": name, "previous_version": 1, "bytes": 1,
            "champion_bits": 1.0, "previous_bits": 1.0, "at": age("shadow_score", past=past)},
        tables.quarantined_row: {
            "model": "m", "source": name, "row_number": 1, "reason": "r", "at": age("quarantined_row", past=past)},
        tables.verdict: {
            "model": "m", "signal": name, "window_start": end - timedelta(hours=1), "window_end": end,
            "condition": "OK", "reason": "r", "method": "t"},
        tables.gpu_charge: {"key": name, "model": "m", "gpu_hours": 1.0, "at": age("gpu_charge", past=past)},
        tables.alert_outbox: {
            "key": name, "model": "m", "severity": "info", "text": "t", "blocks": [],
            "sent_at": age("alert_outbox", past=past)},
        tables.heartbeat: {"component": name, "at": age("heartbeat", past=past)},
    }  # fmt: skip
    with db.begin() as on:
        for table, values in rows.items():
            on.execute(insert(table).values(values))


def counts(db: Engine) -> dict[str, int]:
    """Count the rows of the tables that have some."""
    with db.connect() as on:
        found = {
            name: on.scalar(select(func.count()).select_from(each)) for name, each in tables.metadata.tables.items()
        }
    return {name: int(count) for name, count in found.items() if count}


@pytest.mark.parametrize("batch", [2, 3, 20_000])
def test_what_is_past_its_time_goes(engine: Engine, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    """One row of each table goes and one stays, however few a statement takes; doing it again deletes nothing."""
    monkeypatch.setattr(retention, "BATCH", batch)
    for past in (True, False):
        fill(engine, past=past)
    with engine.begin() as on:
        on.execute(insert(tables.feedback), [
            {"model": "m", "request_id": f"{number}", "score": 0.5, "received_at": NOW - timedelta(days=400)}
            for number in range(7)])  # fmt: skip
    gone = drop_old(engine, NOW)
    expected = {"shadow_score", "quarantined_row", "verdict", "gpu_charge", "alert_outbox", "heartbeat"}
    assert {name: count for name, count in gone.items() if count} == {**dict.fromkeys(expected, 1), "feedback": 8}
    left = counts(engine)
    assert {name: left[name] for name in expected} == dict.fromkeys(expected, 1)
    assert not any(drop_old(engine, NOW).values())


def test_the_base_of_an_adapter_in_use_is_in_use(engine: Engine) -> None:
    """A champion that is an adapter needs the weights of its base, however long that has not served."""
    note_version(engine, "m", 1, "1" * 64, actor="t")
    note_version(engine, "m", 7, "7" * 64, actor="t", adapter_of=1)
    note_version(engine, "m", 8, "8" * 64, actor="t", adapter_of=2)
    Ledger(engine).change_champion("m", expected=None, to=7, kind="bootstrap", reason="r", actor="t")
    assert versions_in_use(engine) == {("m", 1), ("m", 7)}


def test_what_is_in_use_stays(engine: Engine, home: Path) -> None:
    """References and profiles of champion, previous champion, challenger and counted windows outlast the limit."""
    ledger, old = Ledger(engine), NOW - timedelta(days=1_000)
    for version in (2, 3):
        served = ledger.champion("m")
        ledger.change_champion(
            "m", expected=served.version if served else None, to=version, kind="promote", reason="r", actor="t"
        )
    incident, _ = ledger.open_incident("m", signal="loss", degraded_since=NOW, reason="r", evidence={}, actor="t")
    ledger.move(incident, State.OPEN, actor="t", reason="r", challenger_version=4)
    with engine.begin() as on:
        for version in (1, 2, 3, 4, 5):
            of = {"model": "m", "version": version, "created_at": old}
            on.execute(insert(tables.reference_profile).values({**of, **PROFILE}))
            on.execute(insert(tables.drift_profile).values({**of, **DRIFT}))
            on.execute(insert(tables.label_reference).values({**of, **LABEL}))
        counted = {"model": "m", "version": 5, "window_start": NOW, "window_end": NOW, "encoding": "e", "rows": 1}
        on.execute(insert(tables.window_sketch).values({**counted, "content": b"", "judged": True}))
    assert versions_in_use(engine) == {("m", 2), ("m", 3), ("m", 4)}
    gone = drop_old(engine, NOW)
    assert {name: count for name, count in gone.items() if count} == {
        "reference_profile": 1, "drift_profile": 1, "label_reference": 1
    }  # fmt: skip
    with engine.connect() as on:
        assert set(on.scalars(select(tables.drift_profile.c.version))) == {2, 3, 4, 5}


def test_messages_of_an_open_incident_stay(engine: Engine) -> None:
    """Its first message is the thread of the next ones; nor is an unsent one dropped, or which events were told."""
    incident, _ = Ledger(engine).open_incident(
        "m", signal="loss", degraded_since=NOW, reason="r", evidence={}, actor="t"
    )
    old = NOW - timedelta(days=1_000)
    message = {"model": "m", "severity": "info", "text": "t", "blocks": [], "created_at": old}
    with engine.begin() as on:
        on.execute(
            insert(tables.alert_outbox).values({**message, "key": "1", "sent_at": old, "incident_id": incident.id})
        )
        on.execute(insert(tables.alert_outbox).values({**message, "key": "2", "sent_at": None}))
        on.execute(insert(tables.heartbeat).values(component="alerts:cursor", at=old, details={"event_id": 7}))
    dropped = drop_old(engine, NOW)
    assert (dropped["alert_outbox"], dropped["heartbeat"]) == (0, 0)
    Ledger(engine).move(incident, State.RESOLVED, actor="t", reason="r")
    assert drop_old(engine, NOW)["alert_outbox"] == 1
