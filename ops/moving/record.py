"""Writes the record of a model that arrives, in one transaction; incidents get numbers of this database."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, func, insert

from alerts.messages import message_for
from datasets_defs.core.errors import ContractError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import Incident
from datasets_defs.ledger.events import Event
from datasets_defs.ledger.history import History
from datasets_defs.ledger.opening import adopt_incident
from datasets_defs.store import tables
from datasets_defs.store.incidents import incidents_of
from ops.moving import rows
from ops.moving.archive import Archive


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What is to be written."""

    archive: Archive
    identity: str
    """SHA-256 by which the archive is known."""
    folder: Path
    """Where its rows lie."""
    uris: Mapping[int, str]
    """Where each version's reference is now."""
    actor: str


def write_record(db: Engine, arrival: Arrival) -> None:
    """Write the rows of an archive and the event that tells of it, all or none.

    Messages about the events count as sent: people were told where it happened.

    Raises:
        ContractError: somebody made the model here meanwhile.
        TransientError: PostgreSQL is away.
    """
    history, model = History(db), arrival.archive.model
    with history.locked(model) as on:
        if rows.present(on, model):
            raise ContractError(f"{model} was made here meanwhile; nothing of the archive was written to the record")
        incidents = _incidents(on, arrival)
        for name in rows.TRAVELS:
            if name != "incident":
                _insert(on, name, _here(arrival, name, incidents))
        _count_as_sent(on, history, model)
        history.note(model, EventKind.IMPORTED, _reason(arrival), _evidence(arrival, incidents), actor=arrival.actor,
                     connection=on)  # fmt: skip


def _incidents(on: Connection, arrival: Arrival) -> dict[int, int]:
    """Write the incidents under new numbers, in their order; give the new numbers by the old ones."""
    numbers: dict[int, int] = {}
    for row in rows.load(arrival.folder, "incident"):
        old = row.pop("id")
        numbers[old] = adopt_incident(on, row)
    return numbers


def _here(arrival: Arrival, name: str, incidents: Mapping[int, int]) -> Iterator[dict[str, Any]]:
    """Give a table's rows as they are here: with this database's numbers of incidents, and this place's files."""
    for row in rows.load(arrival.folder, name):
        old = row.get("incident_id")
        if old is not None:
            row["incident_id"] = incidents[old]
            if name == "incident_event" and row["origin_incident_id"] is None and incidents[old] != old:
                row["origin_incident_id"] = old
        if name == "reference_profile":
            row["uri"] = arrival.uris[row["version"]]
        yield row


def _insert(on: Connection, name: str, records: Iterator[dict[str, Any]]) -> None:
    while batch := list(islice(records, rows.BATCH)):
        on.execute(insert(tables.metadata.tables[name]), batch)


def _count_as_sent(on: Connection, history: History, model: str) -> None:
    """Write the messages of the model's events as sent, so that nobody is told anew of what is long past."""
    incidents: dict[int | None, Incident] = {incident.id: incident for incident in incidents_of(on, model)}
    for event in history.events(model, connection=on):
        if (values := _sent(event, incidents.get(event.incident_id))) is not None:
            on.execute(insert(tables.alert_outbox).values(values))


def _sent(event: Event, incident: Incident | None) -> dict[str, Any] | None:
    message = message_for(event, incident)
    if message is None:
        return None
    return {
        "key": f"event:{event.model}:{event.seq}",
        "model": event.model,
        "incident_id": event.incident_id,
        "severity": message.severity,
        "text": message.text,
        "blocks": {"blocks": message.blocks},
        "sent_at": func.now(),
    }


def _reason(arrival: Arrival) -> str:
    return f"it came from another installation: {arrival.archive}"


def _evidence(arrival: Arrival, incidents: Mapping[int, int]) -> dict[str, Any]:
    contents = arrival.archive
    return {
        "archive": arrival.identity,
        "head": contents.head,
        "events": contents.events,
        "driftloop": contents.driftloop,
        "schema": contents.schema,
        "incidents": {str(old): new for old, new in incidents.items() if old != new},
        "left": dict(contents.left),
    }
