"""`driftloop similar` on a real log: what it prints, as lines and as JSON, and what it refuses."""

import json

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from monitors.similar.index import keep_up
from ops.cli.main import app
from tests.monitors.loop import MODEL, Loop

PROMPTS = ("a refund for ann@example.com please", "how are tuples sorted [bold]here[/]?", "what is a refund?")


@pytest.fixture
def loop(engine: Engine, home, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """A model with three indexed prompts."""
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", database_url)
    settings.cache_clear()
    made = Loop(engine, home)
    made.traffic(0, PROMPTS)
    keep_up(engine, made.spec(), until=made.window(0).end)
    return made


def test_lines(loop: Loop):
    """The nearest stands first, redacted; its brackets are no markup; the last line says what was compared."""
    said = CliRunner().invoke(app, ["similar", MODEL, "refund", "--since", "2026-11-01", "--until", later(loop)])
    assert said.exit_code == 0, said.output
    lines = said.output.splitlines()
    assert lines[0].split() == ["like", "asked", "times", "prompt"]
    assert "what is a refund?" in lines[1]
    assert "ann@example.com" not in said.output
    assert "[bold]here[/]" in said.output
    assert lines[-1] == "the nearest of 3 indexed prompts, by words and runs of characters"


def test_json(loop: Loop):
    """A program gets every field."""
    arguments = ["similar", MODEL, "tuples", "--count", "1", "--json", "--since", "2026-11-01", "--until", later(loop)]
    said = CliRunner().invoke(app, arguments)
    content = json.loads(said.output)
    assert content["searched"] == 3
    (first,) = content["prompts"]
    assert first["request_id"] == "0-1-1"
    assert set(first) == {"prompt", "similarity", "request_id", "at", "version", "times"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((MODEL, "  "), "the text is blank"),
        (("nobody", "a"), "nobody"),
        ((MODEL, "a", "--since", "yesterday"), "is no ISO 8601 time"),
        ((MODEL, "a", "--since", "2026-11-03", "--until", "2026-11-02"), "is not before --until"),
    ],
)
def test_refusals(loop: Loop, arguments: tuple[str, ...], said: str):
    """What was given wrong is named."""
    found = CliRunner().invoke(app, ["similar", *arguments])
    assert isinstance(found.exception, ContractError)
    assert said in str(found.exception)


def later(loop: Loop) -> str:
    """Give a time after the prompts that the clock has passed."""
    return loop.window(1).end.isoformat()
