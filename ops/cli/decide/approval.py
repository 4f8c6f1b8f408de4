"""Commands that answer whether an accepted challenger becomes champion: approve, reject."""

from typing import TYPE_CHECKING

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import Model, Reason, person, require_known
from ops.cli.shared.panels import Panel, add

if TYPE_CHECKING:
    from sqlalchemy import Engine


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    add(app, approve, Panel.DECIDE, 'driftloop approve docs-writer --reason "read ten answers"')
    add(app, reject, Panel.DECIDE, 'driftloop reject docs-writer --reason "too short answers"')


def approve(model: Model, reason: Reason = "approved on the command line") -> None:
    """Let an accepted challenger become champion."""
    from datasets_defs.core.incidents import State, Wake
    from datasets_defs.ledger.ledger import Ledger
    from ops.stack.database import database
    from ops.stack.wake import answer_form, ring
    from training.approve import answer

    require_known(model)
    db = database()
    ledger, holder = Ledger(db), _holder(db, model)
    tables.plainly(answer(model, True, who=person(), reason=reason, db=db).reason)
    answer_form(holder, approve=True)
    incident = ledger.open_of(model)
    if incident is None or incident.state is not State.APPROVING:
        return  # a run was faster
    if not ring(Wake.PROMOTE, ledger.ring(incident.id)):
        tables.say("Airflow does not answer now; `reconcile` starts the promotion when it is back.", style="yellow")


def reject(model: Model, reason: Reason) -> None:
    """Keep the champion although the gate accepted the challenger."""
    from ops.stack.database import database
    from ops.stack.wake import answer_form
    from training.approve import answer

    require_known(model)
    db = database()
    holder = _holder(db, model)
    tables.plainly(answer(model, False, who=person(), reason=reason, db=db).reason)
    answer_form(holder, approve=False)


def _holder(db: "Engine", model: str) -> str | None:
    """Name the run whose form asks about the model's challenger."""
    from datasets_defs.ledger.ledger import Ledger

    incident = Ledger(db).open_of(model)
    return incident.claimed_by if incident is not None else None
