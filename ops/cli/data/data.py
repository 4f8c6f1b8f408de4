"""The command that shows what a training would learn from now, and what is kept out of it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import AsJson, Model, Since
from ops.cli.shared.panels import Panel, add
from ops.cli.shared.times import past_time


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    add(app, data, Panel.DATA, "driftloop data docs-writer", "driftloop data docs-writer --since 2026-05-01 --json")


def data(
    model: Model,
    since: Since = None,
    as_json: AsJson = False,
) -> None:
    """Show what a training would learn from now, by source, and what is left out and why. Writes nothing."""
    from datasets_defs.core.errors import ContractError
    from datasets_defs.core.settings import settings
    from datasets_defs.core.windows import Window
    from datasets_defs.ledger.ledger import Ledger
    from datasets_defs.spec.files import spec_of
    from ops.stack.database import database
    from training.data.freeze import rehearse
    from training.data.inputs import fresh_since, inputs_of
    from training.registry.reader import Reader

    spec, now, db = spec_of(model), datetime.now(UTC), database()
    ledger = Ledger(db)
    champion = ledger.champion(spec.name)
    if champion is None:
        raise ContractError(f"{spec.name} has no champion yet; run `driftloop bootstrap {spec.name}` first")
    start = past_time(since, "--since", now=now) if since is not None else fresh_since(ledger, champion)
    inputs = inputs_of(db, Reader(settings().mlflow_url), spec, champion.version, Window(start, now))
    report = rehearse(
        inputs.documents,
        inputs.replay,
        spec=spec,
        names=inputs.names,
        keep_out=inputs.judging,
        first_heard=inputs.first_heard,
    )
    if as_json:
        tables.print_json(report.plain())
    else:
        show(report.plain())


def show(report: Mapping[str, Any]) -> None:
    """Print a report."""
    figures = ("rows", "kept", "bytes")
    table = tables.table("source", *figures, "left out, redacted", right=figures)
    for name, source in report["sources"].items():
        remarks = [f"{count} {reason}" for reason, count in source["dropped"].items()]
        remarks += [f"{count} without {what}" for what, count in source["redacted"].items()]
        remarks += [source["broken"]] if source["broken"] else []
        numbers = (f"{source[figure]:,}" for figure in figures)
        table.add_row(tables.escape(name), *numbers, tables.escape("; ".join(remarks)))
    tables.console.print(table)
    for phrase in report["phrases"]:
        tables.plainly(f"{phrase['kind']} phrase in {phrase['documents']} documents: {phrase['phrase']}")
    if report["floods"]:
        tables.plainly(report["floods"])
    parts = ", ".join(f"{count} {part}" for part, count in report["parts"].items())
    tables.plainly(f"rows: {parts}; {report['split']}; overlap with judging texts {report['overlap']}")
