"""The command that shows a model's record: `driftloop history`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import AsJson, Model, require_known
from ops.cli.shared.panels import Panel, add

if TYPE_CHECKING:
    from datasets_defs.ledger.events import Event


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    add(app, history, Panel.WATCH, "driftloop history docs-writer", "driftloop history docs-writer --verify")


def history(
    model: Model,
    as_json: AsJson = False,
    verify: Annotated[bool, typer.Option("--verify", help="Only check the hash chain.")] = False,
) -> None:
    """Show who decided what and on which evidence, oldest first, and whether the record is whole.

    Exit code 1: the hash chain is broken.
    """
    from datasets_defs.ledger.ledger import Ledger
    from ops.stack.database import database

    ledger = Ledger(database())
    events = ledger.events(model)
    broken = ledger.verify(model)
    if not events:
        require_known(model)
    if as_json:
        rows = [{**asdict(event), "at": event.at.isoformat()} for event in events]
        tables.print_json({"events": rows, "chain": broken or "ok"})
    else:
        if not verify:
            _tell(events)
        if broken:
            tables.plainly("\n".join(broken), style="red")
        else:
            tables.say(f"[green]the chain of {tables.counted(len(events), 'event')} is whole[/]")
    if broken:
        raise typer.Exit(1)


def _tell(events: "list[Event]") -> None:
    """Print a history line by line: time, what, why; then who, and in which incident."""
    for event in events:
        moved = f"{event.from_state} → {event.state}" if event.from_state and event.from_state != event.state else ""
        about = f"incident {event.incident_id}, " if event.incident_id else ""
        what, reason = tables.escape(moved or event.kind), tables.escape(event.reason)
        actor = tables.escape(event.actor.split("__")[0])
        tables.say(
            f"[dim]{event.seq:>4}  {event.at:%m-%d %H:%M:%S}Z[/]  [bold]{what}[/]  {reason}  [dim]({about}{actor})[/]"
        )
