"""The hash-chained history of one database: events are appended, in a transaction with what they tell of."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Engine, func, select, text
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.incidents import Incident, State
from datasets_defs.core.plain import clean_text, plain
from datasets_defs.ledger.events import GENESIS, Event, Head, broken_links
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors


class History:
    """Appends to and reads the history of every model.

    Methods that write take `connection` to join a transaction of the caller's; without it they use their own.

    Raises (every method):
        TransientError: PostgreSQL is away.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @contextmanager
    def transaction(self, connection: Connection | None = None) -> Iterator[Connection]:
        """Give a transaction: the caller's own, or a new one that commits at the end."""
        with database_errors("writing the ledger"):
            with nullcontext(connection) if connection is not None else self.engine.begin() as on:
                yield on

    def note(
        self,
        model: str,
        kind: str,
        reason: str,
        evidence: dict[str, Any],
        *,
        actor: str,
        incident: Incident | None = None,
        frm: State | None = None,
        connection: Connection | None = None,
    ) -> Event:
        """Append one event to the model's history.

        It follows the newest event that was ever written, so that cutting the history short shows for good.
        """
        with self.transaction(connection) as on:
            on.execute(text("SELECT pg_advisory_xact_lock(hashtext('history'), hashtext(:model))"), {"model": model})
            last = self.head(model, connection=on)
            event = Event(
                model=model,
                seq=last.seq + 1 if last else 1,
                incident_id=incident.id if incident else None,
                at=on.execute(select(func.clock_timestamp())).scalar_one(),
                kind=kind,
                from_state=frm,
                state=incident.state if incident else None,
                actor=actor,
                reason=clean_text(reason),
                evidence=plain(evidence),
                prev_hash=last.hash if last else GENESIS,
            )
            values = {field.name: getattr(event, field.name) for field in fields(Event)}
            on.execute(insert(tables.incident_event).values({**values, "hash": event.digest()}))
        return event

    def events(
        self, model: str, *, incident_id: int | None = None, connection: Connection | None = None
    ) -> list[Event]:
        """Read a model's history, oldest first; of one incident only, if given."""
        columns = [tables.incident_event.c[field.name] for field in fields(Event)]
        query = select(*columns).where(tables.incident_event.c.model == model).order_by(tables.incident_event.c.seq)
        if incident_id is not None:
            query = query.where(tables.incident_event.c.incident_id == incident_id)
        with self.transaction(connection) as on:
            return [Event(**row._mapping) for row in on.execute(query)]

    def head(self, model: str, *, connection: Connection | None = None) -> Head | None:
        """Read the newest event's number and hash, as PostgreSQL's trigger keeps them; None before the first."""
        table = tables.history_head.c
        with self.transaction(connection) as on:
            row = on.execute(select(table.seq, table.hash).where(table.model == model)).one_or_none()
        return Head(row.seq, row.hash) if row is not None else None

    def verify(self, model: str) -> list[str]:
        """Check the model's hash chain up to its newest event; give a sentence for each break."""
        snapshot = self.engine.execution_options(isolation_level="REPEATABLE READ")
        with History(snapshot).transaction() as on:  # both as of one moment, whatever is appended meanwhile
            head, events = self.head(model, connection=on), self.events(model, connection=on)
        if head is None and events:
            return [*broken_links(events), f"{model}: nothing is known of the newest event; its record was deleted"]
        return broken_links(events, head)

    def note_change(
        self,
        model: str,
        about: str,
        *,
        stands: bool,
        begins: str,
        ends: str,
        reason: str,
        evidence: dict[str, Any],
        actor: str,
    ) -> bool:
        """Append an event of kind `begins` or `ends` when a matter begins to stand or ceases to; say whether it did.

        While nothing changes nothing is appended, however often it is looked at.
        """
        events = tables.incident_event.c
        newest = (
            select(events.kind)
            .where(events.model == model, events.kind.in_((begins, ends)), events.evidence["about"].astext == about)
            .order_by(events.seq.desc())
            .limit(1)
        )
        with self.transaction() as on:
            on.execute(text("SELECT pg_advisory_xact_lock(hashtext('history'), hashtext(:model))"), {"model": model})
            if (on.scalar(newest) == begins) == stands:
                return False
            kind = begins if stands else ends
            self.note(model, kind, reason, {"about": about, **evidence}, actor=actor, connection=on)
        return True
