"""The command that practises a rollback."""

import getpass

import typer
from rich.console import Console
from rich.markup import escape

from ops.cli.models import Model
from ops.stack.database import database

console = Console()


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(drill)


def drill(model: Model) -> None:
    """Practise a rollback: the previous champion serves for a moment, then the champion again; both ways are timed."""
    from training.champions.drill import drill as run

    with console.status("drilling"):
        found = run(model, db=database(), actor=f"cli:{getpass.getuser()}")
    console.print(escape(found.reason), highlight=False, style="green" if found.is_good else "red")
    if not found.is_good:
        raise typer.Exit(1)
