"""The command that shows the pipelines beside the loop."""

from typing import Annotated

import typer

from ops.cli.shared.panels import Panel, add


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    add(app, pipelines, Panel.STACK, "driftloop pipelines", "driftloop pipelines --only generate_texts")


def pipelines(
    only: Annotated[str, typer.Option(help="Part of a pipeline's name; without it, all of them.")] = "",
) -> None:
    """Show the pipelines beside the loop on the demo's stack, on real texts, and what each of them made."""
    from ops.pipelines import run as show

    raise typer.Exit(show.run(only))
