"""Incidents before anybody works on them: opened, joined by further signals, read, and rung about."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.conditions import RingKey
from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import TERMINAL, Incident, State
from datasets_defs.core.plain import plain
from datasets_defs.ledger.champions import Champions
from datasets_defs.ledger.retirements import retirement_in
from datasets_defs.store import tables
from datasets_defs.store.incidents import incident_of

_terminal = [state.value for state in TERMINAL]


class Incidents(Champions):
    """Opens and reads the incidents of one database, at most one open of each model.

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

        Raises:
            TransientError: the model was retired meanwhile; whoever tries again finds that, and does nothing.
        """
        with self.transaction(connection) as on:
            if (retired := retirement_in(on, model)) is not None:
                raise TransientError(f"no incident is opened: {retired}")
            present = self.open_of(model, connection=on, lock=True)
            if present is not None:
                return self._join(on, present, signal, degraded_since, reason, evidence, actor), False
            values = {"model": model, "state": State.OPEN, "signal": signal, "degraded_since": degraded_since,
                      "evidence": {signal: plain(evidence)}}  # fmt: skip
            row = on.execute(
                insert(tables.incident).values(values).on_conflict_do_nothing().returning(tables.incident)
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

    def models_in(self, state: State) -> list[str]:
        """List the models whose open incident is in a state, by name."""
        return sorted(incident.model for incident in self.open_incidents() if incident.state is state)

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


def adopt_incident(on: Connection, values: dict[str, Any]) -> int:
    """Write an incident that another installation had; give its number here. Its history is written beside it."""
    number: int = on.execute(insert(tables.incident).values(values).returning(tables.incident.c.id)).scalar_one()
    return number
