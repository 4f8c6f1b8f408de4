"""Commands that only read answer at once: none of them imports what takes seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine

from datasets_defs.core.settings import ROOT, settings
from monitors.watch_drift import watch
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation

HEAVY = ("torch", "transformers", "mlflow", "evidently", "pandas", "airflow", "scipy", "matplotlib", "alembic")
RUN = """
import json, sys
sys.argv[1:] = {arguments!r}
from ops.cli.main import main
code = 0
try:
    main()
except SystemExit as end:
    code = end.code
loaded = [name for name in {heavy!r} if sys.modules.get(name)]
sys.stderr.write("\\n" + json.dumps([code or 0, loaded]))
"""


def run(*arguments: str) -> tuple[int, list[str], str]:
    """Run a command in a process of its own; give its exit code, the heavy modules it loaded, and what it printed."""
    code = RUN.format(arguments=list(arguments), heavy=HEAVY)
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    exit_code, loaded = json.loads(result.stderr.splitlines()[-1])
    return exit_code, loaded, result.stdout + result.stderr


@pytest.fixture
def loop(engine: Engine, home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """A model with a profile, two windows of which the sensor judged the first, and an open incident."""
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", database_url)
    monkeypatch.setenv("DRIFTLOOP_PROMETHEUS_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", "http://127.0.0.1:1")
    settings.cache_clear()
    texts, made = documentation(), Loop(engine, home)
    made.spec(quality="driftloop", gpu="dcgm")
    made.champion()
    made.reference(texts[:300])
    for number in range(2):
        made.traffic(number, texts[300 : 300 + 80], loss=2.5)
    watch(MODEL, until=made.until(0), db=made.db, actor="test")
    made.ledger.open_incident(
        MODEL, signal="loss", degraded_since=made.window(0).start, reason="r", evidence={}, actor="test"
    )
    return made


@pytest.mark.slow
def test_commands_that_read_import_nothing_heavy(loop: Loop) -> None:
    """Each does its work on a model with traffic and an incident, and has loaded nothing that takes seconds."""
    since, counted, not_yet = (at.isoformat() for at in (loop.window(0).start, loop.until(0), loop.until(1)))
    command_lines = [
        ("--help",),
        ("status",),
        ("check", MODEL, "--at", counted),
        ("check", MODEL, "--at", not_yet),
        ("history", MODEL),
        ("incident", "show", "1"),
        ("similar", MODEL, "how are strings sorted?"),
        ("verify",),
        ("verify", "--records-only"),
        ("backtest", MODEL, "--since", since, "--until", counted),
        ("check-models",),
        ("schema",),
    ]
    outcomes = {words: run(*words) for words in command_lines}
    assert {words: loaded for words, (_, loaded, _) in outcomes.items() if loaded} == {}
    failed = {words: printed for words, (code, _, printed) in outcomes.items() if code and words[0] != "verify"}
    assert failed == {}  # `verify` finds that this champion was moved to another time
    assert "80 whole rows" in outcomes["check", MODEL, "--at", not_yet][2]
    assert "1 open" in outcomes["status",][2]
    assert "MLflow at http://127.0.0.1:1 does not answer" in outcomes["verify",][2]
