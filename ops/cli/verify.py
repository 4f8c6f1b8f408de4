"""The command that checks the whole record: `driftloop verify`."""

import json
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from ops.stack.database import database
from ops.verify.invariants import Record, in_progress

console = Console()


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a check found."""

    broken: list[str]
    unknown: list[str]
    """What could not be looked at."""
    in_progress: dict[int, str]
    """Open incidents, and what each waits for."""
    counts: dict[str, int]


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(verify)


def verify(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    records_only: Annotated[bool, typer.Option("--records-only", help="Do not fetch the champions' files.")] = False,
) -> None:
    """Check that nothing was lost, done twice or altered: incidents, champions, histories, messages, files."""
    found = check(records_only=records_only)
    if as_json:
        said = {
            "holds": not found.broken,
            "broken": found.broken,
            "unknown": found.unknown,
            "in_progress": {str(number): why for number, why in found.in_progress.items()},
            "checked": found.counts,
        }
        print(json.dumps(said, indent=1))  # noqa: T201 for a program
    else:
        _show(found)
    if found.broken:
        raise typer.Exit(1)


def check(*, records_only: bool = False) -> Findings:
    """Judge the loop's database as it is now, and unless told otherwise the champions' files.

    Raises:
        TransientError: PostgreSQL is away.
    """
    from ops.verify.reading import broken_artifacts, broken_invariants

    record, broken = broken_invariants(database())
    wrong, unknown = ([], []) if records_only else broken_artifacts(record)
    return Findings(
        broken=[*broken, *wrong],
        unknown=unknown,
        in_progress={item.id: in_progress(item, record.now) for item in record.incidents if item.is_open},
        counts=_counts(record),
    )


def _counts(record: Record) -> dict[str, int]:
    return {
        "models": len(record.events),
        "incidents": len(record.incidents),
        "events": sum(map(len, record.events.values())),
        "changes of champion": len(record.changes),
        "messages": len(record.messages),
        "messages waiting": sum(not message.sent for message in record.messages),
    }


def _show(found: Findings) -> None:
    for sentence in found.broken:
        console.print(escape(sentence), style="red", highlight=False, soft_wrap=True)
    for sentence in found.unknown:
        console.print(escape(sentence), style="yellow", highlight=False, soft_wrap=True)
    for number, why in found.in_progress.items():
        console.print(f"incident {number} {escape(why)}", style="dim", highlight=False, soft_wrap=True)
    counted = ", ".join(f"{count:,} {what}" for what, count in found.counts.items())
    verdict = f"[red]{len(found.broken)} broken[/]" if found.broken else "[green]all invariants hold[/]"
    console.print(f"{verdict}: {counted}", highlight=False, soft_wrap=True)
