"""The command that tries the sensors without consequences."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import AsJson, Model
from ops.cli.shared.panels import Panel, add
from ops.cli.shared.times import past_time

if TYPE_CHECKING:
    from monitors.dry_run import Check


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    add(
        app, check, Panel.WATCH,
        "driftloop check docs-writer",
        "driftloop check docs-writer --at 2026-05-01T12:00:00Z --json",
    )  # fmt: skip


def check(
    model: Model,
    at: Annotated[
        str | None,
        typer.Option(
            help="ISO 8601 time (UTC). The newest window that was complete then is judged. Without it: now.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge one window with all sensors, and print what they and triage would say. Writes nothing."""
    from monitors.dry_run import check as judge
    from monitors.prometheus.of_settings import client_of_settings
    from ops.stack.database import database

    until = past_time(at, "--at", now=datetime.now(UTC))
    outcome = judge(model, until=until, db=database(), prometheus=client_of_settings())
    if as_json:
        tables.print_json(_plain(model, outcome))
    else:
        _tell(model, outcome)


def _plain(model: str, outcome: "Check") -> Any:
    from datasets_defs.core.plain import plain

    decision = outcome.decision
    return plain(
        {
            "model": model,
            "window": {"start": outcome.window.start.isoformat(), "end": outcome.window.end.isoformat()},
            "champion_version": outcome.champion_version,
            "signals": {
                verdict.signal: {
                    "condition": verdict.condition,
                    "reason": verdict.reason,
                    "score": verdict.score,
                    "limit": verdict.limit,
                    "confirmed": verdict.signal in outcome.confirmed,
                    "evidence": verdict.evidence,
                }
                for verdict in outcome.verdicts
            },
            "triage": {"cause": decision.cause, "action": decision.action, "reason": decision.reason}
            if decision is not None
            else None,
            "triage_held": outcome.held,
            "incident_id": outcome.incident_id,
        }
    )


def _tell(model: str, outcome: "Check") -> None:
    served = f"version {outcome.champion_version}" if outcome.champion_version is not None else "no champion"
    tables.plainly(f"{model}, {served}, window {outcome.window}: a dry run, nothing is written")
    for verdict in outcome.verdicts:
        condition = tables.coloured(verdict.condition, f"{verdict.condition:8}")
        confirmed = " [bold](confirmed)[/]" if verdict.signal in outcome.confirmed else ""
        signal, reason = tables.escape(verdict.signal), tables.escape(verdict.reason)
        tables.say(f"{condition} [bold]{signal}[/] {reason}{confirmed}")
    if outcome.held is not None:
        tables.plainly(f"triage would not decide now: {outcome.held}")
    elif outcome.decision is None:
        tables.say("triage would have nothing to decide: nothing stands")
    else:
        is_due = outcome.confirmed or outcome.incident_id is not None
        when = "would say" if is_due else "would say, if this were confirmed"
        decision = outcome.decision
        tables.plainly(f"triage {when}: {decision.action} ({decision.cause}): {decision.reason}")
    if outcome.incident_id is not None:
        tables.say(f"incident {outcome.incident_id} is open already")
