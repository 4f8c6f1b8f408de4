"""The command that moves a model to a new base."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import Model, Reason, Since, person
from ops.cli.shared.panels import Panel, add
from ops.cli.shared.times import past_time

if TYPE_CHECKING:
    from training.by_hand.rebase import Rebased

CHAMPION_CHANGED = "champion_changed"
"""Name of the Asset that wakes what follows a change of champion."""


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    add(app, rebase, Panel.TRAIN, 'driftloop rebase docs-writer --reason "a newer base"')


def rebase(
    model: Model,
    reason: Reason,
    since: Since = None,
    over_budget: Annotated[
        bool, typer.Option("--over-budget", help="Train although the fleet's GPU-hours do not suffice; they count.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Promote against the gate's no. It is recorded.")] = False,
) -> None:
    """Train the base model that the YAML names now on all that the champion learned from, and let the gate judge it.

    Base and champion may differ in architecture and tokenizer. The gate's yes makes the new one champion, and the
    former one is where a rollback goes. Interrupted, the same command goes on. Exit code 1: it did not become champion.
    """
    from datasets_defs.core.settings import settings
    from datasets_defs.spec.files import spec_of
    from ops.stack.database import database
    from ops.stack.first_champions import progress_bar
    from ops.stack.wake import ring
    from training.by_hand.rebase import Wish, by_hand
    from training.fit.plan import Progress
    from training.registry.card import write
    from training.registry.registry import Registry

    spec, db, now = spec_of(model), database(), datetime.now(UTC)
    start = past_time(since, "--since", now=now) if since is not None else None
    wish = Wish(actor=person(), reason=reason, now=now, since=start, over_budget=over_budget, force=force)
    with progress_bar(tables.errors, model) as bar:

        def tell(progress: Progress) -> None:
            bar.stage(str(progress), progress.share)

        registry = Registry(settings().mlflow_url)
        done = by_hand(spec, wish, db=db, registry=registry, tell=tell, say=lambda words: bar.stage(words, 0.0))
        if done.promotion.ring is not None:
            ring(CHAMPION_CHANGED, done.promotion.ring)
            write(str(done.promotion.ring), db=db)
    _tell(model, done)


def _tell(model: str, done: "Rebased") -> None:
    """Say what came of it; exit code 1 when the version is not champion."""
    tables.plainly(f"the base is version {done.base}, and what was made of it version {done.version}", style="dim")
    tables.plainly(done.promotion.reason, style=None if done.promotion.is_champion else "red")
    if not done.promotion.is_champion:
        tables.plainly(f"  the figures: driftloop evaluate {model} --challenger {done.version}", style="dim")
        raise typer.Exit(1)
    tables.plainly(f'  undo: driftloop rollback {model} --reason "…"', style="dim")
