"""How long the commands that only read take, as a ratio to a bare import of the libraries that all of them need.

The bare import is timed in turns with the commands, so that a busy machine slows both alike.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from monitors.watch_drift import watch
from tests.benchmarks.figures import ROOT, Figure, interleaved, wall_seconds
from tests.benchmarks.stack import fresh_loop
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation

BARE = ("-c", "import typer, rich, sqlalchemy")
NOBODY = "http://127.0.0.1:1"


def answers(windows: int, rounds: int) -> Iterator[Figure]:
    """Time each command on a model with so many judged windows and an open incident; Prometheus and MLflow are away."""
    with fresh_loop() as loop:
        _live(loop, windows)
        lines = _command_lines(loop, windows)
        environment = {
            **os.environ,
            "DRIFTLOOP_DATABASE_URL": loop.db.url.render_as_string(hide_password=False),
            "DRIFTLOOP_PROMETHEUS_URL": NOBODY,
            "DRIFTLOOP_MLFLOW_URL": NOBODY,
        }
        works = {name: partial(_run, line, environment) for name, line in {"bare": BARE, **lines}.items()}
        seconds = interleaved(works, runs=rounds, clock=wall_seconds)
    bare = seconds["bare"]
    yield Figure(name="control.commands.bare_import", value=bare, unit="s")
    for name in lines:
        yield Figure(name=f"control.commands.{name}", value=seconds[name] / bare, unit="bare imports")


def _live(loop: Loop, windows: int) -> None:
    texts = documentation()
    loop.spec()
    loop.champion()
    loop.reference(texts[:300])
    for number in range(windows):
        loop.traffic(number, texts[300:380], loss=2.5)
        watch(MODEL, until=loop.until(number), db=loop.db, actor="benchmark")
    loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(0).start, reason="r", evidence={}, actor="benchmark"
    )


def _command_lines(loop: Loop, windows: int) -> Mapping[str, Sequence[str]]:
    since, until = loop.window(0).start.isoformat(), loop.until(windows - 1).isoformat()
    words = {
        "status": ("status",),
        "check": ("check", MODEL, "--at", until),
        "history": ("history", MODEL),
        "incident": ("incident", "show", "1"),
        "verify": ("verify",),
        "backtest": ("backtest", MODEL, "--since", since, "--until", until),
        "check_models": ("check-models",),
        "schema": ("schema",),
        "help": ("--help",),
    }
    return {name: ("-m", "ops.cli.main", *line) for name, line in words.items()}


def _run(line: Sequence[str], environment: Mapping[str, str]) -> None:
    subprocess.run([sys.executable, *line], cwd=ROOT, env=environment, capture_output=True, check=False)
