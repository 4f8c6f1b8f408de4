"""What a backtest gave, for a person and for a program."""

from datetime import timedelta
from typing import Any

from datasets_defs.spec.signals import DriftSpec
from monitors.replay.outcome import SIGNALS, Backtest, Difference, ReplayedIncident
from ops.cli.shared import tables
from ops.cli.watch.evidence_plot import terminal

LISTED = 10
"""Differences that are listed for a person."""


def tell(model: str, found: Backtest, tried: DriftSpec | None, idle: list[str]) -> None:
    """Print it for a person."""
    windows = found.windows
    replayed = sum(each.is_replayed for each in windows)
    by = "another policy" if tried is not None else "the live policy"
    tables.say(f"[bold]{tables.escape(model)}[/], {tables.counted(replayed, 'window')} by {by}: nothing is written")
    if replayed < len(windows):
        tables.say(f"{len(windows) - replayed} more had no counts, or have none any more: what was said of them stands")
    for sentence in idle:
        tables.say(f"[yellow]without effect here:[/] {tables.escape(sentence)}")
    tables.console.print(terminal(found, width=tables.console.width))
    for signal in SIGNALS:
        said = [str(each.verdicts[signal].condition) for each in windows]
        counts = ", ".join(f"{said.count(name)} {name}" for name in dict.fromkeys(said))
        tables.say(f"{signal:6} {counts}")
    retrains = sum(each.retrain_at is not None for each in found.incidents)
    tables.say(f"{tables.counted(len(found.incidents), 'incident')}, {tables.counted(retrains, 'retrain')}")
    for incident in found.incidents:
        tables.say(f"  {tables.escape(_sentence(incident))}")
    _tell_score(found)
    _tell_differences(found, tried)


def _sentence(incident: ReplayedIncident) -> str:
    end = f"until {incident.closed_at:%Y-%m-%d %H:%M}Z" if incident.closed_at is not None else "open at the end"
    retrain = f"; retrain at {incident.retrain_at:%Y-%m-%d %H:%M}Z" if incident.retrain_at is not None else ""
    names = ", ".join(incident.signals)
    return f"{incident.opened_at:%Y-%m-%d %H:%M}Z {names}, {end}: {incident.decision.reason}{retrain}"


def _tell_score(found: Backtest) -> None:
    if found.score is None:
        return
    for shift, delay in zip(found.score.shifts, found.score.delays, strict=True):
        said = f"confirmed after {delay / timedelta(hours=1):.1f} h" if delay is not None else "not seen"
        tables.say(f"shift from {shift.start:%Y-%m-%d %H:%M}Z: {said}")
    alarms, retrains = found.score.false_alarms, found.score.false_retrains
    tables.say(f"{tables.counted(alarms, 'false alarm')}, {tables.counted(retrains, 'false retrain')}")


def _tell_differences(found: Backtest, tried: DriftSpec | None) -> None:
    if not found.differences:
        tables.say(f"[green]all {found.compared} recorded verdicts come out again exactly[/]")
        return
    tables.say(f"[yellow]{len(found.differences)} of {found.compared} recorded verdicts come out differently[/]")
    listed = found.differences
    if tried is None:
        tables.say("The policy, the profile or the program has changed since.")
    else:
        listed = tuple(each for each in listed if "condition" in each.fields)
        tables.say(f"{len(listed)} of them have another condition")
    for each in listed[:LISTED]:
        tables.say(f"  {each.window} {each.signal} ({', '.join(each.fields)})")
        tables.say(f"    recorded {tables.escape(each.recorded)}\n    replayed {tables.escape(each.replayed)}")
    if len(listed) > LISTED:
        tables.say(f"  … and {len(listed) - LISTED} more; --json lists all")


def as_plain(model: str, found: Backtest, tried: DriftSpec | None, idle: list[str]) -> Any:
    """Give all of it as a program reads it."""
    score = found.score
    return {
        "model": model,
        "policy": tried.model_dump() if tried is not None else None,
        "without_effect": idle,
        "windows": [
            {
                "start": each.window.start.isoformat(),
                "end": each.window.end.isoformat(),
                "champion_version": each.version,
                "replayed": each.is_replayed,
                "signals": {
                    name: {"condition": verdict.condition, "reason": verdict.reason, "score": verdict.score,
                           "limit": verdict.limit, "evidence": verdict.evidence}
                    for name, verdict in each.verdicts.items()
                },
            }
            for each in found.windows
        ],
        "incidents": [_plain_incident(each) for each in found.incidents],
        "retrains": sum(each.retrain_at is not None for each in found.incidents),
        "score": None
        if score is None
        else {
            "shifts": [
                {"start": shift.start.isoformat(), "end": shift.end.isoformat(),
                 "delay_seconds": delay.total_seconds() if delay is not None else None}
                for shift, delay in zip(score.shifts, score.delays, strict=True)
            ],
            "false_alarms": score.false_alarms,
            "false_retrains": score.false_retrains,
        },
        "compared": found.compared,
        "differences": [_plain_difference(each) for each in found.differences],
    }  # fmt: skip


def _plain_incident(each: ReplayedIncident) -> dict[str, Any]:
    times = {"opened_at": each.opened_at, "degraded_since": each.degraded_since,
             "closed_at": each.closed_at, "retrain_at": each.retrain_at}  # fmt: skip
    return {
        **{name: at.isoformat() if at is not None else None for name, at in times.items()},
        "signals": list(each.signals),
        "cause": each.decision.cause,
        "action": each.decision.action,
        "reason": each.decision.reason,
    }


def _plain_difference(each: Difference) -> dict[str, Any]:
    return {
        "start": each.window.start.isoformat(),
        "end": each.window.end.isoformat(),
        "signal": each.signal,
        "fields": list(each.fields),
        "recorded": each.recorded,
        "replayed": each.replayed,
    }
