"""The command that judges past windows again, with the labels that have come since."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import AsJson, Model
from ops.cli.shared.panels import Panel, add
from ops.cli.shared.times import past_time

if TYPE_CHECKING:
    from datasets_defs.core.conditions import Verdict
    from monitors.labels.judge import Rescored


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    add(app, rescore, Panel.DATA, "driftloop rescore docs-writer --since 2026-05-01")


def rescore(
    model: Model,
    since: Annotated[str, typer.Option(help="Windows that ended after this ISO 8601 time (UTC).")],
    until: Annotated[str | None, typer.Option(help="Windows that were complete at this time. Without it: now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge the labels of past windows again, with those that came late; replace their verdicts, print what changed."""
    from datasets_defs.core.errors import ContractError
    from monitors.labels.judge import rescore as run
    from ops.stack.database import database

    now = datetime.now(UTC)
    begin, end = past_time(since, "--since", now=now), past_time(until, "--until", now=now)
    if begin >= end:
        raise ContractError(f"--since {begin:%Y-%m-%dT%H:%M:%SZ} is not before --until {end:%Y-%m-%dT%H:%M:%SZ}")
    changed = run(model, since=begin, until=end, db=database())
    if as_json:
        tables.print_json([_plain(change) for change in changed])
    else:
        _tell(model, changed)


def _plain(change: "Rescored") -> Any:
    from datasets_defs.core.plain import plain

    window = {"start": change.after.window.start.isoformat(), "end": change.after.window.end.isoformat()}
    both = {"before": _plain_verdict(change.before), "after": _plain_verdict(change.after)}
    return plain({"signal": change.after.signal, "window": window, **both})


def _plain_verdict(verdict: "Verdict | None") -> dict[str, Any] | None:
    if verdict is None:
        return None
    names = ("condition", "reason", "score", "limit", "champion_version", "evidence")
    return {name: getattr(verdict, name) for name in names}


def _tell(model: str, changed: "list[Rescored]") -> None:
    for change in changed:
        before = "none" if change.before is None else _condition(change.before)
        signal, reason = tables.escape(change.after.signal), tables.escape(change.after.reason)
        tables.say(f"{change.after.window} [bold]{signal}[/] {before} → {_condition(change.after)} {reason}")
    turned = sum(change.before is None or change.before.condition is not change.after.condition for change in changed)
    tables.plainly(f"{model}: {len(changed)} verdicts changed, {turned} in their condition; this opens no incident")


def _condition(verdict: "Verdict") -> str:
    score = "" if verdict.score is None else f" {verdict.score:.3f}"
    return tables.coloured(verdict.condition, f"{verdict.condition}{score}")
