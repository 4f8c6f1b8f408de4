"""The loop's own metrics, read from a real database and served for real."""

import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from datasets_defs.core.conditions import Condition
from datasets_defs.core.incidents import TERMINAL, State
from datasets_defs.store.database import engine_for
from datasets_defs.store.heartbeats import beat
from monitors.exporter import LoopCollector
from ops.stack.ports import free_port
from tests.monitors.loop import MODEL, Loop
from tests.waiting import wait_for


def registry_of(loop: Loop) -> CollectorRegistry:
    """A registry with the loop's collector."""
    registry = CollectorRegistry()
    registry.register(LoopCollector(loop.db))
    return registry


def test_what_is_told(loop: Loop) -> None:
    """Verdicts, incident, champion, heartbeats, messages and rows come out as they stand in the database."""
    loop.champion(1)
    loop.champion(2, kind="promote")
    newest = (datetime.now(UTC) - loop.window(0).start) // loop.length - 1
    loop.verdict(newest, "drift", Condition.BAD, score=7.2, limit=4.94, evidence={"drift_share": 0.25})
    known = {"window_bits_per_byte": 3.5, "loss_ratio_at_least": 1.04}
    loop.verdict(newest, "loss", Condition.WARN, score=1.1, limit=1.02, evidence=known)
    loop.ledger.open_incident(
        MODEL, signal="drift", degraded_since=loop.window(1).start, reason="r", evidence={}, actor="t"
    )
    beat(loop.db, f"watch_drift:{MODEL}")
    beat(loop.db, "serving:a-model-that-is-gone")
    with loop.db.begin() as on:
        on.execute(
            text("INSERT INTO alert_outbox (key, model, severity, text, blocks) VALUES ('k', 'm', 'info', 't', '[]')")
        )
    registry = registry_of(loop)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"driftloop_{name}", labels)

    assert value("database_up") == 1
    assert {c: value("condition", model=MODEL, signal="drift", condition=c) for c in Condition} == {
        c: float(c is Condition.BAD) for c in Condition
    }
    assert value("drift_evidence_log10", model=MODEL) == value("signal_score", model=MODEL, signal="drift") == 7.2
    assert value("drift_share_ratio", model=MODEL) == 0.25
    assert value("signal_limit", model=MODEL, signal="drift") == 4.94
    assert value("loss_ratio", model=MODEL) == 1.1
    assert value("loss_ratio_at_least", model=MODEL) == 1.04
    assert value("prompt_bits_per_byte", model=MODEL) == 3.5
    assert {s: value("incident_open", model=MODEL, state=s) for s in State if s not in TERMINAL} == {
        s: float(s is State.OPEN) for s in State if s not in TERMINAL
    }
    assert value("incidents_total", model=MODEL) == 1
    assert value("incident_by_hand", model=MODEL) == 0
    assert value("champion_version", model=MODEL) == 2
    assert value("champion_changes_total", model=MODEL, kind="promote") == 1
    assert value("champion_changes_total", model=MODEL, kind="roll_back") == 0
    assert (value("heartbeat_age_seconds", component=f"watch_drift:{MODEL}") or 99) < 60
    assert value("heartbeat_age_seconds", component="serving:a-model-that-is-gone") is None
    assert (value("alerts_waiting"), value("alerts_stuck")) == (1, 0)
    assert value("inference_rows", model=MODEL) == 0


def test_a_training_at_work(loop: Loop) -> None:
    """A running training is told of; one that has ended or says nothing any more is not; none has a heartbeat's age."""
    registry = registry_of(loop)
    said = {"at_work": True, "step": 3, "steps": 9, "loss": 2.5, "tokens_per_second": 800.0}
    beat(loop.db, f"training:{MODEL}", said | {"validation_bits_per_byte": None, "elapsed_seconds": 7.0})
    beat(loop.db, "training:a-model-that-is-gone", said)

    def value(name: str) -> float | None:
        return registry.get_sample_value(f"driftloop_training_{name}", {"model": MODEL})

    assert [value(name) for name in ("step", "steps", "loss", "tokens_per_second")] == [3, 9, 2.5, 800]
    assert math.isnan(value("validation_bits_per_byte") or 0)
    component = {"component": f"training:{MODEL}"}
    assert registry.get_sample_value("driftloop_heartbeat_age_seconds", component) is None
    assert registry.get_sample_value("driftloop_training_step", {"model": "a-model-that-is-gone"}) is None
    with loop.db.begin() as on:
        on.execute(text("UPDATE heartbeat SET at = at - interval '6 minutes'"))
    assert value("step") is None
    beat(loop.db, f"training:{MODEL}", said | {"at_work": False})
    assert value("step") is None


def test_a_training_that_stands_still(loop: Loop) -> None:
    """How long it took no step is told of a training that an incident waits for and that has begun, and of no other."""
    registry = registry_of(loop)
    incident, _ = loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(1).start, reason="r", evidence={}, actor="t"
    )
    said = {"attempt": f"incident-{incident.id}-attempt-1", "at_work": True, "step": 3, "steps": 9}

    def idle(**changes: object) -> float | None:
        beat(loop.db, f"training:{MODEL}", said | changes)
        with loop.db.begin() as on:
            on.execute(text("UPDATE heartbeat SET at = at - interval '20 minutes'"))
        return registry.get_sample_value("driftloop_training_idle_seconds", {"model": MODEL})

    assert idle() is None
    claim = loop.ledger.claim(
        loop.ledger.ring(incident.id), frm={State.OPEN}, to=State.RETRAINING, actor="retrain:1",
        lease=timedelta(hours=1), reason="r",
    )  # fmt: skip
    assert 1200 <= (idle() or 0) < 1300
    assert idle(at_work=False) is None
    assert idle(attempt="by-hand-since-then") is None
    assert idle(attempt=f"incident-{incident.id}-attempt-0") is None
    assert claim.incident is not None
    loop.ledger.move(claim.incident, State.RETRAINING, actor="retrain:1", reason="made", challenger_version=2)
    assert idle() is None


