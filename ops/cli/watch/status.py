"""The command that shows how everything stands: `driftloop status`."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import AsJson
from ops.cli.shared.panels import Panel, add

WORST_FIRST = ("BAD", "STALE", "NO_DATA", "WARN", "OK")
"""Conditions in the order in which `status` names them."""
NAME_CELLS = 24
"""Longest name of a model in the short form; a longer one is cut in its middle."""


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    add(app, status, Panel.WATCH, "driftloop status", "driftloop status --wide", "driftloop status --json")


def status(
    wide: Annotated[bool, typer.Option("--wide", help="Show every signal and every sentence in full.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show components, models with their worst signal, open incidents and unsent messages."""
    from ops.cli.watch.status_report import collect

    report = collect()
    if as_json:
        tables.print_json(report)
    else:
        show(report, wide=wide)


def show(report: Mapping[str, Any], *, wide: bool = False) -> None:
    """Print the report: in the width of the terminal with one line for each model, or in full."""
    _show_components(report, wide=wide)
    models = report["models"]
    if models:
        tables.console.print(_wide_models(models) if wide else _short_models(models), highlight=False)
        for line in _remarks(models, wide=wide):
            tables.say(line)
    if report["alerts_unsent"]:
        _show_messages(report, wide=wide)
    if wide:
        tables.console.print(_places(report["retention"]), highlight=False)
    for problem in report["problems"]:
        tables.plainly(problem, style="red")


def _show_components(report: Mapping[str, Any], *, wide: bool) -> None:
    if not report["components"]:
        tables.plainly(f"No stack in {report['home']}. Start one with `make up` or `make demo`.")
        return
    made = tables.table("component", "state", "address", "answer")
    taken = max(len(name) for name in report["components"]) + max(map(len, report["urls"].values()), default=0)
    room = tables.console.width - taken - len("backoff") - 6
    for name, item in report["components"].items():
        state = tables.coloured("OK" if item["healthy"] else "BAD", item["state"].lower())
        answer = item["detail"] if wide else tables.shortened(item["detail"], room)
        made.add_row(name, state, report["urls"].get(name, ""), tables.escape(answer))
    tables.console.print(made, highlight=False)


def _short_models(models: Mapping[str, Any]) -> Any:
    """One line for each model, in the width of the terminal: its worst signal, and the reason as far as it fits."""
    made = tables.table("model", "champion", "worst signal", "incident")
    rows = [(tables.middle_cut(name, NAME_CELLS), _champion(item), _incident(item)) for name, item in models.items()]
    taken = sum(max(len("champion"), *(len(row[column]) for row in rows)) for column in range(3))
    room = tables.console.width - taken - 6
    for row, item in zip(rows, models.values(), strict=True):
        condition, sentence = worst_signal(item["conditions"])
        reason = tables.escape(tables.shortened(sentence, room - len(condition) - 1))
        made.add_row(tables.escape(row[0]), row[1], f"{tables.coloured(condition)} {reason}".strip(), row[2])
    return made


def worst_signal(signals: Mapping[str, Any]) -> tuple[str, str]:
    """Give the worst condition among a model's signals, and a sentence: which signal, how many more, and why."""
    for condition in WORST_FIRST:
        names = [name for name, signal in signals.items() if signal["condition"] == condition]
        if not names:
            continue
        if condition == "OK":
            return condition, tables.counted(len(names), "signal")
        others = f" (+{len(names) - 1})" if len(names) > 1 else ""
        return condition, f"{names[0]}{others}: {signals[names[0]]['reason']}"
    return "", "nothing judged yet"


def _wide_models(models: Mapping[str, Any]) -> Any:
    made = tables.table("model", "champion", "signals", "incident", "next")
    for name, item in models.items():
        since = f"\nsince {item['since'][:16]}" if item["since"] else ""
        signals = "\n".join([*_signal_lines(item["conditions"]), *_sight_lines(item.get("sight"))])
        signals = signals or "nothing judged yet"
        made.add_row(tables.escape(name), _champion(item) + since, signals, _incident(item), _next(item["next"], "\n"))
    return made


def _places(places: Mapping[str, Any]) -> Any:
    """One line for each place that holds users' texts or grows."""
    made = tables.table("place", "holds", "kept")
    for name, place in places.items():
        made.add_row(name, place["holds"], place["kept"])
    return made


def _sight_lines(sight: Mapping[str, Any] | None) -> Iterator[str]:
    """Say how much the newest window could have seen, where that is not all."""
    if sight is None or sight["state"] == "good":
        return
    yield f"sight: {sight['state']}"
    if sight.get("drift_sd") is not None:
        ratio = f", a loss {sight['loss_ratio']:.2f} times the usual" if sight.get("loss_ratio") else ""
        yield f"alone it sees a shift of {sight['drift_sd']:.2f} sd{ratio}"


def _signal_lines(signals: Mapping[str, Any]) -> Iterator[str]:
    """Name the signals under their condition, the worst first, with the reasons of those that are not OK."""
    for condition in WORST_FIRST:
        those = {name: signal for name, signal in signals.items() if signal["condition"] == condition}
        if condition == "OK" and those:
            names = tables.escape(", ".join(those))
            yield f"{tables.coloured(condition)} {names}"
        elif condition != "OK":
            for name, signal in those.items():
                reason = tables.escape(f"{name}: {signal['reason']}")
                yield f"{tables.coloured(condition)} {reason}"


def _champion(item: Mapping[str, Any]) -> str:
    if not item["champion_version"]:
        return "none"
    doubt = f" ({item['serving']})" if item.get("serving") not in (None, "confirmed") else ""
    return f"v{item['champion_version']}{doubt}"


def _incident(item: Mapping[str, Any]) -> str:
    return f"{item['incident']['id']} {item['incident']['state']}" if item["incident"] else "none"


def _next(outlook: Mapping[str, Any], between: str) -> str:
    at = f"{between}{outlook['at'][:19]}Z" if outlook["at"] else ""
    return tables.escape(f"{outlook['action']}{at}")


def _remarks(models: Mapping[str, Any], *, wide: bool) -> Iterator[str]:
    """What does not fit into a line: pauses, what happens next in an incident, and problems."""
    for name, item in models.items():
        if item.get("retired"):
            yield f"[yellow]{tables.escape(item['retired'])}[/]"
        if item["paused_until"]:
            yield f"{tables.escape(name)}: [yellow]paused until {item['paused_until'][:16]}[/]"
        if item["incident"] and not wide:
            yield f"{tables.escape(name)}: next: {_next(item['next'], ', ')}"
        if item.get("other_base"):
            yield f"[yellow]{tables.escape(name + ': ' + item['other_base'])}[/]"
        for problem in item["problems"]:
            yield f"[red]{tables.escape(f'{name}: {problem}')}[/]"


def _show_messages(report: Mapping[str, Any], *, wide: bool) -> None:
    tables.say(f"[bold]{tables.counted(report['alerts_unsent'], 'message')} not sent to Slack[/], the latest:")
    for alert in report["alerts"]:
        text = alert["text"] if wide else alert["text"].splitlines()[0]
        line = f"{alert['at'][:19]} {alert['severity']}: {text}"
        tables.plainly("  " + (line if wide else tables.shortened(line, tables.console.width - 2)))
