"""Commands that move a model to another installation: export, import."""

from pathlib import Path
from typing import Annotated

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import Model, person
from ops.cli.shared.panels import Panel, add


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    add(
        app, export, Panel.DECIDE,
        "driftloop export docs-writer /mnt/docs-writer.tar",
        "driftloop export docs-writer ./docs-writer-moved",
    )  # fmt: skip
    add(app, import_model, Panel.DECIDE, "driftloop import /mnt/docs-writer.tar", name="import")


def export(
    model: Model,
    target: Annotated[Path, typer.Argument(help="A folder to be made, or a file whose name ends in .tar.")],
) -> None:
    """Write a model's record, profiles, references, versions and YAML into one archive. Nothing here changes.

    Requests and feedback of users, secrets and training rows stay behind. Retire the model here before it goes on
    elsewhere.
    """
    from ops.moving.leaving import export as write
    from ops.stack.database import database

    with tables.console.status(f"exporting {model}") as line:
        made, was_there = write(model, target, db=database(), tell=line.update)
    tables.plainly(f"{target} {'is there already' if was_there else 'is written'}: {made}")
    for version, why in made.left.items():
        tables.plainly(f"  version {version} stays behind: {why}", style="yellow")
    tables.plainly(f"  newest event: {made.head}", style="dim")
    tables.plainly(f"  there: driftloop import {target.name}", style="dim")


def import_model(
    archive: Annotated[Path, typer.Argument(help="The folder or .tar file that `driftloop export` wrote.")],
) -> None:
    """Take in a model that another installation exported: same history, versions, profiles and verdicts.

    Everything is checked before anything is written. A model that is here already is refused.
    """
    from ops.moving.arriving import import_model as take_in
    from ops.stack.database import database

    with tables.console.status(f"importing {archive}") as line:
        done = take_in(archive, db=database(), actor=person(), tell=line.update)
    tables.plainly(f"{'it is here already' if done.was_here else 'imported'}: {done.archive}")
    tables.plainly(f"  newest event: {done.archive.head}", style="dim")
    tables.plainly(f"  champion: version {done.archive.champion}; look at it: driftloop status {done.archive.model}",
                   style="dim")  # fmt: skip
