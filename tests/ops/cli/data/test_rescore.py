"""`driftloop rescore`, on windows that the real sensor judged in a real database."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy import Engine
from typer.testing import CliRunner

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from monitors import watch_quality
from monitors.prometheus.client import PrometheusClient
from ops.cli.main import app
from ops.stack.ports import free_port
from tests.monitors.labels.test_judge import answered, scored, thumbs
from tests.monitors.loop import MODEL, Loop


@pytest.fixture
def loop(engine: Engine, home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """A labelled model in a database that the command uses, too; of window 5 no label has come in time."""
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", database_url)
    settings.cache_clear()
    found = Loop(engine, home)
    found.spec(labels=[{"name": "score", "maturity_windows": 1}])
    found.champion()
    found.served_since(1, found.window(0).start)
    away = PrometheusClient(f"http://127.0.0.1:{free_port()}")
    for number in range(7):
        answered(found, number, [None] * 60 if number == 5 else thumbs(48))
        watch_quality.watch(MODEL, until=found.until(number), db=found.db, prometheus=away, actor="test")
    return found


def rescore(loop: Loop, *more: object) -> Result:
    since, until = loop.window(0).start.isoformat(), loop.until(6).isoformat()
    arguments = ["rescore", MODEL, "--since", since, "--until", until, *map(str, more)]
    return CliRunner().invoke(app, arguments)


def test_what_changed_is_printed(loop: Loop) -> None:
    """Each verdict that came out otherwise is a line with both conditions; then there is nothing more."""
    scored(loop, 5, thumbs(48))
    found = rescore(loop)
    assert found.exit_code == 0, found.output
    first, last = found.stdout.splitlines()
    assert f"{loop.window(6)} label:score NO_DATA → OK 1.000 60 labels of " in first
    assert last == f"{MODEL}: 1 verdicts changed, 1 in their condition; this opens no incident"
    assert rescore(loop).stdout == f"{MODEL}: 0 verdicts changed, 0 in their condition; this opens no incident\n"


def test_for_a_program(loop: Loop) -> None:
    """The same as JSON, before and after."""
    scored(loop, 5, thumbs(30))
    (change,) = json.loads(rescore(loop, "--json").stdout)
    assert (change["signal"], change["window"]["end"]) == ("label:score", loop.window(6).end.isoformat())
    assert (change["before"]["condition"], change["after"]["evidence"]["labels"]) == ("NO_DATA", 60)
    assert change["after"]["score"] == pytest.approx(2.5)
    assert json.loads(rescore(loop, "--json").stdout) == []


def test_times_that_cannot_be(loop: Loop) -> None:
    """A time without windows is refused in words."""
    for since, says in (("2999-01-01", "lies in the future"), (loop.until(9).isoformat(), "is not before --until")):
        found = CliRunner().invoke(app, ["rescore", MODEL, "--since", since, "--until", loop.until(6).isoformat()])
        assert isinstance(found.exception, ContractError)
        assert says in str(found.exception)
