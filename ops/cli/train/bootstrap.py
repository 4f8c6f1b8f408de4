"""The command that makes first champions: `driftloop bootstrap`."""

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import SomeModel
from ops.cli.shared.panels import Panel, add


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    add(app, bootstrap, Panel.TRAIN, "driftloop bootstrap docs-writer", "driftloop bootstrap")


def bootstrap(model: SomeModel = None) -> None:
    """Make the first champion of a model, or of every model that has none.

    Exit code 1: a model could not get one.
    """
    from datasets_defs.ledger.ledger import Ledger
    from datasets_defs.spec.files import spec_of
    from ops.stack.database import database
    from ops.stack.first_champions import bootstrap_all

    if model is not None:
        spec_of(model)
        if (champion := Ledger(database()).champion(model)) is not None:
            tables.plainly(f"{model}: version {champion.version} is champion already")
            return
    problems = bootstrap_all(tables.console, model)
    for problem in problems:
        tables.plainly(problem, style="red")
    if problems:
        raise typer.Exit(1)
