"""The command that finds earlier prompts: `driftloop similar`."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import AsJson, Model
from ops.cli.shared.panels import Panel, add
from ops.cli.shared.times import past_time, time_of

if TYPE_CHECKING:
    from monitors.similar.nearest import Similar


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    add(
        app, similar, Panel.WATCH, 'driftloop similar docs-writer "refund for a broken order"',
        'driftloop similar docs-writer "refund" --since 2026-05-01 --json',
    )  # fmt: skip


def similar(
    model: Model,
    text: Annotated[str, typer.Argument(help="A prompt, or a part of one.", show_default=False)],
    count: Annotated[int, typer.Option(help="How many texts to show.", min=1, max=100)] = 10,
    since: Annotated[str | None, typer.Option(help="ISO 8601 time (UTC). Without it: all that is kept.")] = None,
    until: Annotated[str | None, typer.Option(help="ISO 8601 time (UTC). Without it: now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what users asked that is like a text, the nearest first: some prompts of each window are indexed.

    Prompts are shown redacted. Those that the log does not hold any more are not shown.
    """
    from datasets_defs.core.errors import ContractError
    from datasets_defs.core.windows import Window
    from datasets_defs.spec.files import spec_of
    from datasets_defs.store.inference_log import first_day_kept
    from monitors.similar.nearest import similar_to
    from ops.stack.database import database

    now = datetime.now(UTC)
    end = past_time(until, "--until", now=now)
    begin = first_day_kept(now) if since is None else time_of(since, "--since")
    if begin >= end:
        raise ContractError(f"--since {begin:%Y-%m-%dT%H:%M:%SZ} is not before --until {end:%Y-%m-%dT%H:%M:%SZ}")
    answer = similar_to(database(), spec_of(model), text, Window(begin, end), count=count)
    if as_json:
        tables.print_json({**asdict(answer), "prompts": [asdict(prompt) for prompt in answer.prompts]})
    else:
        _tell(model, answer)


def _tell(model: str, answer: "Similar") -> None:
    """Print a line for each text, then what was compared."""
    rows = tables.table("like", "asked", "times", "prompt", right=("like", "times"))
    for text in answer.prompts:
        asked = f"{text.at:%Y-%m-%d %H:%M}Z"
        prompt = tables.escape(tables.shortened(text.prompt, 90))
        rows.add_row(f"{text.similarity:.2f}", asked, str(text.times), prompt)
    if answer.prompts:
        tables.console.print(rows, highlight=False)
    tables.plainly(answer.summary(model), style="dim")
