"""The command that shows what a training would learn from now, and what is kept out of it."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.core.windows import Window
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from ops.cli.models import Model, Since
from ops.cli.times import past_time
from ops.stack.database import database

console = Console()


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(data)


def data(
    model: Model,
    since: Since = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a training would learn from now, by source, and what is left out and why; writes nothing."""
    from training.data.inputs import fresh_since, inputs_of
    from training.data.snapshot import rehearse
    from training.registry.registry import Registry

    spec, now, db = spec_of(model), datetime.now(UTC), database()
    ledger = Ledger(db)
    champion = ledger.champion(spec.name)
    if champion is None:
        raise ContractError(f"{spec.name} has no champion yet; run `driftloop bootstrap {spec.name}` first")
    start = past_time(since, "--since", now=now) if since is not None else fresh_since(ledger, champion)
    found = inputs_of(db, Registry(settings().mlflow_url), spec, champion.version, Window(start, now))
    report = rehearse(found.documents, found.replay, spec=spec, keep_out=found.judging)
    if as_json:
        print(json.dumps(report.plain(), indent=1))  # noqa: T201 for a program
    else:
        show(report.plain())


def show(report: Mapping[str, Any]) -> None:
    """Print a report."""
    table = Table(box=None, pad_edge=False)
    for name in ("source", "rows", "kept", "bytes", "left out, redacted"):
        table.add_column(name, justify="right" if name in ("rows", "kept", "bytes") else "left")
    for name, source in report["sources"].items():
        said = [f"{count} {reason}" for reason, count in source["dropped"].items()]
        said += [f"{count} without {what}" for what, count in source["redacted"].items()]
        said += [source["broken"]] if source["broken"] else []
        figures = (f"{source[figure]:,}" for figure in ("rows", "kept", "bytes"))
        table.add_row(escape(name), *figures, escape("; ".join(said)))
    console.print(table)
    for phrase in report["phrases"]:
        line = f"{phrase['kind']} phrase in {phrase['documents']} documents: {phrase['phrase']}"
        console.print(escape(line), highlight=False, soft_wrap=True)
    if report["floods"]:
        console.print(escape(report["floods"]), highlight=False)
    parts = ", ".join(f"{count} {part}" for part, count in report["parts"].items())
    console.print(f"rows: {parts}; {report['split']}; overlap with judging texts {report['overlap']}", highlight=False)
