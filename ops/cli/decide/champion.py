"""Commands that change which version serves: promote, rollback, drill."""

from typing import Annotated

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import Model, Reason, person, require_known
from ops.cli.shared.panels import Panel, add

CHAMPION_CHANGED = "champion_changed"
"""Name of the Asset that wakes what follows a change of champion."""


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    add(
        app, promote, Panel.DECIDE,
        'driftloop promote docs-writer 7 --reason "trained on the new manual"',
        'driftloop promote docs-writer 7 --reason "needed today" --force',
    )  # fmt: skip
    add(app, rollback, Panel.DECIDE, 'driftloop rollback docs-writer --reason "answers in French"')
    add(app, drill, Panel.DECIDE, "driftloop drill docs-writer")


def promote(
    model: Model,
    version: Annotated[int, typer.Argument(help="Version in the registry, as `driftloop train` printed it.")],
    reason: Reason,
    force: Annotated[bool, typer.Option("--force", help="Promote against the gate's no. It is recorded.")] = False,
) -> None:
    """Judge a version against the champion and, if the gate accepts it, make it champion; wait until serving confirms.

    It is on probation then, like the loop's own challengers, and rolled back if it does worse.
    Exit code 1: the version did not become champion.
    """
    from ops.stack.database import database
    from ops.stack.wake import ring
    from training.by_hand.promote import by_hand
    from training.registry.card import write

    require_known(model)
    db = database()
    with tables.console.status(f"offering version {version}") as line:
        outcome = by_hand(model, version, db=db, actor=person(), reason=reason, force=force, tell=line.update)
        if outcome.ring is not None:
            ring(CHAMPION_CHANGED, outcome.ring)
            write(str(outcome.ring), db=db)
    tables.plainly(outcome.reason, style=None if outcome.is_champion else "red")
    if not outcome.is_champion:
        raise typer.Exit(1)
    tables.plainly(f'  undo: driftloop rollback {model} --reason "…"', style="dim")


def rollback(model: Model, reason: Reason) -> None:
    """Make the previous champion serve again, and wait until serving confirms it."""
    from ops.stack.database import database
    from training.roll_back import roll_back_by_hand

    require_known(model)
    with tables.console.status("rolling back"):
        outcome = roll_back_by_hand(model, db=database(), actor=person(), reason=reason)
    tables.plainly(outcome.reason)


def drill(model: Model) -> None:
    """Practise a rollback: the previous champion serves for a moment, then the champion again. Both ways are timed.

    Exit code 1: the drill failed.
    """
    from ops.stack.database import database
    from training.champions.drill import drill as run

    with tables.console.status("drilling"):
        outcome = run(model, db=database(), actor=person())
    tables.plainly(outcome.reason, style="green" if outcome.is_good else "red")
    if not outcome.is_good:
        raise typer.Exit(1)
