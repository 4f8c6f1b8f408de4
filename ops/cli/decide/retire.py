"""Commands about a model's whole life: retire, bring-back."""

from typing import Annotated

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import Model, Reason, person
from ops.cli.shared.panels import Panel, add


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    add(
        app, retire, Panel.DECIDE,
        'driftloop retire docs-writer --reason "replaced by docs-writer-2"',
        'driftloop retire docs-writer --close-route --reason "nobody asks"',
    )  # fmt: skip
    add(app, bring_back, Panel.DECIDE, 'driftloop bring-back docs-writer --reason "wanted again"')


def retire(
    model: Model,
    reason: Reason,
    close_route: Annotated[
        bool,
        typer.Option(
            "--close-route",
            help="The gateway answers no requests for it, and driftloop's own server lets go of it.",
        ),
    ] = False,
    drop_aliases: Annotated[
        bool,
        typer.Option("--drop-aliases", help="Take away the loop's aliases in MLflow. Without it they stay."),
    ] = False,
) -> None:
    """Leave a model alone for good: its incident ends, its trainers stop, and nothing of it is erased.

    Nothing is judged, trained, promoted or told any more. Its file in models/ may stay or go.
    """
    from datasets_defs.ledger.ledger import Ledger
    from datasets_defs.ledger.retiring import retire as end
    from ops.stack.database import database
    from training.champions.retired import drop_aliases as drop

    db = database()
    retirement = end(
        Ledger(db), model, closes_route=close_route, drops_aliases=drop_aliases, actor=person(), reason=reason
    )
    tables.plainly(f"{retirement}.")
    if drop_aliases and (words := drop(db, actor=person()).get(model)):
        tables.plainly(f"  {words}")
    tables.plainly(f"  undo: driftloop bring-back {model}", style="dim")


def bring_back(model: Model, reason: Reason = "brought back on the command line") -> None:
    """Let the loop act on a retired model again. What was missed is judged first, the newest eight days of it."""
    from datasets_defs.ledger.ledger import Ledger
    from datasets_defs.ledger.retiring import bring_back as begin
    from datasets_defs.spec.files import spec_of
    from ops.stack.database import database

    spec_of(model)
    if begin(Ledger(database()), model, actor=person(), reason=reason):
        tables.plainly(f"{model} is back; within minutes the loop watches it, and sets its aliases right")
    else:
        tables.plainly(f"{model} is not retired")
