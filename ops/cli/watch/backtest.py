"""The command that replays stored windows: `driftloop backtest`."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import AsJson, Model
from ops.cli.shared.panels import Panel, add
from ops.cli.shared.times import past_time

if TYPE_CHECKING:
    from datasets_defs.core.windows import Window
    from monitors.replay.outcome import Backtest


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    add(
        app, backtest, Panel.WATCH,
        "driftloop backtest docs-writer --since 2026-05-01 --strict",
        "driftloop backtest docs-writer --policy policy.yaml --truth shifts.csv",
    )  # fmt: skip


def backtest(
    model: Model,
    since: Annotated[
        str | None, typer.Option(help="ISO 8601 time of the first window. Without it: a week before the end.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="ISO 8601 time of the end. Without it: now.")] = None,
    policy: Annotated[Path | None, typer.Option(help="YAML of `drift:` fields to try instead of the model's.")] = None,
    truth: Annotated[Path | None, typer.Option(help="JSON or CSV of known shifts, each a start and an end.")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG file to draw the evidence in.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a recorded verdict comes out differently.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Replay stored windows through the drift policy: verdicts, incidents, retrains. Writes nothing.

    Windows are kept one by one for 36 days. Of older ones the recorded verdicts stand under any policy.
    """
    from datasets_defs.core.plain import plain
    from datasets_defs.spec.files import spec_of
    from monitors.replay import stored
    from ops.cli.watch.backtest_files import read_policy, read_truth
    from ops.cli.watch.backtest_report import as_plain, tell
    from ops.stack.database import database

    now = datetime.now(UTC)
    spec, within = spec_of(model), _within(since, until, now)
    tried = read_policy(policy, spec.drift) if policy is not None else None
    shifts = read_truth(truth) if truth is not None else None
    result = stored.backtest(database(), spec, within, policy=tried, shifts=shifts)
    idle = stored.without_effect(tried, spec.drift) if tried is not None else []
    drawn = _drawn(plot, result, model, policy)
    if as_json:
        tables.print_json(plain(as_plain(model, result, tried, idle, now=now)))
    else:
        tell(model, result, tried, idle, now=now)
        if drawn is not None:
            tables.plainly(drawn)
    if strict and result.differences:
        raise typer.Exit(1)


def _drawn(plot: Path | None, result: "Backtest", model: str, policy: Path | None) -> str | None:
    """Draw the evidence where a file is asked for, and say where it is."""
    from ops.cli.watch.evidence_plot import png

    if plot is None:
        return None
    name = policy.name if policy is not None else "the live policy"
    png(plot, result, title=f"{model}: drift and loss by {name}")
    return f"drawn in {plot}"


def _within(since: str | None, until: str | None, now: datetime) -> "Window":
    from datasets_defs.core.errors import ContractError
    from datasets_defs.core.windows import Window

    end = past_time(until, "--until", now=now)
    start = past_time(since, "--since", now=now) if since is not None else end - timedelta(days=7)
    if start >= end:
        raise ContractError(f"--since {start:%Y-%m-%dT%H:%M:%SZ} is not before --until {end:%Y-%m-%dT%H:%M:%SZ}")
    return Window(start, end)