def test_messages_that_cannot_be_sent_are_told(loop: Loop) -> None:
    """A message that was tried and is old is stuck; a new one, or one that was never tried, only waits."""
    with loop.db.begin() as on:
        for key, attempts, minutes in (("a", 1, 40), ("b", 1, 10), ("c", 0, 40)):
            on.execute(
                text(
                    "INSERT INTO alert_outbox (key, model, severity, text, blocks, attempts, created_at) "
                    "VALUES (:key, 'm', 'info', 't', '{}', :attempts, now() - make_interval(mins => :minutes))"
                ),
                {"key": key, "attempts": attempts, "minutes": minutes},
            )
    registry = registry_of(loop)
    found = [registry.get_sample_value(f"driftloop_alerts_{name}") for name in ("waiting", "stuck")]
    assert found == [3, 1]


def newest_window(loop: Loop) -> int:
    """The number of the newest window that has ended."""
    return (datetime.now(UTC) - loop.window(0).start) // loop.length - 1


def test_unknown_is_not_a_number(loop: Loop) -> None:
    """Figures of a window that could not be judged, or of one long ago, are NaN, never the last good ones."""
    said = {"drift_share": 0.25, "loss_ratio_at_least": 1.04, "window_bits_per_byte": 3.5}
    newest = newest_window(loop)
    loop.verdict(newest, "drift", Condition.NO_DATA, evidence=said)
    loop.verdict(newest - 9, "loss", Condition.BAD, score=1.5, evidence=said)
    registry = registry_of(loop)
    for name in (
        "drift_evidence_log10", "drift_share_ratio", "loss_ratio", "loss_ratio_at_least", "prompt_bits_per_byte",
    ):  # fmt: skip
        found = registry.get_sample_value(f"driftloop_{name}", {"model": MODEL})
        assert found is not None, name
        assert math.isnan(found), name


def test_share_of_the_report(loop: Loop) -> None:
    """The drift share is read from Evidently's report on the window; one on another window does not count."""
    newest = newest_window(loop)
    share = {"model": MODEL}
    loop.verdict(newest - 1, "drift_report", Condition.OK, score=0.75)
    loop.verdict(newest, "drift", Condition.WARN, score=3.0, evidence={"drift_share": 0.25})
    assert registry_of(loop).get_sample_value("driftloop_drift_share_ratio", share) == 0.25
    loop.verdict(newest, "drift_report", Condition.WARN, score=0.5)
    registry = registry_of(loop)
    assert registry.get_sample_value("driftloop_drift_share_ratio", share) == 0.5
    assert registry.get_sample_value("driftloop_signal_score", {**share, "signal": "drift_report"}) == 0.5


def test_an_old_report_is_no_blindness(loop: Loop) -> None:
    """A report of long ago is not shown at all: the spec may want few of them."""
    loop.verdict(newest_window(loop) - 9, "drift_report", Condition.WARN, score=0.5)
    loop.verdict(newest_window(loop) - 9, "drift", Condition.OK, score=0.5)
    registry = registry_of(loop)
    stale = {"model": MODEL, "condition": "STALE"}
    assert registry.get_sample_value("driftloop_condition", {**stale, "signal": "drift"}) == 1
    assert registry.get_sample_value("driftloop_condition", {**stale, "signal": "drift_report"}) is None


def test_rows_of_the_newest_window(loop: Loop) -> None:
    """The row count is that of the newest window that has ended."""
    until = datetime.now(UTC)
    number = (until - loop.window(0).start) // loop.length - 1
    while loop.until(number) > until:
        number -= 1
    loop.traffic(number, ("a",) * 7)
    assert registry_of(loop).get_sample_value("driftloop_inference_rows", {"model": MODEL}) == 7


def test_database_away(loop: Loop) -> None:
    """Without the database the exporter says so, and gives nothing that might be taken for health."""
    collector = LoopCollector(engine_for(f"postgresql://x:y@127.0.0.1:{free_port()}/none"))
    families = {family.name: family for family in collector.collect()}
    assert set(families) == {"driftloop_database_up", "driftloop_exporter_last_success_timestamp_seconds"}
    assert families["driftloop_database_up"].samples[0].value == 0


def test_empty_database(loop: Loop) -> None:
    """Before the first champion and verdict there are zeros, no errors."""
    registry = registry_of(loop)
    assert registry.get_sample_value("driftloop_database_up") == 1
    assert registry.get_sample_value("driftloop_incidents_total", {"model": MODEL}) == 0


def test_served(loop: Loop, database_url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m monitors.exporter` answers on loopback, and says what the database says at that moment."""
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", database_url)
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "monitors.exporter", "--port", str(port)], cwd=home)
    try:
        page = _page(f"http://127.0.0.1:{port}/metrics")
        assert "driftloop_database_up 1.0" in page
        assert f'driftloop_incidents_total{{model="{MODEL}"}} 0.0' in page
    finally:
        process.terminate()
        process.wait(20)


def _page(url: str) -> str:
    return wait_for(lambda: httpx.get(url).text, "the exporter answers", forgive=(httpx.HTTPError,))
