"""The command that tries the sensors without consequences."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from datasets_defs.core.conditions import Condition
from datasets_defs.core.plain import plain
from datasets_defs.core.settings import settings
from ops.cli.models import Model
from ops.cli.times import past_time
from ops.stack.database import database

if TYPE_CHECKING:
    from monitors.dry_run import Check

console = Console()
_STYLES = {Condition.OK: "green", Condition.WARN: "yellow", Condition.BAD: "red"}


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(check)


def check(
    model: Model,
    at: Annotated[
        str | None, typer.Option(help="Judge the newest window that was complete at this ISO 8601 time (UTC).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Try all sensors on one window, the newest complete one; print what they and triage would say, write nothing."""
    from monitors.dry_run import check as judge
    from monitors.prometheus.client import PrometheusClient

    until = past_time(at, "--at", now=datetime.now(UTC))
    found = judge(model, until=until, db=database(), prometheus=PrometheusClient(settings().prometheus_url))
    if as_json:
        print(json.dumps(_plain(model, found), indent=1))  # noqa: T201 for a program
    else:
        _tell(model, found)


def _plain(model: str, found: "Check") -> Any:
    decision = found.decision
    return plain(
        {
            "model": model,
            "window": {"start": found.window.start.isoformat(), "end": found.window.end.isoformat()},
            "champion_version": found.champion_version,
            "signals": {
                each.signal: {
                    "condition": each.condition,
                    "reason": each.reason,
                    "score": each.score,
                    "limit": each.limit,
                    "confirmed": each.signal in found.confirmed,
                    "evidence": each.evidence,
                }
                for each in found.verdicts
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
    _print(f"{escape(model)}, {served}, window {found.window}: a dry run, nothing is written")
    for each in found.verdicts:
        style = _STYLES.get(each.condition, "magenta")
        confirmed = " [bold](confirmed)[/]" if each.signal in found.confirmed else ""
        _print(f"[{style}]{each.condition:8}[/] [bold]{escape(each.signal)}[/] {escape(each.reason)}{confirmed}")
    if found.held is not None:
        _print(f"triage would not decide now: {escape(found.held)}")
    elif found.decision is None:
        _print("triage would have nothing to decide: nothing stands")
    else:
        when = "would say" if found.confirmed or found.incident_id is not None else "would say, were it confirmed"
        _print(f"triage {when}: {found.decision.action} ({found.decision.cause}): {escape(found.decision.reason)}")
    if found.incident_id is not None:
        _print(f"incident {found.incident_id} is open already")


def _print(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)
