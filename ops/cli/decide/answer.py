"""The command that says what drift calls for whose harm cannot be measured."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import Model, Reason, person, require_known
from ops.cli.shared.panels import Panel, add


class Choice(StrEnum):
    """The answers, as `monitors.incidents.unmeasured.DriftAnswer` has them; costly to import for a help text."""

    RETRAIN = "retrain"
    ACCEPT = "accept"
    IGNORE = "ignore"


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    add(
        app, answer, Panel.DECIDE,
        'driftloop answer docs-writer retrain --reason "a new product"',
        'driftloop answer docs-writer accept --reason "the new app writes more"',
        'driftloop answer docs-writer ignore --reason "over on Friday"',
    )  # fmt: skip


def answer(
    model: Model,
    what: Annotated[
        Choice,
        typer.Argument(help="retrain; accept: the shifted input is the new reference; ignore: for a week."),
    ],
    reason: Reason = "answered on the command line",
) -> None:
    """Say what drift calls for that nobody can price: the loop asks when it stays for a day and no loss is measured.

    Once the time to answer is over, `drift.unanswered` in the model's YAML is the answer.
    """
    from datasets_defs.core.incidents import Wake
    from monitors.incidents.answering import answer as give
    from monitors.incidents.unmeasured import DriftAnswer
    from ops.stack.database import database
    from ops.stack.wake import ring

    require_known(model)
    outcome = give(model, DriftAnswer(what), who=person(), reason=reason, db=database(), now=datetime.now(UTC))
    tables.plainly(outcome.reason)
    if outcome.ring is not None and not ring(Wake.TRIAGE, outcome.ring):
        tables.say("Airflow does not answer now; `reconcile` starts the retrain when it is back.", style="yellow")
