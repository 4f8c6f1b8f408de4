"""The hash-chained history of one database: events are appended, in a transaction with what they tell of."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Engine, Select, func, select, text, true, union_all
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.event_kinds import EventKind
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
        kind: EventKind,
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
        with self.locked(model, connection) as on:
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
        self,
        model: str,
        *,
        incident_id: int | None = None,
        newest: int | None = None,
        connection: Connection | None = None,
    ) -> list[Event]:
        """Read a model's history, oldest first; of one incident only, or at most so many of the newest, if given."""
        table = tables.incident_event.c
        which = table.model == model if incident_id is None else table.incident_id == incident_id
        query = select(*_columns).where(which).order_by(table.seq.desc()).limit(newest)
        with self.transaction(connection) as on:
            return [Event(**row._mapping) for row in on.execute(query)][::-1]

    def newest_of(self, model: str, *kinds: EventKind, connection: Connection | None = None) -> Event | None:
        """Read a model's newest event of some kinds; what else the history holds is not read."""
        with self.transaction(connection) as on:
            row = on.execute(_newest(model, kinds)).one_or_none()
        return Event(**row._mapping) if row is not None else None

    def events_of(self, model: str, *kinds: EventKind, connection: Connection | None = None) -> list[Event]:
        """Read a model's events of some kinds, oldest first."""
        table = tables.incident_event.c
        query = select(*_columns).where(table.model == model, table.kind.in_(kinds)).order_by(table.seq)
        with self.transaction(connection) as on:
            return [Event(**row._mapping) for row in on.execute(query)]

    @contextmanager
    def locked(self, model: str, connection: Connection | None = None) -> Iterator[Connection]:
        """Give a transaction during which nobody else appends to the model's history."""
        with self.transaction(connection) as on:
            on.execute(text("SELECT pg_advisory_xact_lock(hashtext('history'), hashtext(:model))"), {"model": model})
            yield on

    def head(self, model: str, *, connection: Connection | None = None) -> Head | None:
        """Read the newest event's number and hash, as PostgreSQL's trigger keeps them; None before the first."""
        table = tables.history_head.c
        with self.transaction(connection) as on:
            row = on.execute(select(table.seq, table.hash).where(table.model == model)).one_or_none()
        return Head(row.seq, row.hash) if row is not None else None

    def heads(self) -> dict[str, Head]:
        """Read the newest event's number and hash of each model, by the model's name."""
        table = tables.history_head.c
        with self.transaction() as on:
            return {
                row.model: Head(row.seq, row.hash) for row in on.execute(select(table.model, table.seq, table.hash))
            }

    def verify(self, model: str, *, newest: int | None = None) -> list[str]:
        """Check the model's hash chain up to its newest event; give a sentence for each break.

        With `newest` only so many of the newest events are read, and the first of them is taken at its word.
        """
        snapshot = self.engine.execution_options(isolation_level="REPEATABLE READ")
        with History(snapshot).transaction() as on:  # both as of one moment, whatever is appended meanwhile
            head, events = self.head(model, connection=on), self.events(model, newest=newest, connection=on)
        if head is None and events:
            return [*broken_links(events), f"{model}: nothing is known of the newest event; its record was deleted"]
        return broken_links(events, head, is_part=len(events) == newest)

    def note_change(
        self,
        model: str,
        about: str,
        *,
        stands: bool,
        begins: EventKind,
        ends: EventKind,
        reason: str,
        evidence: dict[str, Any],
        actor: str,
    ) -> bool:
        """Append an event of kind `begins` or `ends` when a matter begins to stand or ceases to; say whether it did.

        While nothing changes nothing is appended, however often it is looked at.
        """
        with self.locked(model) as on:
            newest = on.execute(_newest(model, (begins, ends), about)).one_or_none()
            if (newest is not None and newest.kind == begins) == stands:
                return False
            kind = begins if stands else ends
            self.note(model, kind, reason, {"about": about, **evidence}, actor=actor, connection=on)
        return True


_columns = [tables.incident_event.c[field.name] for field in fields(Event)]


def _newest(model: str, kinds: Sequence[str], about: str | None = None) -> Select[Any]:
    """Give the query for a model's newest event of some kinds: one look at the index for each kind."""
    table = tables.incident_event.c
    newest = [
        select(*_columns)
        .where(table.model == model, table.kind == kind)
        .where(true() if about is None else table.evidence["about"].astext == about)
        .order_by(table.seq.desc())
        .limit(1)
        .subquery()
        for kind in kinds
    ]
    rows = union_all(*(select(query) for query in newest)).subquery()
    return select(rows).order_by(rows.c.seq.desc()).limit(1)
