"""Commands about the drift sensor: calibrate it, and replay what it saw."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from datasets_defs.core.errors import ContractError
from datasets_defs.core.plain import plain
from datasets_defs.core.windows import Window
from datasets_defs.spec.files import spec_of
from ops.cli.backtest_files import read_policy, read_truth
from ops.cli.models import Model
from ops.cli.times import past_time
from ops.stack.database import database

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(calibrate)
    app.command()(backtest)


def calibrate(model: Model, as_json: AsJson = False) -> None:
    """Make or renew what the champion's windows are compared with; say what it will notice, and when it will err."""
    from ops.cli.calibrate import as_plain, calibrated, tell

    found = calibrated(database(), spec_of(model), now=datetime.now(UTC))
    if as_json:
        _print_json(as_plain(found))
    else:
        tell(found)


def backtest(
    model: Model,
    since: Annotated[
        str | None, typer.Option(help="Windows from this ISO 8601 time on; a week before the end.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="… up to this one; now.")] = None,
    policy: Annotated[Path | None, typer.Option(help="YAML of `drift:` fields to try instead of the model's.")] = None,
    truth: Annotated[Path | None, typer.Option(help="JSON or CSV of known shifts, each a start and an end.")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG file to draw the evidence in.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a recorded verdict comes out differently.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Replay stored windows through the drift policy: verdicts, incidents, retrains; nothing is written."""
    from monitors.replay.stored import backtest as run
    from monitors.replay.stored import without_effect
    from ops.cli.backtest_report import as_plain, tell
    from ops.cli.evidence_plot import png

    spec, within = spec_of(model), _within(since, until, datetime.now(UTC))
    tried = read_policy(policy, spec.drift) if policy is not None else None
    shifts = read_truth(truth) if truth is not None else None
    found = run(database(), spec, within, policy=tried, shifts=shifts)
    idle = without_effect(tried, spec.drift) if tried is not None else []
    if plot is not None:
        png(plot, found, title=f"{model}: drift and loss by {policy.name if policy is not None else 'the live policy'}")
    if as_json:
        _print_json(as_plain(model, found, tried, idle))
    else:
        tell(model, found, tried, idle)
        if plot is not None:
            typer.echo(f"drawn in {plot}")
    if strict and found.differences:
        raise typer.Exit(1)


def _within(since: str | None, until: str | None, now: datetime) -> Window:
    end = past_time(until, "--until", now=now)
    start = past_time(since, "--since", now=now) if since is not None else end - timedelta(days=7)
    if start >= end:
        raise ContractError(f"--since {start:%Y-%m-%dT%H:%M:%SZ} is not before --until {end:%Y-%m-%dT%H:%M:%SZ}")
    return Window(start, end)


def _print_json(content: Any) -> None:
    print(json.dumps(plain(content), indent=1))  # noqa: T201 for a program, without rich's line breaks
