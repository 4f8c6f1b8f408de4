"""The command that reads another server's log: `driftloop ingest`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import Model, require_known
from ops.cli.shared.panels import Panel, add

if TYPE_CHECKING:
    from ops.ingest.ingest import Summary


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    add(app, ingest, Panel.DATA, "driftloop ingest docs-writer log-2026-05-01.jsonl")


def ingest(
    model: Model,
    file: Annotated[
        Path,
        typer.Argument(
            help="A log or pattern: .jsonl, .json, .csv, .tsv, .parquet, maybe packed; ours, LiteLLM, OpenAI, Langfuse."
        ),
    ],
) -> None:
    """Read another server's log. Rows that cannot be read are kept apart with their reason.

    A row that is known already changes nothing, so the same file may be read again.
    Exit code 1: no row could be read.
    """
    require_known(model)
    from ops.ingest.ingest import ingest as read
    from ops.stack.database import database
    from ops.stack.first_champions import progress_bar

    with progress_bar(tables.console, f"reading {file.name}") as bar:
        now = datetime.now(UTC)
        counts = read(database(), model, file, bar.share, now=now)
    tables.say(
        f"{counts.rows:,} rows read: {counts.new:,} new, {counts.known:,} known, {counts.feedback:,} with feedback, "
        f"{counts.quarantined.total():,} quarantined"
    )
    if counts.naive_times:
        tables.say(f"{counts.naive_times:,} times had no zone and were taken as UTC")
    if counts.attributes:
        shown = ", ".join(name[:40] for name, _ in counts.attributes.most_common(12))
        tables.plainly(f"kept as attributes: {shown}")
    _say_past(counts, now)
    for reason, count in counts.quarantined.most_common(10):
        tables.plainly(f"  {count:,} rows: {reason}", style="yellow")
    if counts.rows and counts.quarantined.total() == counts.rows:  # a nightly export that broke shall be noticed
        tables.plainly(f"no row of {file} could be read", style="red")
        raise typer.Exit(1)


def _say_past(counts: "Summary", now: datetime) -> None:
    """Say of requests that lie in the future, or that the next `maintain` drops, and what keeps them."""
    from datasets_defs.store.places import place

    if counts.ahead:
        tables.plainly(
            f"{counts.ahead:,} requests lie in the future: no window judges them before; write their times with a zone",
            style="yellow",
        )
    if counts.past:
        tables.plainly(
            f"{counts.past:,} requests are older than the {place('inference').days} days that the log is kept: the "
            f"next `maintain` drops them. Set DRIFTLOOP_RETENTION_DAYS to {counts.retention_needed(now)} to keep them",
            style="yellow",
        )
