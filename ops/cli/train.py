"""The command that trains a challenger by hand."""

import getpass
import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from datasets_defs.core.settings import settings
from datasets_defs.spec.files import spec_of
from ops.cli.models import Model, Since
from ops.cli.times import past_time
from ops.stack.database import database
from ops.stack.first_champions import progress_bar

console = Console()


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(train)


def train(
    model: Model,
    since: Since = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train a challenger as the loop would and register it; no incident is touched, and nothing else is served."""
    spec, now = spec_of(model), datetime.now(UTC)
    start = past_time(since, "--since", now=now) if since is not None else None
    db = database()
    from training.by_hand.train import by_hand
    from training.fit.fine_tune import Progress
    from training.registry.registry import Registry

    with progress_bar(Console(stderr=True), model) as bar:

        def tell(progress: Progress) -> None:
            bar.stage(str(progress), progress.share)

        bar.stage("freezing the data", 0.0)
        registry = Registry(settings().mlflow_url)
        who = f"cli:{getpass.getuser()}"
        found = by_hand(spec, db=db, registry=registry, since=start, now=now, actor=who, tell=tell)
    if as_json:
        print(json.dumps(asdict(found), indent=1))  # noqa: T201 for a program
        return
    console.print(f"version {found.version}, trained from version {found.parent}, is registered", highlight=False)
    console.print(f"  its frozen rows: {escape(found.snapshot_uri)}", highlight=False, style="dim", soft_wrap=True)
    console.print(
        f"  compare it with the champion: driftloop evaluate {escape(model)} --challenger {found.version}\n"
        f'  make it champion, if the gate lets it: driftloop promote {escape(model)} {found.version} --reason "…"',
        highlight=False,
        style="dim",
        soft_wrap=True,
    )
