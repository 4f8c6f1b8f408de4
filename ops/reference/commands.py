"""The page on the command line: each command with its arguments, options, exit codes and examples."""

import re
from collections.abc import Iterator
from typing import Any

import typer.main

from ops.cli.main import app
from ops.cli.shared.panels import Panel
from ops.reference.markdown import code, page, prose, table

LEAD = (
    "`driftloop COMMAND --help` prints the same. Exit code 0: done. 1: a mistake, told in one sentence on stderr, or "
    "what the command names below. 2: the command line itself is wrong. `--install-completion` completes commands and "
    "models' names."
)


def write() -> str:
    """Write the page, panel by panel."""
    parts = []
    for panel in Panel:
        commands = [item for item in walk() if item[1] == panel]
        parts += [f"## {panel}", *(_command(name, command) for name, _, command in commands)]
    return page("Commands", LEAD, *parts)


def walk() -> Iterator[tuple[str, str, Any]]:
    """Give (name, panel, command) of every command, those of groups under their whole name."""
    root: Any = typer.main.get_command(app)
    for name, command in root.commands.items():
        panel = str(getattr(command, "rich_help_panel", "") or "")
        if hasattr(command, "commands"):
            for child, inner in command.commands.items():
                yield f"{name} {child}", panel, inner
        else:
            yield name, panel, command


def _command(name: str, command: Any) -> str:
    text, codes = _exit_codes(command.help or "")
    shown = [item for item in command.params if not item.hidden and item.name != "help"]
    rows = [(code(_spelling(item)), _form(item), getattr(item, "help", None) or "") for item in shown]
    parts = [f"### driftloop {name}", prose(text)]
    if rows:
        parts.append(table(("argument or option", "form", "meaning"), rows))
    if codes:
        parts.append(f"Exit code 1: {codes}")
    if examples := re.findall(r"^\[dim\]\$\[/\] (.+)$", command.epilog or "", re.MULTILINE):
        parts.append("```\n" + "\n".join(examples) + "\n```")
    return "\n\n".join(parts)


def _exit_codes(help_text: str) -> tuple[str, str]:
    text, _, codes = help_text.partition("Exit code 1: ")
    return text, " ".join(codes.split())


def _spelling(item: Any) -> str:
    return ", ".join(item.opts) if item.opts and item.opts[0].startswith("-") else str(item.name).upper()


def _form(item: Any) -> str:
    kind = "flag" if getattr(item, "is_flag", False) else _type(item)
    if item.required:
        return f"{kind}, required"
    default = item.default
    if default in (None, False) or callable(default):
        return kind
    return f"{kind}, default {code(str(default))}"


def _type(item: Any) -> str:
    """Name the type of an argument's or option's value, such as `str` or `path`."""
    annotation = item.type_descriptor.annotation
    return str(getattr(annotation, "__name__", annotation)).lower()
