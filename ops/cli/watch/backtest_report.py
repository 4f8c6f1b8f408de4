"""What a backtest gave, for a person and for a program."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from datasets_defs.spec.signals import DriftSpec
from datasets_defs.store.sketch_log import SINGLE_DAYS, single_since
from monitors.replay.outcome import SIGNALS, Backtest, Difference, Judged, ReplayedIncident, Score
from ops.cli.shared import tables
from ops.cli.watch.evidence_plot import terminal

LISTED = 10
"""Differences that are listed for a person."""


def tell(model: str, result: Backtest, tried: DriftSpec | None, idle: list[str], *, now: datetime) -> None:
    """Print it for a person."""
    windows = result.windows
    replayed = sum(window.is_replayed for window in windows)
    by = "another policy" if tried is not None else "the live policy"
    tables.say(f"[bold]{tables.escape(model)}[/], {tables.counted(replayed, 'window')} by {by}: nothing is written")
    _tell_what_stands(windows, single_since(now))
    for sentence in idle:
        tables.say(f"[yellow]without effect here:[/] {tables.escape(sentence)}")
    tables.console.print(terminal(result, width=tables.console.width))
    for signal in SIGNALS:
        conditions = [str(window.verdicts[signal].condition) for window in windows]
        counts = ", ".join(f"{conditions.count(name)} {name}" for name in dict.fromkeys(conditions))
        tables.say(f"{signal:6} {counts}")
    retrains = sum(incident.retrain_at is not None for incident in result.incidents)
    tables.say(f"{tables.counted(len(result.incidents), 'incident')}, {tables.counted(retrains, 'retrain')}")
    for incident in result.incidents:
        tables.plainly(f"  {_sentence(incident)}")
    _tell_score(result)
    _tell_differences(result, tried)


def _tell_what_stands(windows: Sequence[Judged], since: datetime) -> None:
    """Say of which windows the recorded verdicts stand, whatever the policy, and why."""
    standing = [window for window in windows if not window.is_replayed]
    if old := sum(window.window.end <= since for window in standing):
        tables.say(
            f"[yellow]{old} more ended by {since:%Y-%m-%d}[/]: windows are kept one by one for {SINGLE_DAYS} days, "
            "then added up by the day. Their recorded verdicts stand, under any policy"
        )
    if rest := len(standing) - old:
        tables.say(f"{rest} more had no counts, or have none any more: their recorded verdicts stand")


def _sentence(incident: ReplayedIncident) -> str:
    end = f"until {incident.closed_at:%Y-%m-%d %H:%M}Z" if incident.closed_at is not None else "open at the end"
    retrain = f"; retrain at {incident.retrain_at:%Y-%m-%d %H:%M}Z" if incident.retrain_at is not None else ""
    names = ", ".join(incident.signals)
    return f"{incident.opened_at:%Y-%m-%d %H:%M}Z {names}, {end}: {incident.decision.reason}{retrain}"


def _tell_score(result: Backtest) -> None:
    if result.score is None:
        return
    for shift, delay in zip(result.score.shifts, result.score.delays, strict=True):
        outcome = f"confirmed after {delay / timedelta(hours=1):.1f} h" if delay is not None else "not seen"
        tables.say(f"shift from {shift.start:%Y-%m-%d %H:%M}Z: {outcome}")
    alarms, retrains = result.score.false_alarms, result.score.false_retrains
    tables.say(f"{tables.counted(alarms, 'false alarm')}, {tables.counted(retrains, 'false retrain')}")


def _tell_differences(result: Backtest, tried: DriftSpec | None) -> None:
    if not result.differences:
        tables.say(f"[green]all {result.compared} recorded verdicts come out again exactly[/]")
        return
    tables.say(f"[yellow]{len(result.differences)} of {result.compared} recorded verdicts come out differently[/]")
    listed = result.differences
    if tried is None:
        tables.say("The policy, the profile or the program has changed since.")
    else:
        listed = tuple(difference for difference in listed if "condition" in difference.fields)
        tables.say(f"{len(listed)} of them have another condition")
    for difference in listed[:LISTED]:
        tables.say(f"  {difference.window} {difference.signal} ({', '.join(difference.fields)})")
        tables.plainly(f"    recorded {difference.recorded}\n    replayed {difference.replayed}")
    if len(listed) > LISTED:
        tables.say(f"  … and {len(listed) - LISTED} more; --json lists all")


def as_plain(model: str, result: Backtest, tried: DriftSpec | None, idle: list[str], *, now: datetime) -> Any:
    """Give all of it as a program reads it."""
    return {
        "model": model,
        "policy": tried.model_dump() if tried is not None else None,
        "without_effect": idle,
        "one_by_one_since": single_since(now).isoformat(),
        "windows": [_plain_window(window) for window in result.windows],
        "incidents": [_plain_incident(incident) for incident in result.incidents],
        "retrains": sum(incident.retrain_at is not None for incident in result.incidents),
        "score": _plain_score(result.score) if result.score is not None else None,
        "compared": result.compared,
        "differences": [_plain_difference(difference) for difference in result.differences],
    }


def _plain_window(window: Judged) -> dict[str, Any]:
    return {
        "start": window.window.start.isoformat(),
        "end": window.window.end.isoformat(),
        "champion_version": window.version,
        "replayed": window.is_replayed,
        "signals": {
            name: {"condition": verdict.condition, "reason": verdict.reason, "score": verdict.score,
                   "limit": verdict.limit, "evidence": verdict.evidence}
            for name, verdict in window.verdicts.items()
        },
    }  # fmt: skip


def _plain_score(score: Score) -> dict[str, Any]:
    return {
        "shifts": [
            {"start": shift.start.isoformat(), "end": shift.end.isoformat(),
             "delay_seconds": delay.total_seconds() if delay is not None else None}
            for shift, delay in zip(score.shifts, score.delays, strict=True)
        ],
        "false_alarms": score.false_alarms,
        "false_retrains": score.false_retrains,
    }  # fmt: skip


def _plain_incident(incident: ReplayedIncident) -> dict[str, Any]:
    times = {"opened_at": incident.opened_at, "degraded_since": incident.degraded_since,
             "closed_at": incident.closed_at, "retrain_at": incident.retrain_at}  # fmt: skip
    return {
        **{name: at.isoformat() if at is not None else None for name, at in times.items()},
        "signals": list(incident.signals),
        "cause": incident.decision.cause,
        "action": incident.decision.action,
        "reason": incident.decision.reason,
    }


def _plain_difference(difference: Difference) -> dict[str, Any]:
    return {
        "start": difference.window.start.isoformat(),
        "end": difference.window.end.isoformat(),
        "signal": difference.signal,
        "fields": list(difference.fields),
        "recorded": difference.recorded,
        "replayed": difference.replayed,
    }
