"""Commands that stop the loop from acting on a model for a time: pause, resume."""

from typing import Annotated

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import Model, Reason, person, require_known
from ops.cli.shared.panels import Panel, add
from ops.cli.shared.times import duration_of


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    add(app, pause, Panel.DECIDE, 'driftloop pause docs-writer --for 4h --reason "moving the GPUs"')
    add(app, resume, Panel.DECIDE, "driftloop resume docs-writer")


def pause(
    model: Model,
    reason: Reason,
    lasting: Annotated[str, typer.Option("--for", help="How long: 30m, 4h, 2d. Then it ends by itself.")] = "24h",
) -> None:
    """Let the loop only watch a model: nothing is retrained, promoted, rolled back or scaled for a time."""
    from datasets_defs.ledger.ledger import Ledger
    from datasets_defs.ledger.pausing import pause as begin
    from ops.stack.database import database

    require_known(model)
    begun = begin(Ledger(database()), model, lasting=duration_of(lasting, "--for"), actor=person(), reason=reason)
    tables.plainly(f"{begun}. `driftloop resume {model}` ends it.")


def resume(model: Model, reason: Reason = "resumed on the command line") -> None:
    """End the pause of a model. What is due then begins within one reconcile period."""
    from datasets_defs.ledger.ledger import Ledger
    from datasets_defs.ledger.pausing import resume as end
    from ops.stack.database import database

    require_known(model)
    if end(Ledger(database()), model, actor=person(), reason=reason):
        tables.plainly(f"{model} is no longer paused; what is due begins within minutes")
    else:
        tables.plainly(f"{model} is not paused")
