import errno
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import Action, State
from datasets_defs.core.settings import ROOT, settings
from datasets_defs.ledger.ledger import Ledger
from ops.cli import main
from ops.cli.main import app
from ops.cli.watch import status_report
from ops.cli.watch.incident import resolve_by_hand
from ops.stack import health


@pytest.fixture
def console(home: Path, database_url: str, monkeypatch):
    """The command line on a fresh database, with the demo's model described."""
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", database_url)
    settings.cache_clear()
    (home / "models" / "docs-writer.yaml").write_text((ROOT / "models" / "docs-writer.yaml").read_text())

    def run(*arguments: str):
        return CliRunner().invoke(app, list(arguments))

    return run


def opened(engine) -> int:
    incident, _ = Ledger(engine).open_incident(
        "docs-writer",
        signal="drift",
        degraded_since=datetime(2026, 5, 1, tzinfo=UTC),
        reason="6 of 9 columns drifted",
        evidence={"drift_share": 0.67},
        actor="test",
    )
    return incident.id


def test_wrong_specs_are_named_and_fail_the_check(console, home):
    """A good model is listed, a bad one named with its field, and the command fails."""
    (home / "models" / "bad.yaml").write_text("name: bad\nbase_model: x\ntraining_text: y\ndrfit: {}\n")
    result = console("check-models")
    assert result.exit_code == 1
    assert "ok docs-writer" in result.stdout
    assert "drfit" in result.stdout


def test_history_is_json_and_whole(console, engine):
    """The history lists the events in order with their hashes, and says that the chain is whole."""
    opened(engine)
    result = console("history", "docs-writer", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["chain"]) == (0, "ok")
    assert [(event["seq"], event["kind"], event["state"]) for event in found["events"]] == [(1, "opened", "open")]


def test_an_altered_history_is_found(console, engine, owner):
    """Changing a row behind the ledger's back breaks the chain, and `--verify` fails."""
    opened(engine)
    with owner.begin() as on:
        on.execute(text("ALTER TABLE incident_event DISABLE TRIGGER USER"))
        on.execute(text("UPDATE incident_event SET reason = 'nothing happened'"))
    result = console("history", "docs-writer", "--verify")
    assert result.exit_code == 1
    assert "altered" in result.stdout


def test_a_history_that_was_cut_short_is_found(console, engine, owner):
    """Without its newest event a history is not whole, and `--verify` says which one is missing."""
    opened(engine)
    Ledger(engine).note("docs-writer", "note", "later", {}, actor="t")
    with owner.begin() as on:
        on.execute(text("ALTER TABLE incident_event DISABLE TRIGGER USER"))
        on.execute(text("DELETE FROM incident_event WHERE seq = 2"))
    result = console("history", "docs-writer", "--verify")
    assert result.exit_code == 1
    assert "the newest event 2 is missing" in result.stdout


@pytest.mark.parametrize("state", [State.OPEN, State.RETRAINING])
def test_a_person_can_end_an_incident_in_any_open_state(engine, state):
    """Directly where the table of moves allows it, through ESCALATED where not; a second time is refused."""
    ledger = Ledger(engine)
    incident = ledger.incident(opened(engine))
    if state is not State.OPEN:
        incident = ledger.move(incident, state, actor="test", reason="r")
    moved = resolve_by_hand(ledger, incident.id, actor="cli:me", reason="known cause")
    assert moved.state is State.RESOLVED
    assert {event.actor for event in ledger.events("docs-writer")} == {"test", "cli:me"}
    with pytest.raises(ContractError, match="is resolved since"):
        resolve_by_hand(ledger, incident.id, actor="cli:me", reason="again")


def test_a_check_without_a_stack_says_what_is_missing(console, monkeypatch):
    """Nothing can be judged, which is no error; triage has nothing to decide; the text says the same as the JSON."""
    monkeypatch.setenv("DRIFTLOOP_PROMETHEUS_URL", "http://127.0.0.1:1")
    settings.cache_clear()
    result = console("check", "docs-writer", "--at", "2026-05-01T12:30:00", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["triage"], found["champion_version"]) == (0, None, None)
    assert found["window"]["end"] == "2026-05-01T12:00:00+00:00"
    assert {each["condition"] for each in found["signals"].values()} == {"NO_DATA"}
    assert "no champion" in found["signals"]["drift"]["reason"]
    assert "not reachable" in found["signals"]["gpu:temperature_celsius"]["reason"]
    assert "nothing is written" in console("check", "docs-writer").stdout


@pytest.mark.parametrize(("at", "says"), [("noon", "no ISO 8601 time"), ("2999-01-01", "lies in the future")])
def test_a_check_of_no_past_time_is_refused(console, at, says):
    """What is no time, or has not been, is named."""
    result = console("check", "docs-writer", "--at", at)
    assert (result.exit_code, type(result.exception)) == (1, ContractError)
    assert says in str(result.exception)


def test_status_of_a_stopped_stack_still_tells_of_the_models(console, engine):
    """The JSON form names model, incident and what is missing, even with no component running."""
    number = opened(engine)
    found = json.loads(console("status", "--json").stdout)
    model = found["models"]["docs-writer"]
    assert (model["incident"]["id"], model["champion_version"]) == (number, None)
    assert model["problems"] == ["no champion yet; run `driftloop bootstrap docs-writer`"]
    assert found["alerts_unsent"] == 0
    assert console("status").exit_code == 0
    assert console("incident", "show", str(number)).exit_code == 0


