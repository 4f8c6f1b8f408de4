"""The incident ledger: the truth about who is doing what for which model, and which version serves.

Every move is a compare-and-set inside one transaction that also appends to the hash-chained history.
Wake-ups carry only a key into this ledger; delivering one twice, late or never changes nothing but the time.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, func, select, update
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.conditions import RingKey
from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import TERMINAL, Incident, State, may_move
from datasets_defs.core.plain import plain
from datasets_defs.ledger.champions import Champions
from datasets_defs.ledger.pauses import pause_in
from datasets_defs.store import tables
from datasets_defs.store.incidents import incident_of

_terminal = [state.value for state in TERMINAL]


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim: the incident with a fresh fencing token, or None and why not."""

    incident: Incident | None
    reason: str


class Ledger(Champions):
    """Reads and moves the incidents, the champions and the history of one database.

    Methods that write take `connection` to join a transaction of the caller's; without it they use their own.

    Raises (every method):
        TransientError: PostgreSQL is away.
    """

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
            self.note(model, EventKind.OPENED, reason, evidence, actor=actor, incident=incident, connection=on)
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
            self.note(
                present.model, EventKind.EVIDENCE, reason, evidence, actor=actor, incident=incident, connection=on
            )
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
            kind = EventKind.MOVED if incident.state is not to else EventKind.CLAIMED
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
            self.note(incident.model, EventKind.RELEASED, reason, {}, actor=actor, incident=freed, connection=on)
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

        `to` may be its present state, to record `changes` (columns of `incident`) in place: of two who read the same
        incident only one can write.

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
                    token=incident.token + 1,  # who read it before must not write over this
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
            kind = EventKind.MOVED if to is not incident.state else EventKind.PROGRESS
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


def _names(states: set[State]) -> str:
    return " or ".join(sorted(states))
