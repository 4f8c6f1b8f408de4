"""The incident ledger: the truth about who is doing what for which model, and which version serves.

Every move is a compare-and-set inside one transaction that also appends to the hash-chained history.
Wake-ups carry only a key into this ledger; delivering one twice, late or never changes nothing but the time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select, update

from datasets_defs.core.conditions import RingKey
from datasets_defs.core.errors import ContractError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import TERMINAL, Incident, State, may_move
from datasets_defs.ledger.opening import Incidents
from datasets_defs.ledger.pauses import pause_in
from datasets_defs.ledger.retirements import retirement_in
from datasets_defs.store import tables
from datasets_defs.store.incidents import incident_of

_DIVIDED = (State.ROLLOUT, State.PROMOTING)
"""States in which a challenger may answer some users, or all until every replica has it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim: the incident with a fresh fencing token, or None and why not."""

    incident: Incident | None
    reason: str


class Ledger(Incidents):
    """Reads and moves the incidents, the champions and the history of one database.

    Methods that write take `connection` to join a transaction of the caller's; without it they use their own.

    Raises (every method):
        TransientError: PostgreSQL is away.
    """

    def claim(
        self,
        key: RingKey,
        *,
        frm: set[State],
        to: State,
        actor: str,
        lease: timedelta,
        reason: str,
        in_pause: bool = False,
        connection: Connection | None = None,
    ) -> Claim:
        """Take an incident's next step for `actor`, for as long as `lease` (renewable), under a new fencing token.

        Granted when the incident stands in `frm`, or already in `to` under this actor (a retried task) or under one
        whose lease has run out. Otherwise refused, with the reason: a second wake-up finds the work taken. While the
        model is paused nothing new is granted, but `in_pause`: what was begun goes on, by whichever run, and so does
        what a person ordered.

        Raises:
            ContractError: a step from one of `frm` to `to` is not in the table of transitions.
        """
        if to in TERMINAL or not all(state is to or may_move(state, to) for state in frm):
            raise ContractError(f"incident {key.incident_id}: {_names(frm)} → {to} is not a step that can be claimed")
        with self.transaction(connection) as on:
            incident = self.incident(key.incident_id, connection=on, lock=True)
            now = on.execute(select(func.now())).scalar_one()
            if incident.state not in frm | {to}:
                return Claim(None, f"incident {incident.id} is {incident.state}; this step needs {_names(frm)}")
            if incident.lease_until is not None and incident.lease_until > now and incident.claimed_by != actor:
                return Claim(None, f"incident {incident.id} is in the hands of {incident.claimed_by}")
            if (retired := retirement_in(on, incident.model)) is not None:
                return Claim(None, str(retired))
            is_begun = incident.goes_on_in_a_pause or (incident.state is to and incident.claimed_by == actor)
            if not (in_pause or is_begun) and (paused := pause_in(on, incident.model)) is not None:
                return Claim(None, str(paused))
            return Claim(self._take(on, incident, to, actor=actor, until=now + lease, reason=reason), reason)

    def _take(
        self, on: Connection, incident: Incident, to: State, *, actor: str, until: datetime, reason: str
    ) -> Incident:
        """Give a locked incident to `actor` under a new fencing token, and write that down."""
        moves = incident.state is not to
        values = {
            "state": to,
            "token": incident.token + 1,
            "claimed_by": actor,
            "lease_until": until,
            "not_before": None,
            "attempt": incident.attempt + (moves and to is State.RETRAINING),
            **({"updated_at": func.now(), "ordered_by": None} if moves else {}),
        }
        table = tables.incident
        row = on.execute(update(table).where(table.c.id == incident.id).values(values).returning(table)).one()
        claimed = incident_of(row)
        kind = EventKind.MOVED if moves else EventKind.CLAIMED
        self.note(incident.model, kind, reason, {}, actor=actor, incident=claimed, frm=incident.state, connection=on)
        return claimed

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

        A rollout that does not go on to the promotion ends in the same transaction: all users are the champion's again.
        `to` may be its present state, to record `changes` (columns of `incident`) in place: of two who read the same
        incident only one can write.

        Raises:
            ContractError: the move is not in the table of transitions, or the incident has moved on meanwhile.
        """
        if to is not incident.state and not may_move(incident.state, to):
            raise ContractError(f"incident {incident.id}: {incident.state} → {to} is not an allowed move")
        moves = to is not incident.state
        with self.transaction(connection) as on:
            moved = self._set(on, incident, to, changes)
            if moved is None:
                raise self._overtaken(on, incident)
            if incident.state in _DIVIDED and to not in (*_DIVIDED, State.PROBATION):
                self.end_route(incident.model, actor=actor, reason=reason, connection=on)
            self.note(
                incident.model, EventKind.MOVED if moves else EventKind.PROGRESS, reason, evidence or {},
                actor=actor, incident=moved, frm=incident.state, connection=on,
            )  # fmt: skip
        return moved

    @staticmethod
    def _set(on: Connection, incident: Incident, to: State, changes: Mapping[str, Any]) -> Incident | None:
        """Write an incident's next state and let go of its claim; None when it is no longer as it was read."""
        table = tables.incident.c
        values = {
            "state": to,
            "token": incident.token + 1,  # who read it before must not write over this
            "updated_at": func.now() if to is not incident.state else table.updated_at,
            "closed_at": func.now() if to in TERMINAL else None,
            "claimed_by": None,
            "lease_until": None,
            **({"ordered_by": None} if to is not incident.state else {}),
        }
        row = on.execute(
            update(tables.incident)
            .where(table.id == incident.id, table.state == incident.state, table.token == incident.token)
            .values(**{**values, **changes})
            .returning(tables.incident)
        ).one_or_none()
        return incident_of(row) if row is not None else None

    def _overtaken(self, on: Connection, incident: Incident) -> ContractError:
        """Say how an incident stands that is no longer as it was read."""
        now = self.incident(incident.id, connection=on)
        return ContractError(
            f"incident {incident.id} is {now.state} (token {now.token}); "
            f"this step knew it as {incident.state} (token {incident.token}) and must stop"
        )


def _names(states: set[State]) -> str:
    return " or ".join(sorted(states))
