"""The command that trains a challenger by hand."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import AsJson, Model, Since, person
from ops.cli.shared.panels import Panel, add
from ops.cli.shared.times import past_time

if TYPE_CHECKING:
    from training.by_hand.train import Trained


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    add(app, train, Panel.TRAIN, "driftloop train docs-writer", "driftloop train docs-writer --since 2026-05-01")


def train(
    model: Model,
    since: Since = None,
    over_budget: Annotated[
        bool, typer.Option("--over-budget", help="Train although the fleet's GPU-hours do not suffice; they count.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a challenger as the loop would, and register it. No incident is touched, and the champion goes on serving.

    When it was interrupted, the same command goes on.
    """
    from datasets_defs.core.settings import settings
    from datasets_defs.spec.files import spec_of
    from ops.stack.database import database
    from ops.stack.first_champions import progress_bar

    spec, now = spec_of(model), datetime.now(UTC)
    start = past_time(since, "--since", now=now) if since is not None else None
    db = database()
    from training.by_hand.train import by_hand
    from training.fit.plan import Progress
    from training.registry.registry import Registry

    with progress_bar(tables.errors, model) as bar:

        def tell(progress: Progress) -> None:
            bar.stage(str(progress), progress.share)

        bar.stage("freezing the data", 0.0)
        registry = Registry(settings().mlflow_url)
        trained = by_hand(
            spec, db=db, registry=registry, since=start, now=now, actor=person(), over_budget=over_budget, tell=tell
        )
    if as_json:
        tables.print_json(asdict(trained))
    else:
        _tell(model, trained)


def _tell(model: str, trained: "Trained") -> None:
    """Say what was made, and how it goes on."""
    tables.say(f"version {trained.version}, trained from version {trained.parent}, is registered")
    tables.plainly(f"  its frozen rows: {trained.snapshot_uri}", style="dim")
    tables.plainly(
        f"  compare it with the champion: driftloop evaluate {model} --challenger {trained.version}\n"
        f'  make it champion, if the gate accepts it: driftloop promote {model} {trained.version} --reason "…"',
        style="dim",
    )
