"""The command that offers a version which others made."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import Model, Reason, person
from ops.cli.shared.panels import Panel, add
from ops.cli.shared.times import past_time

if TYPE_CHECKING:
    from training.by_hand.offer import OfferByHand

CHAMPION_CHANGED = "champion_changed"
"""Name of the Asset that wakes what follows a change of champion."""


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    add(
        app, offer, Panel.DECIDE,
        'driftloop offer docs-writer ./tuned --reason "new data"',
        'driftloop offer docs-writer 12 --training-data t.jsonl --reason "research"',
    )  # fmt: skip


def offer(
    model: Model,
    what: Annotated[
        str, typer.Argument(help="A folder with the model or a LoRA adapter, or a version's number in MLflow.")
    ],
    reason: Reason,
    trained_until: Annotated[
        str | None,
        typer.Option(help="ISO 8601 time when its training data ended. Only later rows of the log judge it."),
    ] = None,
    training_data: Annotated[
        str | None,
        typer.Option(help="File or pattern of its training data, as a corpus may be. Copies of it judge nothing."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Promote against the gate's no. It is recorded.")] = False,
) -> None:
    """Offer a version that the loop did not train: it is checked, registered, and judged like the loop's own.

    The gate's yes makes it champion. Without --trained-until and --training-data it waits for `driftloop approve`,
    since it may know the rows that judged it. Exit code 1: it did not become champion.
    """
    from datasets_defs.spec.files import spec_of
    from ops.stack.database import database
    from ops.stack.wake import ring
    from training.by_hand.offer import by_hand
    from training.offers.judging_rows import Basis
    from training.registry.card import write

    spec, db = spec_of(model), database()
    until = past_time(trained_until, "--trained-until", now=datetime.now(UTC)) if trained_until is not None else None
    with tables.console.status(f"taking in {what}") as line:
        done = by_hand(
            spec, int(what) if what.isdecimal() else Path(what), db=db,
            actor=person(), reason=reason, force=force,
            basis=Basis(trained_until=until, training_data=training_data), tell=line.update,
        )  # fmt: skip
        if done.promotion.ring is not None:
            ring(CHAMPION_CHANGED, done.promotion.ring)
            write(str(done.promotion.ring), db=db)
    _tell(model, what, done)


def _tell(model: str, what: str, done: "OfferByHand") -> None:
    """Say what came of it; exit code 1 when the version is not champion."""
    how = f": {done.judged_by.how}" if done.judged_by is not None else ""
    tables.plainly(f"{what} is version {done.version} of {model}{how}", style="dim")
    tables.plainly(done.promotion.reason, style=None if done.promotion.is_champion else "red")
    if not done.promotion.is_champion:
        raise typer.Exit(1)
    tables.plainly(f'  undo: driftloop rollback {model} --reason "…"', style="dim")
