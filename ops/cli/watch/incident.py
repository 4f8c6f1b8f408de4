"""Commands about one incident: `driftloop incident show` and `driftloop incident resolve`."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.shared import tables
from ops.cli.shared.options import Reason, person
from ops.cli.shared.panels import Panel, add

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from datasets_defs.core.incidents import Incident
    from datasets_defs.ledger.ledger import Ledger
    from datasets_defs.ledger.outlook import Outlook

Number = Annotated[int, typer.Argument(help="Number of the incident, as `driftloop status` shows it.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    group = typer.Typer(help="Look at an incident, or end it by hand.", no_args_is_help=True)
    add(group, show, None, "driftloop incident show 12")
    add(group, resolve, None, 'driftloop incident resolve 12 --reason "the export was mended"')
    app.add_typer(group, name="incident", rich_help_panel=Panel.WATCH)


def show(number: Number) -> None:
    """Show an incident with its evidence and everything that happened in it."""
    import json

    from datasets_defs.ledger.ledger import Ledger
    from ops.stack.database import database

    ledger = Ledger(database())
    incident = ledger.incident(number)
    outlook = _outlook(ledger, incident)
    tables.say(f"[bold]incident {incident.id}[/] of {tables.escape(incident.model)}: [bold]{incident.state}[/]")
    facts = {
        "opened": f"{incident.opened_at:%Y-%m-%d %H:%M:%S}Z by {incident.signal}",
        "degraded since": f"{incident.degraded_since:%Y-%m-%d %H:%M:%S}Z",
        "cause, action": f"{incident.cause or 'not yet known'}, {incident.action or 'none yet'}",
        "attempts": str(incident.attempt),
        "challenger": f"version {incident.challenger_version}" if incident.challenger_version else "none",
        "in the hands of": incident.claimed_by or "nobody",
        "next": f"{outlook} ({outlook.why})",
    }
    for name, value in facts.items():
        tables.plainly(f"  {name:16} {value}")
    for event in ledger.events(incident.model, incident_id=number):
        state = f" [{event.state}]" if event.state else ""
        tables.plainly(f"  {event.at:%H:%M:%S}  {event.kind}{state}: {event.reason}", style="dim")
    tables.console.print_json(json.dumps(incident.evidence, default=str))


def _outlook(ledger: "Ledger", incident: "Incident") -> "Outlook":
    from datasets_defs.ledger.pauses import pause_of
    from datasets_defs.spec.files import load_all
    from ops.cli.watch.next_action import next_action

    now = datetime.now(UTC)
    return next_action(incident, load_all()[0].get(incident.model), pause_of(ledger.engine, incident.model, now), now)


FalseAlarm = Annotated[
    bool,
    typer.Option("--false-alarm", help="Nothing was wrong: its windows are learned from at once, as ordinary traffic."),
]


def resolve(number: Number, reason: Reason, false_alarm: FalseAlarm = False) -> None:
    """End an incident by hand: the model is good again, or nothing was ever wrong."""
    from datasets_defs.ledger.ledger import Ledger
    from ops.stack.database import database

    db = database()
    moved = resolve_by_hand(Ledger(db), number, actor=person(), reason=reason, false_alarm=false_alarm)
    tables.plainly(f"incident {moved.id} of {moved.model} is {moved.state}")
    if false_alarm:
        tables.plainly(learn_from_false_alarm(db, moved.model, until=datetime.now(UTC)))


def learn_from_false_alarm(db: "Engine", model: str, *, until: datetime) -> str:
    """Learn season and tolerances again, the windows of the false alarm among them; say what became of it.

    Raises:
        ContractError: the model's file or what is stored of it is wrong.
    """
    from datasets_defs.ledger.ledger import Ledger
    from datasets_defs.spec.files import spec_of
    from monitors.profiles.renewal import renew

    champion = Ledger(db).champion(model)
    if champion is None:
        return "no champion serves, so there is nothing to learn for"
    made = renew(db, spec_of(model), champion, until=until, force=True)
    if isinstance(made, str):
        return f"nothing is learned yet: {made}"
    return f"learned as ordinary traffic: version {made.version} is compared with revision {made.revision} from now on"


def resolve_by_hand(ledger: "Ledger", number: int, *, actor: str, reason: str, false_alarm: bool = False) -> "Incident":
    """Move an open incident to RESOLVED, through ESCALATED where the table of moves knows no direct way.

    A step that is at work on it finds the incident gone at its next write, and stops. One that was a false alarm loses
    its cause, so that its windows count as ordinary traffic.

    Raises:
        ContractError: it has ended already, or moved while this was done.
    """
    from datasets_defs.core.errors import ContractError
    from datasets_defs.core.incidents import State, may_move

    with ledger.transaction() as on:
        incident = ledger.incident(number, connection=on, lock=True)
        if not incident.is_open:
            raise ContractError(
                f"incident {number} is {incident.state} since {incident.closed_at:%Y-%m-%d %H:%M:%S}Z; "
                "only an open incident can be resolved"
            )
        if not may_move(incident.state, State.RESOLVED):
            incident = ledger.move(incident, State.ESCALATED, actor=actor, reason=reason, connection=on)
        nothing = {"cause": None, "challenger_version": None} if false_alarm else {}
        return ledger.move(
            incident,
            State.RESOLVED,
            actor=actor,
            reason=f"false alarm: {reason}" if false_alarm else reason,
            evidence={"false_alarm": True} if false_alarm else None,
            connection=on,
            **nothing,
        )
