"""The command line names the next automatic action, by the same function as the page."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert
from typer.testing import CliRunner

from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store import tables
from ops.cli.main import app
from ops.cli.shared import tables as printed
from tests.ops.page.page_data import describe


@pytest.fixture
def run(home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch):
    """The command line on a fresh database with one model."""
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", database_url)
    monkeypatch.setattr(printed.console, "width", 200)
    settings.cache_clear()
    describe(home / "models", "m", "x")

    def command(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == 0, result.output
        return " ".join(result.stdout.split())

    return command


def opened(engine: Engine) -> int:
    incident, _ = Ledger(engine).open_incident(
        "m", signal="loss", degraded_since=datetime(2026, 5, 1, tzinfo=UTC), reason="r", evidence={}, actor="t"
    )
    return incident.id


def test_without_an_incident_the_next_window_is_judged(run):
    """`status` says so as JSON and with `--wide`, with the end of that window; the short form keeps to its one line."""
    before = datetime.now(UTC)
    found = json.loads(run("status", "--json"))["models"]["m"]
    assert (found["next"]["action"], found["next"]["why"]) == ("judge the next window", "no incident is open")
    at = datetime.fromisoformat(found["next"]["at"])
    assert before < at <= datetime.now(UTC) + timedelta(hours=1)
    assert "judge the next window" in run("status", "--wide")
    assert "judge the next window" not in run("status")


def test_an_open_incident_s_next_step_is_named(run, engine):
    """`status` and `incident show` name it; a pause puts its end in its place."""
    number = opened(engine)
    assert json.loads(run("status", "--json"))["models"]["m"]["next"]["action"] == "look again (triage)"
    assert "look again (triage)" in run("status")
    assert "next look again (triage), 20" in run("incident", "show", str(number))
    until = datetime.now(UTC) + timedelta(hours=5)
    with engine.begin() as on:
        on.execute(insert(tables.pause).values(model="m", reason="r", actor="a", until=until))
    found = json.loads(run("status", "--json"))["models"]["m"]
    assert found["paused_until"] == found["next"]["at"] == until.isoformat()
    assert f"paused until {until:%Y-%m-%dT%H:%M}" in run("status")
    assert "nothing while it is paused" in run("incident", "show", str(number))
    assert "then: look again (triage)" in run("incident", "show", str(number))