def test_bootstrap_leaves_a_champion_and_says_so(console, engine):
    """A second first champion is not made, and the command does not end in silence."""
    Ledger(engine).change_champion(
        "docs-writer", expected=None, to=4, kind="bootstrap", reason="test", actor="test", incident=None
    )
    assert console("bootstrap", "docs-writer").stdout.strip() == "docs-writer: version 4 is champion already"


def test_status_tells_a_file_s_problem_of_its_own_model_only(console, engine):
    """A wrong file whose name ends like another model's is not held against that one; long sentences stay whole."""
    folder = settings().models_dir
    (folder / "old-docs-writer.yaml").write_text("name: [\n")
    models = json.loads(console("status", "--json").stdout)["models"]
    assert models["docs-writer"]["problems"] == ["no champion yet; run `driftloop bootstrap docs-writer`"]
    (problem,) = models["old-docs-writer"]["problems"]
    assert f"{folder}/old-docs-writer.yaml:notreadable" in "".join(console("status").stdout.split())
    assert "not readable as YAML" in problem


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"m": {"loaded_version": None}}, "waits for a first champion"),
        ({"m": {"loaded_version": None, "wanted_version": 3}}, "loads m version 3"),
        ({"m": {"wanted_version": 3, "load_error": "version 3 does not load: x"}}, "m: version 3 does not load: x"),
    ],
)
def test_a_server_that_loads_is_told_from_one_without_champion(said, told):
    """What serving answers while it cannot serve is read, not guessed."""
    answer = json.dumps({"status": "no champion is loaded yet", "models": said})
    assert health._serving_waits_for(f"http://127.0.0.1:1/healthz answers 503: {answer}") == told


def test_status_without_a_database_says_so(home, monkeypatch):
    """Nothing raises; the problem is a sentence."""
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", "postgresql+psycopg://x@127.0.0.1:1/x")
    settings.cache_clear()
    found = status_report.collect()
    assert found["models"] == {}
    assert "PostgreSQL is not reachable" in found["problems"][0]


def test_an_error_is_one_sentence_on_stderr(home, monkeypatch):
    """A mistake gives exit status 1 and no traceback."""
    command = [sys.executable, "-m", "ops.cli.main", "ingest", "nobody", "file.csv"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=home)
    assert result.returncode == 1
    assert result.stderr.startswith("no model 'nobody'")
    assert "Traceback" not in result.stderr


def test_a_full_disk_is_a_sentence(monkeypatch, capsys):
    """A disk without space is told with the way out; other failures of the system keep their traceback."""
    for number in (errno.ENOSPC, errno.EACCES):
        monkeypatch.setattr(main, "app", partial(_raise, OSError(number, os.strerror(number))))
        with pytest.raises(SystemExit if number == errno.ENOSPC else OSError):
            main.main()
    assert "the disk is full" in capsys.readouterr().err


def _raise(error: Exception) -> None:
    raise error


def test_pause_and_resume(console, engine):
    """A pause is shown with its end; the loop leaves the model alone until somebody resumes it."""
    opened(engine)
    made = console("pause", "docs-writer", "--reason", "a move", "--for", "4h")
    assert made.exit_code == 0
    assert "docs-writer is paused until" in made.stdout
    found = json.loads(console("status", "--json").stdout)["models"]["docs-writer"]
    assert datetime.fromisoformat(found["paused_until"]) > datetime.now(UTC)
    assert "paused until" in console("status").stdout
    assert "is no longer paused" in console("resume", "docs-writer").stdout
    assert "is not paused" in console("resume", "docs-writer").stdout
    assert json.loads(console("status", "--json").stdout)["models"]["docs-writer"]["paused_until"] is None


@pytest.mark.parametrize("length", ["", "4", "h", "0m", "-4h", "4w", "1e3h", "999999d"])
def test_a_pause_of_no_sensible_length_is_refused(console, length):
    """What is no duration is named, with what would be one."""
    result = console("pause", "docs-writer", "--reason", "a move", f"--for={length}")
    assert isinstance(result.exception, ContractError)
    assert "give e.g. 30m, 4h or 2d" in str(result.exception)


def test_a_question_about_drift_is_answered(console, engine, monkeypatch):
    """The question's next step names the command; the answer stands in the history, and triage is rung at once."""
    rung = []
    monkeypatch.setattr("ops.stack.wake.ring", lambda asset, key: rung.append((asset, key)) or True)
    ledger = Ledger(engine)
    incident = ledger.incident(opened(engine))
    with pytest.raises(ContractError, match="no question about its drift is open; its incident 1 is open"):
        raise console("answer", "docs-writer", "retrain").exception
    ledger.move(incident, State.OPEN, actor="triage", reason="asked", action=Action.ASK, not_before=datetime.now(UTC))
    assert "driftloop answer docs-writer retrain, accept or ignore" in console("incident", "show", "1").stdout
    result = console("answer", "docs-writer", "retrain", "--reason", "new product")
    assert (result.exit_code, "retrain, says cli:" in result.stdout) == (0, True), result.output
    assert [(asset, key.incident_id) for asset, key in rung] == [("triage_due", 1)]
    assert ledger.incident(1).action is Action.RETRAIN
    assert console("answer", "docs-writer", "sell", "--reason", "r").exit_code == 2


@pytest.mark.parametrize("command", ["pause", "resume", "approve", "reject", "rollback"])
def test_an_unknown_model_is_named_with_those_there_are(console, command):
    """A slip of the finger is answered with the names to choose from."""
    result = console(command, "doc-writer", "--reason", "r")
    assert isinstance(result.exception, ContractError)
    assert "no model 'doc-writer'" in str(result.exception)
    assert "known models: docs-writer" in str(result.exception)
