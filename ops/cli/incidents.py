"""Commands about incidents: show, resolve, approve, reject, promote, roll back, pause, resume."""

import getpass
import json
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import Incident, State, Wake, may_move
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.outlook import Outlook
from datasets_defs.ledger.pauses import pause_of
from datasets_defs.ledger.pausing import pause, resume
from datasets_defs.spec.files import load_all, model_names, spec_of
from ops.cli.models import Model
from ops.cli.status import next_action
from ops.cli.times import duration_of
from ops.stack.database import database

console = Console()
CHAMPION_CHANGED = "champion_changed"
"""Name of the Asset that wakes what follows a change of champion."""
Reason = Annotated[str, typer.Option("--reason", help="Why; goes into the history.")]
Number = Annotated[int, typer.Argument(help="Number of the incident.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    incident = typer.Typer(help="Look at an incident, or end it by hand.", no_args_is_help=True)
    incident.command("show")(show)
    incident.command("resolve")(resolve)
    app.add_typer(incident, name="incident")
    app.command()(approve)
    app.command()(reject)
    app.command()(promote)
    app.command()(rollback)
    app.command("pause")(pause_model)
    app.command("resume")(resume_model)


def show(number: Number) -> None:
    """Show an incident with its evidence and everything that happened in it."""
    ledger = Ledger(database())
    found = ledger.incident(number)
    foreseen = _foreseen(ledger, found)
    console.print(f"[bold]incident {found.id}[/] of {escape(found.model)}: [bold]{found.state}[/]", highlight=False)
    facts = {
        "opened": f"{found.opened_at:%Y-%m-%d %H:%M:%S}Z by {found.signal}",
        "degraded since": f"{found.degraded_since:%Y-%m-%d %H:%M:%S}Z",
        "cause, action": f"{found.cause or 'not yet known'}, {found.action or 'none yet'}",
        "attempts": str(found.attempt),
        "challenger": f"version {found.challenger_version}" if found.challenger_version else "none",
        "in the hands of": found.claimed_by or "nobody",
        "next": f"{foreseen} ({foreseen.why})",
    }
    for name, value in facts.items():
        console.print(f"  {name:16} {escape(value)}", highlight=False)
    for event in ledger.events(found.model, incident_id=number):
        state = f" [{event.state}]" if event.state else ""
        console.print(
            f"  {event.at:%H:%M:%S}  {escape(event.kind + state)}: {escape(event.reason)}", highlight=False, style="dim"
        )
    console.print_json(json.dumps(found.evidence, default=str))


def _foreseen(ledger: Ledger, found: Incident) -> Outlook:
    now = datetime.now(UTC)
    paused = pause_of(ledger.engine, found.model, now)
    return next_action(found, load_all()[0].get(found.model), paused, now)


def resolve(number: Number, reason: Reason) -> None:
    """End an incident by hand: the model is good again, or the loop shall start afresh."""
    ledger = Ledger(database())
    moved = resolve_by_hand(ledger, number, actor=_who(), reason=reason)
    console.print(f"incident {moved.id} of {escape(moved.model)} is {moved.state}", highlight=False)


def resolve_by_hand(ledger: Ledger, number: int, *, actor: str, reason: str) -> Incident:
    """Move an open incident to RESOLVED, through ESCALATED where the table of moves knows no direct way.

    A step that is at work on it finds the incident gone at its next write, and stops.

    Raises:
        ContractError: it has ended already, or moved while this was done.
    """
    with ledger.transaction() as on:
        found = ledger.incident(number, connection=on, lock=True)
        if not found.is_open:
            raise ContractError(f"incident {number} is {found.state} since {found.closed_at:%Y-%m-%d %H:%M:%S}Z")
        if not may_move(found.state, State.RESOLVED):
            found = ledger.move(found, State.ESCALATED, actor=actor, reason=reason, connection=on)
        return ledger.move(found, State.RESOLVED, actor=actor, reason=reason, connection=on)


def approve(model: Model, reason: Reason = "approved on the command line") -> None:
    """Let an accepted challenger become champion."""
    from ops.stack.wake import answer_form, ring
    from training.approve import answer

    known(model)
    db = database()
    ledger, holder = Ledger(db), _holder(db, model)
    console.print(escape(answer(model, True, who=_who(), reason=reason, db=db).reason), highlight=False)
    answer_form(holder, approve=True)
    incident = ledger.open_of(model)
    if incident is None or incident.state is not State.APPROVING:
        return  # a run was faster
    if not ring(Wake.PROMOTE, ledger.ring(incident.id)):
        console.print("Airflow does not answer now; `reconcile` starts the promotion when it is back.", style="yellow")


def reject(model: Model, reason: Reason) -> None:
    """Keep the champion, though the challenger was accepted by the gate."""
    from ops.stack.wake import answer_form
    from training.approve import answer

    known(model)
    db = database()
    holder = _holder(db, model)
    console.print(escape(answer(model, False, who=_who(), reason=reason, db=db).reason), highlight=False)
    answer_form(holder, approve=False)


def _holder(db: Engine, model: str) -> str | None:
    """Name the run whose form asks about the model's challenger."""
    incident = Ledger(db).open_of(model)
    return incident.claimed_by if incident is not None else None


def promote(
    model: Model,
    version: Annotated[int, typer.Argument(help="Version in the registry, as `driftloop train` gave it.")],
    reason: Reason,
    force: Annotated[bool, typer.Option("--force", help="Also against the gate's no; it is recorded.")] = False,
) -> None:
    """Judge a version against the champion and, if the gate lets it, make it champion; wait until serving confirms it.

    It is on probation then, like the loop's own challengers, and rolled back if it does worse.
    """
    from ops.stack.wake import ring
    from training.by_hand.promote import by_hand
    from training.registry.card import write

    known(model)
    db = database()
    with console.status(f"offering version {version}") as line:
        found = by_hand(model, version, db=db, actor=_who(), reason=reason, force=force, tell=line.update)
        if found.ring is not None:
            ring(CHAMPION_CHANGED, found.ring)
            write(str(found.ring), db=db)
    console.print(escape(found.reason), highlight=False, style="" if found.is_champion else "red", soft_wrap=True)
    if not found.is_champion:
        raise typer.Exit(1)
    console.print(
        f'  undo: driftloop rollback {escape(model)} --reason "…"', highlight=False, style="dim", soft_wrap=True
    )


def rollback(model: Model, reason: Reason) -> None:
    """Make the previous champion serve again, and wait until serving confirms it."""
    from training.roll_back import roll_back_by_hand

    known(model)
    with console.status("rolling back"):
        outcome = roll_back_by_hand(model, db=database(), actor=_who(), reason=reason)
    console.print(escape(outcome.reason), highlight=False)


def pause_model(
    model: Model,
    reason: Reason,
    lasting: Annotated[str, typer.Option("--for", help="How long: 30m, 4h, 2d; then it ends by itself.")] = "24h",
) -> None:
    """Let the loop only watch a model and tell: nothing is retrained, promoted, rolled back or scaled for a time."""
    known(model)
    made = pause(Ledger(database()), model, lasting=duration_of(lasting, "--for"), actor=_who(), reason=reason)
    console.print(f"{escape(str(made))}. `driftloop resume {escape(model)}` ends it.", highlight=False)


def resume_model(model: Model, reason: Reason = "resumed on the command line") -> None:
    """End a model's pause; what is due then begins within one reconcile period."""
    known(model)
    if resume(Ledger(database()), model, actor=_who(), reason=reason):
        console.print(f"{escape(model)} is no longer paused; what is due begins within minutes", highlight=False)
    else:
        console.print(f"{escape(model)} is not paused", highlight=False)


def known(model: str) -> None:
    """Refuse a name that no file has; a model whose file is wrong for the moment is known.

    Raises:
        ContractError: there is no such file; names those that there are.
    """
    if model not in model_names():
        spec_of(model)


def _who() -> str:
    return f"cli:{getpass.getuser()}"
