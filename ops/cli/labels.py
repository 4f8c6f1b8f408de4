"""The command that judges past windows again, with the labels that have come since."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from datasets_defs.core.conditions import Verdict
from datasets_defs.core.errors import ContractError
from datasets_defs.core.plain import plain
from ops.cli.models import Model
from ops.cli.times import past_time
from ops.stack.database import database

if TYPE_CHECKING:
    from monitors.labels.judge import Rescored

console = Console()
_STYLES = {"OK": "green", "WARN": "yellow", "BAD": "red"}


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(rescore)


def rescore(
    model: Model,
    since: Annotated[str, typer.Option(help="Windows that ended after this ISO 8601 time (UTC).")],
    until: Annotated[str | None, typer.Option(help="… and were complete at this one; now.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Judge the labels of past windows again, late ones too; replace their verdicts and print what changed."""
    from monitors.labels.judge import rescore as run

    now = datetime.now(UTC)
    begin, end = past_time(since, "--since", now=now), past_time(until, "--until", now=now)
    if begin >= end:
        raise ContractError(f"--since {begin:%Y-%m-%dT%H:%M:%SZ} is not before --until {end:%Y-%m-%dT%H:%M:%SZ}")
    changed = run(model, since=begin, until=end, db=database())
    if as_json:
        print(json.dumps([_plain(each) for each in changed], indent=1))  # noqa: T201 for a program
    else:
        _tell(model, changed)


def _plain(change: "Rescored") -> Any:
    window = {"start": change.after.window.start.isoformat(), "end": change.after.window.end.isoformat()}
    both = {"before": _said(change.before), "after": _said(change.after)}
    return plain({"signal": change.after.signal, "window": window, **both})


def _said(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    names = ("condition", "reason", "score", "limit", "champion_version", "evidence")
    return {name: getattr(verdict, name) for name in names}


def _tell(model: str, changed: "list[Rescored]") -> None:
    for each in changed:
        before = "none" if each.before is None else _condition(each.before)
        signal, reason = escape(each.after.signal), escape(each.after.reason)
        _print(f"{each.after.window} [bold]{signal}[/] {before} → {_condition(each.after)} {reason}")
    turned = sum(each.before is None or each.before.condition is not each.after.condition for each in changed)
    _print(f"{escape(model)}: {len(changed)} verdicts changed, {turned} in their condition; no incident opens by this")


def _condition(verdict: Verdict) -> str:
    score = "" if verdict.score is None else f" {verdict.score:.3f}"
    return f"[{_STYLES.get(verdict.condition, 'magenta')}]{verdict.condition}{score}[/]"


def _print(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)
