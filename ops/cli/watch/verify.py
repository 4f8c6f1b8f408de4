"""The command that checks the whole record: `driftloop verify`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import AsJson
from ops.cli.shared.panels import Panel, add

if TYPE_CHECKING:
    from ops.verify.invariants import LoopRecord


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
    add(app, verify, Panel.WATCH, "driftloop verify", "driftloop verify --records-only --json")


def verify(
    as_json: AsJson = False,
    records_only: Annotated[bool, typer.Option("--records-only", help="Do not fetch the champions' files.")] = False,
) -> None:
    """Check that nothing was lost, done twice or altered: incidents, champions, histories, messages, files.

    Exit code 1: something is broken. What could not be looked at is listed, and breaks nothing.
    """
    findings = check(records_only=records_only)
    if as_json:
        content = {
            "holds": not findings.broken,
            "broken": findings.broken,
            "unknown": findings.unknown,
            "in_progress": {str(number): why for number, why in findings.in_progress.items()},
            "checked": findings.counts,
        }
        tables.print_json(content)
    else:
        _show(findings)
    if findings.broken:
        raise typer.Exit(1)


def check(*, records_only: bool = False) -> Findings:
    """Judge the loop's database as it is now, and unless told otherwise the champions' files.

    Raises:
        TransientError: PostgreSQL is away.
    """
    from ops.stack.database import database
    from ops.verify.invariants import in_progress
    from ops.verify.reading import broken_artifacts, broken_invariants

    record, broken = broken_invariants(database())
    wrong, unknown = ([], []) if records_only else broken_artifacts(record)
    return Findings(
        broken=[*broken, *wrong],
        unknown=unknown,
        in_progress={item.id: in_progress(item, record.now) for item in record.incidents if item.is_open},
        counts=_counts(record),
    )


def _counts(record: "LoopRecord") -> dict[str, int]:
    return {
        "models": len(record.events),
        "incidents": len(record.incidents),
        "events": sum(map(len, record.events.values())),
        "changes of champion": len(record.changes),
        "messages": len(record.messages),
        "messages waiting": sum(not message.sent for message in record.messages),
    }


def _show(findings: Findings) -> None:
    for sentence in findings.broken:
        tables.plainly(sentence, style="red")
    for sentence in findings.unknown:
        tables.plainly(sentence, style="yellow")
    for number, why in findings.in_progress.items():
        tables.plainly(f"incident {number} {why}", style="dim")
    counted = ", ".join(f"{count:,} {what}" for what, count in findings.counts.items())
    verdict = f"[red]{len(findings.broken)} broken[/]" if findings.broken else "[green]all invariants hold[/]"
    tables.say(f"{verdict}: {counted}")
