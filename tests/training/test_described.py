"""The file that describes a model: an edit and a loss of it are told once, and stop nobody else."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Engine
from typer.testing import CliRunner

from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import Wake
from datasets_defs.core.settings import settings
from datasets_defs.store.versions import note_version
from ops.cli.main import app
from ops.cli.watch.status_report import _models
from tests.monitors.loop import MODEL, Loop
from training.champions.described import note_edit, note_files
from training.reconcile import rings_due

ACTOR = "reconcile:1"


@pytest.fixture
def loop(engine: Engine, home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Loop:
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", database_url)
    settings.cache_clear()
    loop = Loop(engine, home)
    loop.spec()
    loop.champion()
    return loop


def file_of(loop: Loop) -> Path:
    return loop.home / "models" / f"{MODEL}.yaml"


def edit(loop: Loop, **fields: object) -> None:
    file_of(loop).write_text(yaml.safe_dump({**yaml.safe_load(file_of(loop).read_text()), **fields}))


def told(loop: Loop, *kinds: EventKind) -> list[str]:
    return [event.reason for event in loop.ledger.events_of(MODEL, *kinds)]


def test_an_edit_is_told_once_with_each_field(loop: Loop):
    """The first reading is no edit; the next says what changed and from when, however often it is looked at."""
    assert note_edit(MODEL, db=loop.db, actor=ACTOR) == []
    edit(loop, base_model="./another", probation_windows=9)
    for _ in range(2):
        note_edit(MODEL, db=loop.db, actor=ACTOR)
    (reason,) = told(loop, EventKind.SPEC_CHANGED)
    assert "base_model: " in reason
    assert "the champion descends from another base" in reason
    assert "→ 9, at once" in reason


def test_a_plan_says_it_before_the_loop_does_and_changes_nothing(loop: Loop):
    """`driftloop plan` names the fields by when they count; it is no reading, so the loop still tells of the edit."""
    run = CliRunner()
    assert "has not read" in run.invoke(app, ["plan", MODEL]).output
    note_edit(MODEL, db=loop.db, actor=ACTOR)
    assert "nothing changes" in run.invoke(app, ["plan", MODEL]).output
    edit(loop, gate={"min_documents": 77})
    for _ in range(2):
        output = " ".join(run.invoke(app, ["plan", MODEL]).output.split())
        assert "with the next evaluation gate.min_documents: " in output
        assert "→ 77" in output
    assert told(loop, EventKind.SPEC_CHANGED) == []
    assert '"effect": "with the next evaluation"' in run.invoke(app, ["plan", MODEL, "--json"]).output


def test_a_file_that_is_gone_or_wrong_is_told_once_and_once_when_it_is_back(loop: Loop):
    """Its incident is not rung for meanwhile: no run that fails every ten minutes, and none that calls a person."""
    incident, _ = loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(0).start, reason="r", evidence={}, actor="t"
    )
    content = file_of(loop).read_text()
    file_of(loop).unlink()
    for _ in range(2):
        note_files(db=loop.db, actor=ACTOR)
        assert rings_due(db=loop.db, actor=ACTOR, now=datetime.now(UTC))[Wake.TRIAGE] == []
    (reason,) = told(loop, EventKind.FILE_TROUBLE)
    assert "does not exist" in reason
    assert told(loop, EventKind.FILE_MENDED) == []
    file_of(loop).write_text(content)
    for _ in range(2):
        note_files(db=loop.db, actor=ACTOR)
    assert len(told(loop, EventKind.FILE_MENDED)) == 1
    assert [key.incident_id for key in rings_due(db=loop.db, actor=ACTOR, now=datetime.now(UTC))[Wake.TRIAGE]] == [
        incident.id
    ]


def test_another_base_is_said_as_long_as_the_champion_descends_from_the_former(loop: Loop):
    """`plan`, `check-models` and `status` name the command; a version of which nothing is known is not accused."""
    run, hint = CliRunner(), f"driftloop rebase {MODEL}"

    def said() -> list[bool]:
        wide = {"COLUMNS": "400"}
        shown = [run.invoke(app, command, env=wide).output for command in (["plan", MODEL], ["check-models"])]
        return [hint in " ".join(each.split()) for each in (*shown, str(_models(loop.db)[MODEL]["other_base"]))]

    edit(loop, base_model="./another")
    assert said() == [False, False, False]
    note_version(loop.db, MODEL, 1, "a" * 64, actor="t", base="./before")
    assert said() == [True, True, True]
    edit(loop, base_model="./before")
    assert said() == [False, False, False]
    edit(loop, base_model={"layers": 7})
    assert said() == [True, True, True]
