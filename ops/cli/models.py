"""Commands about models: check, bootstrap, ingest, history."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.ledger.events import Event
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import load_all, model_names, spec_of
from ops.stack.database import database
from ops.stack.first_champions import bootstrap_all, progress_bar

console = Console()
Model = Annotated[str, typer.Argument(help="Name of a model, as in models/NAME.yaml.")]
Since = Annotated[
    str | None, typer.Option(help="Documents from this time on are fresh; else since the incident or champion.")
]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("check-models")(check_models)
    app.command()(bootstrap)
    app.command()(ingest)
    app.command()(history)


def check_models() -> None:
    """Check every models/*.yaml; each mistake is named with file, field and fix."""
    specs, problems = load_all()
    for name in specs:
        console.print(f"[green]ok[/] {escape(name)}")
    for problem in problems:
        console.print(escape(problem), style="red", highlight=False, soft_wrap=True)
    if not specs and not problems:
        raise ContractError(f"{settings().models_dir} holds no *.yaml; describe a model there first")
    if problems:
        raise typer.Exit(1)


def bootstrap(model: Annotated[str | None, typer.Argument(help="One model; all without a name.")] = None) -> None:
    """Make the first champion of a model, or of every model that has none."""
    if model is not None:
        spec_of(model)
        if (champion := Ledger(database()).champion(model)) is not None:
            console.print(f"{model}: version {champion.version} is champion already", highlight=False)
            return
    problems = bootstrap_all(console, model)
    for problem in problems:
        console.print(escape(problem), style="red", highlight=False, soft_wrap=True)
    if problems:
        raise typer.Exit(1)


def ingest(model: Model, file: Annotated[Path, typer.Argument(help="A .jsonl, .csv or .parquet file.")]) -> None:
    """Read another server's log; rows that cannot be read are kept apart with their reason."""
    from ops.ingest.ingest import ingest as read

    if model not in model_names():
        spec_of(model)  # says which models there are
    with progress_bar(console, f"reading {file.name}") as bar:
        found = read(database(), model, file, bar.share)
    console.print(
        f"{found.rows:,} rows read: {found.new:,} new, {found.known:,} known, {found.feedback:,} with feedback, "
        f"{found.quarantined.total():,} quarantined",
        highlight=False,
    )
    if found.naive_times:
        console.print(f"{found.naive_times:,} times had no zone and were taken as UTC", highlight=False)
    for reason, count in found.quarantined.most_common(10):
        console.print(f"  {count:,} of: {escape(reason)}", style="yellow", highlight=False)
    if found.rows and found.quarantined.total() == found.rows:  # whoever runs it nightly shall notice a broken export
        console.print(f"no row of {escape(str(file))} could be read", style="red", highlight=False)
        raise typer.Exit(1)


def history(
    model: Model,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Only check the hash chain.")] = False,
) -> None:
    """Show who decided what on which evidence, oldest first, and whether the record is whole."""
    ledger = Ledger(database())
    events = ledger.events(model)
    broken = ledger.verify(model)
    if not events and model not in model_names():
        spec_of(model)
    if as_json:
        rows = [{**asdict(event), "at": event.at.isoformat()} for event in events]
        print(json.dumps({"events": rows, "chain": broken or "ok"}, indent=1))  # noqa: T201 for a program
    else:
        if not verify:
            _tell(events)
        verdict = f"[green]the chain of {len(events)} events is whole[/]" if not broken else ""
        console.print(verdict or escape("\n".join(broken)), style=None if verdict else "red", highlight=False)
    if broken:
        raise typer.Exit(1)


def _tell(events: list[Event]) -> None:
    """Print a history line by line: time, what, why; then who, and of which incident."""
    for event in events:
        moved = f"{event.from_state} → {event.state}" if event.from_state and event.from_state != event.state else ""
        about = f"incident {event.incident_id}, " if event.incident_id else ""
        console.print(
            f"[dim]{event.seq:>4}  {event.at:%m-%d %H:%M:%S}Z[/]  [bold]{escape(moved or event.kind)}[/]  "
            f"{escape(event.reason)}  [dim]({about}{escape(event.actor.split('__')[0])})[/]",
            highlight=False,
            soft_wrap=True,
        )
