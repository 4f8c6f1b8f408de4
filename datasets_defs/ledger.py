"""The incident ledger: the truth about who is doing what for which model, and which version serves.

Every move is a compare-and-set inside one transaction that also appends to the hash-chained history.
Wake-ups carry only a key into this ledger; delivering one twice, late or never changes nothing but the time.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Select, and_, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from datasets_defs import tables
from datasets_defs.conditions import RingKey
from datasets_defs.database import database_errors
from datasets_defs.errors import ContractError, TransientError
from datasets_defs.history import GENESIS, Event, Head, broken_links, clean_text, plain
from datasets_defs.incidents import TERMINAL, Action, Cause, Incident, State, may_move
from datasets_defs.pauses import pause_in

DRILLS = ("drill", "drill_end")
"""Kinds of change that a drill makes: to the version before, and forward again. Nothing is judged by them."""
REPLACING = ("promote", "drill_end")
"""Kinds of change after which the version before is where a rollback goes."""
_terminal = [state.value for state in TERMINAL]


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim: the incident with a fresh fencing token, or None and why not."""

    incident: Incident | None
    reason: str


@dataclass(frozen=True, slots=True)
class Champion:
    """Which version serves a model."""

    model: str
    version: int
    previous_version: int | None
    since: datetime
    token: int


