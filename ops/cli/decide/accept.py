"""The command that accepts a named break of the data as the new normal, and takes that back."""

from typing import Annotated

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import Model, person, require_known
from ops.cli.shared.panels import Panel, add


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    add(
        app, accept, Panel.DECIDE,
        "driftloop accept docs-writer --what template",
        "driftloop accept docs-writer --what unit --key prompt_tokens",
        "driftloop accept docs-writer --what template --undo",
    )  # fmt: skip


def accept(
    model: Model,
    what: Annotated[str, typer.Option("--what", help="The break by its name, as the message says it: template, cut …")],
    key: Annotated[
        str | None, typer.Option("--key", help="Which of several; for a column its name. Without it, all of the kind.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take an acceptance back.")] = False,
) -> None:
    """Accept a change of the data as the new normal: from the next window on it is judged and trained on as any other.

    It holds for the present champion and for that very change: another template is a break again. What was quarantined
    stays out of training.
    """
    from datetime import UTC, datetime

    from datasets_defs.core.errors import ContractError
    from datasets_defs.ledger.ledger import Ledger
    from monitors.breaks.accepted import accept as take
    from monitors.breaks.accepted import refuse
    from ops.stack.database import database

    require_known(model)
    ledger = Ledger(database())
    champion = ledger.champion(model)
    if champion is None:
        raise ContractError(f"{model} has no champion, so no window of it was judged; there is nothing to accept")
    if undo:
        tables.plainly(refuse(ledger, champion, what, key=key, actor=person()))
        return
    tables.plainly(take(ledger, champion, what, key=key, now=datetime.now(UTC), actor=person()))
    tables.plainly(f"  undo: driftloop accept {model} --what {what} --undo", style="dim")
