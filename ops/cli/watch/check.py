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
    from datasets_defs.core.settings import settings
    from monitors.dry_run import check as judge
    from monitors.prometheus.client import PrometheusClient
    from ops.stack.database import database

    until = past_time(at, "--at", now=datetime.now(UTC))
    found = judge(model, until=until, db=database(), prometheus=PrometheusClient(settings().prometheus_url))
    if as_json:
        tables.print_json(_plain(model, found))
    else:
        _tell(model, found)


def _plain(model: str, found: "Check") -> Any:
    from datasets_defs.core.plain import plain

    decision = found.decision
    return plain(
        {
            "model": model,
            "window": {"start": found.window.start.isoformat(), "end": found.window.end.isoformat()},
            "champion_version": found.champion_version,
            "signals": {
                verdict.signal: {
                    "condition": verdict.condition,
                    "reason": verdict.reason,
                    "score": verdict.score,
                    "limit": verdict.limit,
                    "confirmed": verdict.signal in found.confirmed,
                    "evidence": verdict.evidence,
                }
                for verdict in found.verdicts
            },
            "triage": {"cause": decision.cause, "action": decision.action, "reason": decision.reason}
            if decision is not None
            else None,
            "triage_held": found.held,
            "incident_id": found.incident_id,
        }
    )


def _tell(model: str, found: "Check") -> None:
    served = f"version {found.champion_version}" if found.champion_version is not None else "no champion"
    tables.plainly(f"{model}, {served}, window {found.window}: a dry run, nothing is written")
    for verdict in found.verdicts:
        condition = tables.coloured(verdict.condition, f"{verdict.condition:8}")
        confirmed = " [bold](confirmed)[/]" if verdict.signal in found.confirmed else ""
        signal, reason = tables.escape(verdict.signal), tables.escape(verdict.reason)
        tables.say(f"{condition} [bold]{signal}[/] {reason}{confirmed}")
    if found.held is not None:
        tables.plainly(f"triage would not decide now: {found.held}")
    elif found.decision is None:
        tables.say("triage would have nothing to decide: nothing stands")
    else:
        is_due = found.confirmed or found.incident_id is not None
        when = "would say" if is_due else "would say, if this were confirmed"
        decision = found.decision
        tables.plainly(f"triage {when}: {decision.action} ({decision.cause}): {decision.reason}")
    if found.incident_id is not None:
        tables.say(f"incident {found.incident_id} is open already")