class Ledger:
    """Reads and moves incidents and champions of one database.

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

    # --- incidents -------------------------------------------------------------------------------------------------

    def open_incident(
        self,
        model: str,
        *,
        signal: str,
        degraded_since: datetime,
        reason: str,
        evidence: dict[str, Any],
        actor: str,
        connection: Connection | None = None,
    ) -> tuple[Incident, bool]:
        """Open an incident, or join the model's open one; says whether it is new.

        The evidence of each signal is kept under its name; a signal that joins later is an event of its own.
        """
        with self.transaction(connection) as on:
            present = self.open_of(model, connection=on, lock=True)
            if present is not None:
                return self._join(on, present, signal, degraded_since, reason, evidence, actor), False
            row = on.execute(
                insert(tables.incident)
                .values(
                    model=model,
                    state=State.OPEN,
                    signal=signal,
                    degraded_since=degraded_since,
                    evidence={signal: plain(evidence)},
                )
                .on_conflict_do_nothing()
                .returning(tables.incident)
            ).one_or_none()
            if row is None:  # another sensor opened one since we looked
                present = self.open_of(model, connection=on, lock=True)
                if present is None:
                    raise TransientError(f"{model}: an incident was opened and ended while this one was being opened")
                return self._join(on, present, signal, degraded_since, reason, evidence, actor), False
            incident = incident_of(row)
            self.note(model, "opened", reason, evidence, actor=actor, incident=incident, connection=on)
            return incident, True

    def _join(
        self,
        on: Connection,
        present: Incident,
        signal: str,
        degraded_since: datetime,
        reason: str,
        evidence: dict[str, Any],
        actor: str,
    ) -> Incident:
        """Add a signal's newest evidence to an open incident; the first time is an event."""
        row = on.execute(
            update(tables.incident)
            .where(tables.incident.c.id == present.id)
            .values(
                evidence={**present.evidence, signal: plain(evidence)},
                degraded_since=func.least(tables.incident.c.degraded_since, degraded_since),
            )
            .returning(tables.incident)
        ).one()
        incident = incident_of(row)
        if signal not in present.evidence:
            self.note(present.model, "evidence", reason, evidence, actor=actor, incident=incident, connection=on)
        return incident

    def incident(self, incident_id: int, *, connection: Connection | None = None, lock: bool = False) -> Incident:
        """Read one incident; with `lock`, hold its row until the transaction ends.

        Raises:
            ContractError: there is no such incident.
        """
        query = select(tables.incident).where(tables.incident.c.id == incident_id)
        with self.transaction(connection) as on:
            row = on.execute(query.with_for_update() if lock else query).one_or_none()
        if row is None:
            raise ContractError(f"incident {incident_id} is not in the ledger; list them with `driftloop history`")
        return incident_of(row)

    def open_of(self, model: str, *, connection: Connection | None = None, lock: bool = False) -> Incident | None:
        """Read the model's open incident, if there is one."""
        query = select(tables.incident).where(
            tables.incident.c.model == model, tables.incident.c.state.not_in(_terminal)
        )
        with self.transaction(connection) as on:
            row = on.execute(query.with_for_update() if lock else query).one_or_none()
        return incident_of(row) if row is not None else None

    def open_incidents(self) -> list[Incident]:
        """Read every open incident, oldest first."""
        query = select(tables.incident).where(tables.incident.c.state.not_in(_terminal)).order_by(tables.incident.c.id)
        with self.transaction() as on:
            return [incident_of(row) for row in on.execute(query)]

    def last_closed(self, model: str) -> Incident | None:
        """Read the model's incident that ended last, if any did."""
        query = (
            select(tables.incident)
            .where(tables.incident.c.model == model, tables.incident.c.state.in_(_terminal))
            .order_by(tables.incident.c.closed_at.desc())
            .limit(1)
        )
        with self.transaction() as on:
            row = on.execute(query).one_or_none()
        return incident_of(row) if row is not None else None

    def ring(self, incident_id: int, *, connection: Connection | None = None) -> RingKey:
        """Make the key of the next wake-up about an incident; no key is ever given twice."""
        with self.transaction(connection) as on:
            row = on.execute(
                update(tables.incident)
                .where(tables.incident.c.id == incident_id)
                .values(rings=tables.incident.c.rings + 1, rung_at=func.now())
                .returning(tables.incident.c.model, tables.incident.c.rings)
            ).one()
        return RingKey(row.model, incident_id, row.rings)

    def claim(
        self,
        key: RingKey,
        *,
        frm: set[State],
        to: State,
        actor: str,
        lease: timedelta,
        reason: str,
        by_hand: bool = False,
        connection: Connection | None = None,
    ) -> Claim:
        """Take an incident's next step for `actor`, for as long as `lease` (renewable), under a new fencing token.

        Granted when the incident stands in `frm`, or already in `to` under this actor (a retried task) or under one
        whose lease has run out. Otherwise refused, with the reason: a second wake-up finds the work taken. While the
        model is paused nothing new is granted, but `by_hand`.

        Raises:
            ContractError: a step from one of `frm` to `to` is not in the table of transitions.
        """
        if to in TERMINAL or not all(state is to or may_move(state, to) for state in frm):
            raise ContractError(f"incident {key.incident_id}: {_names(frm)} → {to} is not a step that can be claimed")
        with self.transaction(connection) as on:
            incident = self.incident(key.incident_id, connection=on, lock=True)
            now = on.execute(select(func.now())).scalar_one()
            held = incident.lease_until is not None and incident.lease_until > now and incident.claimed_by != actor
            if incident.state not in frm | {to}:
                return Claim(None, f"incident {incident.id} is {incident.state}; this step needs {_names(frm)}")
            if held:
                return Claim(None, f"incident {incident.id} is in the hands of {incident.claimed_by}")
            begun = incident.state is to and incident.claimed_by == actor
            if not (by_hand or begun) and (paused := pause_in(on, incident.model)) is not None:
                return Claim(None, str(paused))
            row = on.execute(
                update(tables.incident)
                .where(tables.incident.c.id == incident.id)
                .values(
                    state=to,
                    token=incident.token + 1,
                    claimed_by=actor,
                    lease_until=now + lease,
                    not_before=None,
                    updated_at=now if incident.state is not to else incident.updated_at,
                    attempt=incident.attempt + (to is State.RETRAINING and incident.state is not to),
                )
                .returning(tables.incident)
            ).one()
            claimed = incident_of(row)
            kind = "moved" if incident.state is not to else "claimed"
            self.note(
                incident.model, kind, reason, {}, actor=actor, incident=claimed, frm=incident.state, connection=on
            )
            return Claim(claimed, reason)

    def renew(self, incident: Incident, lease: timedelta) -> None:
        """Hold a claim for another `lease`.

        Raises:
            ContractError: another holder took over (the fencing token has grown), or a person ended the incident;
                stop at once.
        """
        with self.transaction() as on:
            held = on.execute(
                update(tables.incident)
                .where(
                    tables.incident.c.id == incident.id,
                    tables.incident.c.token == incident.token,
                    tables.incident.c.state == incident.state,
                )
                .values(lease_until=func.now() + lease)
            ).rowcount
        if not held:
            now = self.incident(incident.id)
            what = f"is {now.state}" if now.state is not incident.state else "was taken over by another run"
            raise ContractError(f"incident {incident.id} {what}; this one must stop")

    def release(self, incident: Incident, *, actor: str, reason: str) -> Incident | None:
        """Take a claim from a holder that is known to be dead; None when anything happened since it was read.

        The fencing token grows: a holder that lives after all can no longer write. What was rung counts as unanswered.
        """
        table = tables.incident.c
        with self.transaction() as on:
            row = on.execute(
                update(tables.incident)
                .where(
                    table.id == incident.id, table.state == incident.state, table.token == incident.token,
                    table.claimed_by == incident.claimed_by,
                )
                .values(token=table.token + 1, claimed_by=None, lease_until=None, rung_at=None)
                .returning(tables.incident)
            ).one_or_none()  # fmt: skip
            if row is None:
                return None
            freed = incident_of(row)
            self.note(incident.model, "released", reason, {}, actor=actor, incident=freed, connection=on)
        return freed

    def move(
        self,
        incident: Incident,
        to: State,
        *,
        actor: str,
        reason: str,
        evidence: dict[str, Any] | None = None,
        connection: Connection | None = None,
        **changes: Any,
    ) -> Incident:
        """Move an incident from the state and token it was read with, and let go of any claim; the token grows.

        `to` may be its present state, to record `changes` (columns of `incident`) in place.

        Raises:
            ContractError: the move is not in the table of transitions, or the incident has moved on meanwhile.
        """
        if to is not incident.state and not may_move(incident.state, to):
            raise ContractError(f"incident {incident.id}: {incident.state} → {to} is not an allowed move")
        with self.transaction(connection) as on:
            row = on.execute(
                update(tables.incident)
                .where(
                    and_(
                        tables.incident.c.id == incident.id,
                        tables.incident.c.state == incident.state,
                        tables.incident.c.token == incident.token,
                    )
                )
                .values(
                    state=to,
                    token=incident.token + (to is not incident.state),  # who knew it before must not come back to it
                    updated_at=func.now() if to is not incident.state else tables.incident.c.updated_at,
                    closed_at=func.now() if to in TERMINAL else None,
                    claimed_by=None,
                    lease_until=None,
                    **changes,
                )
                .returning(tables.incident)
            ).one_or_none()
            if row is None:
                now = self.incident(incident.id, connection=on)
                raise ContractError(
                    f"incident {incident.id} is {now.state} (token {now.token}); "
                    f"this step knew it as {incident.state} (token {incident.token}) and must stop"
                )
            moved = incident_of(row)
            kind = "moved" if to is not incident.state else "progress"
            self.note(
                incident.model,
                kind,
                reason,
                evidence or {},
                actor=actor,
                incident=moved,
                frm=incident.state,
                connection=on,
            )
        return moved

    # --- history ---------------------------------------------------------------------------------------------------

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
        with Ledger(snapshot).transaction() as on:  # both as of one moment, whatever is appended meanwhile
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

    # --- champions -------------------------------------------------------------------------------------------------

    def champion(self, model: str, *, connection: Connection | None = None, lock: bool = False) -> Champion | None:
        """Read which version serves a model; None before its first."""
        query = select(tables.champion).where(tables.champion.c.model == model)
        with self.transaction(connection) as on:
            row = on.execute(query.with_for_update() if lock else query).one_or_none()
        return Champion(**row._mapping) if row is not None else None

    def champion_at(self, model: str, at: datetime) -> Champion | None:
        """Read which version served a model just before a time; None before its first."""
        present, table = self.champion(model), tables.promotion
        if present is None or present.since < at:
            return present
        query = (
            select(table)
            .where(table.c.model == model, table.c.at < at, table.c.token < present.token, table.c.kind.not_in(DRILLS))
            .order_by(table.c.token.desc())
            .limit(1)
        )
        with self.transaction() as on:
            row = on.execute(query).one_or_none()
        if row is None:
            return None
        previous = row.from_version if row.kind == "promote" else None
        return Champion(model, row.to_version, previous, row.at, row.token)

    def first_served(self, model: str) -> datetime | None:
        """Read since when a model has had a champion; None before its first."""
        present = self.champion(model)
        if present is None or present.token == 1:
            return present.since if present is not None else None
        with self.transaction() as on:
            first: datetime | None = on.scalar(
                select(func.min(tables.promotion.c.at)).where(tables.promotion.c.model == model)
            )
        return first

    def change_champion(
        self,
        model: str,
        *,
        expected: int | None,
        to: int,
        kind: str,
        reason: str,
        actor: str,
        incident: Incident | None = None,
        connection: Connection | None = None,
    ) -> Champion:
        """Make `to` the champion if the present one is `expected` (None: there is none yet).

        `kind` is `bootstrap`, `promote`, `roll_back`, `revert`, `drill` or `drill_end`. After a rollback or a revert
        there is no previous version: what was rolled back is nowhere to go back to. The end of a drill leaves the
        champion as it was before, serving since then: a drill is no promotion.

        Raises:
            ContractError: another version serves; nothing was changed.
        """
        with self.transaction(connection) as on:
            on.execute(text("SELECT pg_advisory_xact_lock(hashtext('champion'), hashtext(:model))"), {"model": model})
            now = self.champion(model, connection=on, lock=True)
            if (now.version if now else None) != expected:
                found = f"version {now.version}" if now else "no version"
                raise ContractError(f"{model}: {found} serves, not {expected}; champion left as it is")
            values = {
                "version": to,
                "previous_version": expected if kind in REPLACING else None,
                "token": (now.token if now else 0) + 1,
            }
            since = func.now() if kind != "drill_end" else _before_drills(model).scalar_subquery()
            row = on.execute(
                insert(tables.champion)
                .values(model=model, **values)
                .on_conflict_do_update(index_elements=["model"], set_={**values, "since": since})
                .returning(tables.champion)
            ).one()
            on.execute(
                insert(tables.promotion).values(
                    model=model,
                    incident_id=incident.id if incident else None,
                    kind=kind,
                    from_version=expected,
                    to_version=to,
                    token=values["token"],
                    reason=clean_text(reason),
                    actor=actor,
                )
            )
            self.note(
                model,
                "champion",
                reason,
                {"from_version": expected, "to_version": to, "change": kind},
                actor=actor,
                incident=incident,
                connection=on,
            )
        return Champion(**row._mapping)

    def confirm_champion(self, champion: Champion, *, connection: Connection | None = None) -> None:
        """Record that serving reported the champion's version; saying so twice changes nothing."""
        with self.transaction(connection) as on:
            on.execute(
                update(tables.promotion)
                .where(
                    tables.promotion.c.model == champion.model,
                    tables.promotion.c.token == champion.token,
                    tables.promotion.c.confirmed_at.is_(None),
                )
                .values(confirmed_at=func.now())
            )


def _before_drills(model: str) -> Select[Any]:
    """Give the query for when the champion was changed last, drills aside."""
    table = tables.promotion.c
    query = select(table.at).where(table.model == model, table.kind.not_in(DRILLS))
    return query.order_by(table.token.desc()).limit(1)


def incident_of(row: Any) -> Incident:
    """Read an incident from a row of its table."""
    values = dict(row._mapping)
    return Incident(
        **{
            **values,
            "state": State(values["state"]),
            "cause": Cause(values["cause"]) if values["cause"] else None,
            "action": Action(values["action"]) if values["action"] else None,
        }
    )


def _names(states: set[State]) -> str:
    return " or ".join(sorted(states))
