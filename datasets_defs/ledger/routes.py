"""Which users a challenger answers while the champion serves on: one row a model, so that it is never half changed.

A change that is made known by the row is made by it: gateways read the row whole, every second, and route by it alone.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.errors import ContractError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import Incident, State
from datasets_defs.ledger.history import History
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors
from datasets_defs.store.incidents import incident_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How a model's users are divided between two versions."""

    model: str
    incident_id: int
    champion_version: int
    challenger_version: int
    step: int
    """0, 1, 2 … of the steps in the YAML: the one that is wanted."""
    share: float
    """Of users whom the challenger answers now."""
    replicas: tuple[str, ...]
    """Addresses that hold the challenger; none: it is held by the same server as the champion."""
    held: tuple[str, ...]
    """Addresses that answer nobody while they are brought to the challenger, or back."""
    since: datetime | None
    """When the wanted step's share was reached; None: it is not yet."""
    ending: bool
    """Whether the challenger leaves, and nobody is answered by it."""
    token: int

    @property
    def apart(self) -> frozenset[str]:
        """The addresses that the champion's users are not sent to."""
        return frozenset({*self.replicas, *self.held})


_table = tables.route


class Routes(History):
    """Reads and changes which users are answered by a challenger.

    Methods that write take `connection` to join a transaction of the caller's; without it they use their own.

    Raises (every method):
        TransientError: PostgreSQL is away.
    """

    def route(self, model: str, *, connection: Connection | None = None, lock: bool = False) -> Route | None:
        """Read how a model's users are divided; None: its champion answers all."""
        query = select(_table).where(_table.c.model == model)
        with self.transaction(connection) as on:
            row = on.execute(query.with_for_update() if lock else query).one_or_none()
        return _route_of(row) if row is not None else None

    def routes(self) -> dict[str, Route]:
        """Read how the users of all models are divided, by the model's name."""
        with self.transaction() as on:
            return all_routes(on)

    def begin_route(
        self, incident: Incident, *, champion: int, challenger: int, connection: Connection | None = None
    ) -> Route:
        """Write down that a challenger is to be rolled out; nobody is answered by it yet.

        Raises:
            ContractError: an earlier rollout of the model has not come to its end.
        """
        values = {
            "model": incident.model, "incident_id": incident.id, "champion_version": champion,
            "challenger_version": challenger, "step": 0, "share": 0.0, "replicas": [], "held": [], "since": None,
            "ending": False, "token": 1,
        }  # fmt: skip
        with self.transaction(connection) as on:
            row = on.execute(insert(_table).values(values).on_conflict_do_nothing().returning(_table)).one_or_none()
        if row is None:
            raise ContractError(f"{incident.model}: an earlier rollout's replicas are still being brought back")
        return _route_of(row)

    def change_route(
        self, route: Route, *, actor: str, reason: str = "", connection: Connection | None = None, **changes: Any
    ) -> Route:
        """Change a route from what was read; with a reason it is an event of the history.

        Raises:
            ContractError: it has changed meanwhile.
        """
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in changes.items()}
        values |= {"token": route.token + 1}
        which = (_table.c.model == route.model, _table.c.token == route.token)
        with self.transaction(connection) as on:
            row = on.execute(update(_table).where(*which).values(values).returning(_table)).one_or_none()
            if row is None:
                raise ContractError(f"{route.model}: its users were divided anew meanwhile; this run must stop")
            changed = _route_of(row)
            if reason:
                self._tell(on, changed, reason, actor)
        return changed

    def reach_share(self, route: Route, *, share: float, actor: str, reason: str) -> Route:
        """Let the wanted step begin: its share of the users is answered by the challenger from now on."""
        return self.change_route(route, actor=actor, reason=reason, share=share, since=func.now())

    def end_route(self, model: str, *, actor: str, reason: str, connection: Connection) -> None:
        """Send all users to the champion at once; replicas that hold the challenger answer nobody until brought back.

        Done twice it does nothing more.
        """
        route = self.route(model, connection=connection, lock=True)
        if route is None or route.ending:
            return
        held = tuple(sorted(route.apart))
        ended = self.change_route(
            route, actor=actor, reason=reason, share=0.0, since=None, ending=True, replicas=(), held=held,
            connection=connection,
        )  # fmt: skip
        if not held:
            self.drop_route(ended, connection=connection)

    def drop_route(self, route: Route, *, connection: Connection | None = None) -> None:
        """Let the champion answer everybody, on all replicas; a route that has changed meanwhile stays."""
        with self.transaction(connection) as on:
            on.execute(delete(_table).where(_table.c.model == route.model, _table.c.token == route.token))

    def _follow_champion(self, on: Connection, model: str, version: int, actor: str) -> None:
        """Keep the route in line with a change of champion, in its transaction.

        A challenger that becomes champion answers everybody from the replicas that hold it, until all have it. Any
        other change ends the rollout.
        """
        route = self.route(model, connection=on, lock=True)
        if route is None or route.ending:
            return
        if route.challenger_version != version:
            self.end_route(
                model, actor=actor, reason=f"version {version} is champion; all users are its", connection=on
            )
            return
        self.change_route(route, actor=actor, share=1.0, connection=on)

    def _settle_route(self, on: Connection, model: str, version: int) -> None:
        """Forget the route once every replica has the champion, be it the challenger or the former one again."""
        over = or_(_table.c.challenger_version == version, _table.c.ending)
        on.execute(delete(_table).where(_table.c.model == model, over))

    def _tell(self, on: Connection, route: Route, reason: str, actor: str) -> None:
        incident = incident_of(
            on.execute(select(tables.incident).where(tables.incident.c.id == route.incident_id)).one()
        )
        evidence = {"share": route.share, "step": route.step, "challenger_version": route.challenger_version,
                    "champion_version": route.champion_version}  # fmt: skip
        self.note(route.model, EventKind.ROUTED, reason, evidence, actor=actor, incident=incident, connection=on)


def all_routes(on: Connection) -> dict[str, Route]:
    """Read how the users of all models are divided, by the model's name."""
    return {row.model: _route_of(row) for row in on.execute(select(_table))}


def withdrawn_versions(engine: Engine, model: str) -> set[int]:
    """List the versions that were taken back from their users in a rollout, as worse or at a person's word."""
    table, incident = tables.incident_event.c, tables.incident.c
    query = (
        select(incident.challenger_version)
        .join(tables.incident_event, table.incident_id == incident.id)
        .where(table.model == model, table.kind == EventKind.MOVED)
        .where(table.from_state == State.ROLLOUT, table.state == State.ROLLED_BACK)
    )
    with database_errors("reading which versions were taken back"), engine.connect() as on:
        return {version for version in on.scalars(query) if version is not None}


def _route_of(row: Row[Any]) -> Route:
    values = dict(row._mapping)
    return Route(**{**values, "replicas": tuple(values["replicas"]), "held": tuple(values["held"])})
