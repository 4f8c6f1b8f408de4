"""The panels of `driftloop --help`, and the one way in which a command gets into one."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

import typer


class Panel(StrEnum):
    """What a command is for; the folder that holds the command has the same name."""

    WATCH = "Watch"
    DECIDE = "Decide"
    TRAIN = "Train"
    DATA = "Data"
    SERVE = "Serve"
    STACK = "Stack"


def add(
    app: typer.Typer, command: Callable[..., Any], panel: Panel | None, *examples: str, name: str | None = None
) -> None:
    """Add a command to a panel; each example is a whole command line that stands at the end of the command's help."""
    app.command(name, rich_help_panel=panel, epilog=epilog(examples))(command)


def epilog(examples: Sequence[str]) -> str:
    """Write examples as typer prints them: one line each."""
    return "\n\n".join(["[bold]Examples[/]", *(f"[dim]$[/] {example}" for example in examples)])
