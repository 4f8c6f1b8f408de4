"""Which version of each model serves, since when, and how it is changed."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, case, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.errors import ContractError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import Incident
from datasets_defs.core.plain import clean_text
from datasets_defs.ledger.retirements import retirement_in
from datasets_defs.ledger.routes import Routes
from datasets_defs.ledger.way_back import DRILLS, way_back
from datasets_defs.store import tables


@dataclass(frozen=True, slots=True)
class Champion:
    """Which version serves a model."""

    model: str
    version: int
    previous_version: int | None
    """Where a rollback goes: the last good champion before this one."""
    since: datetime
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """How another version came to serve."""

    former: int | None
    """The version that served before; None: this is the first."""
    kind: str
    reason: str
    actor: str
    incident: Incident | None


def _before_drills(model: str) -> Select[Any]:
    """Give the query for when the champion was changed last, drills aside."""
    table = tables.promotion.c
    query = select(table.at).where(table.model == model, table.kind.not_in(DRILLS))
    return query.order_by(table.token.desc()).limit(1)


class Champions(Routes):
    """Reads and changes which version serves each model.

    Methods that write take `connection` to join a transaction of the caller's; without it they use their own.

    Raises (every method):
        TransientError: PostgreSQL is away.
    """

    def champion(self, model: str, *, connection: Connection | None = None, lock: bool = False) -> Champion | None:
        """Read which version serves a model; None before its first."""
        query = select(tables.champion).where(tables.champion.c.model == model)
        with self.transaction(connection) as on:
            row = on.execute(query.with_for_update() if lock else query).one_or_none()
        return Champion(**row._mapping) if row is not None else None

    def champions(self) -> dict[str, Champion]:
        """Read which version serves each model, by the model's name; models before their first are not in it."""
        with self.transaction() as on:
            return {row.model: Champion(**row._mapping) for row in on.execute(select(tables.champion))}

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
            previous = way_back(self._changes(on, model, until=row.token)) if row is not None else None
        return Champion(model, row.to_version, previous, row.at, row.token) if row is not None else None

    def is_promoted(self, champion: Champion) -> bool:
        """Say whether a champion came by a promotion, and not as the first or by going back."""
        table = tables.promotion.c
        query = (
            select(table.kind)
            .where(table.model == champion.model, table.token <= champion.token, table.kind.not_in(DRILLS))
            .order_by(table.token.desc())
            .limit(1)
        )
        with self.transaction() as on:
            return on.scalar(query) == "promote"

    def first_served(self, model: str) -> datetime | None:
        """Read since when a model has had a champion; None before its first."""
        return self.first_served_of(model).get(model)

    def first_served_of(self, *models: str) -> dict[str, datetime]:
        """Read since when some models have had a champion, by the model's name: one look at the index for each."""
        champion, promotion = tables.champion.c, tables.promotion.c
        first = (
            select(promotion.at)
            .where(promotion.model == champion.model)
            .order_by(promotion.token)
            .limit(1)
            .correlate(tables.champion)
            .scalar_subquery()
        )
        first_at = case((champion.token == 1, champion.since), else_=first)
        with self.transaction() as on:
            query = select(champion.model, first_at.label("at")).where(champion.model.in_(models))
            return {row.model: row.at for row in on.execute(query)}

    def is_rolled_back_for(self, incident: Incident) -> bool:
        """Say whether the present champion was made by a rollback for this incident, which may have been cut short."""
        table, champion = tables.promotion.c, self.champion(incident.model)
        query = select(table.token).where(
            table.model == incident.model, table.incident_id == incident.id, table.kind == "roll_back"
        )
        with self.transaction() as on:
            tokens = set(on.scalars(query))
        return champion is not None and champion.token in tokens

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

        `kind` is `bootstrap`, `promote`, `roll_back`, `revert`, `drill` or `drill_end`. The previous version is where
        the history leads back to (`way_back`): what was rolled back is nowhere to go back to, and what served before
        it still is. The end of a drill leaves the champion as it was before, serving since then.

        Raises:
            ContractError: another version serves, or the model is retired; nothing was changed.
        """
        with self.transaction(connection) as on:
            if (retired := retirement_in(on, model)) is not None:
                raise ContractError(f"{retired}. Bring it back first: driftloop bring-back {model}")
            now = self._locked(on, model, expected)
            token = (now.token if now else 0) + 1
            previous = way_back([*self._changes(on, model, until=token), (kind, to)])
            values = {"version": to, "previous_version": previous, "token": token}
            since = func.now() if kind != "drill_end" else _before_drills(model).scalar_subquery()
            row = on.execute(
                insert(tables.champion)
                .values(model=model, **values)
                .on_conflict_do_update(index_elements=["model"], set_={**values, "since": since})
                .returning(tables.champion)
            ).one()
            champion = Champion(**row._mapping)
            change = _Change(former=expected, kind=kind, reason=reason, actor=actor, incident=incident)
            self._record(on, champion, change)
            self._follow_champion(on, model, to, actor)
        return champion

    @staticmethod
    def _changes(on: Connection, model: str, *, until: int) -> list[tuple[str, int]]:
        """Read kind and new version of a model's changes up to a token, oldest first: a few a month at most."""
        table = tables.promotion.c
        query = select(table.kind, table.to_version).where(table.model == model, table.token <= until)
        return [(row.kind, row.to_version) for row in on.execute(query.order_by(table.token))]

    def _locked(self, on: Connection, model: str, expected: int | None) -> Champion | None:
        """Read the champion and let nobody else change it in this transaction; raise if it is not the expected one."""
        on.execute(text("SELECT pg_advisory_xact_lock(hashtext('champion'), hashtext(:model))"), {"model": model})
        now = self.champion(model, connection=on, lock=True)
        if (now.version if now else None) != expected:
            serving = f"version {now.version}" if now else "no version"
            raise ContractError(f"{model}: {serving} serves, not {expected}; champion left as it is")
        return now

    def _record(self, on: Connection, champion: Champion, change: _Change) -> None:
        """Write a change down where a rollback looks for it, and in the history."""
        incident = change.incident
        on.execute(
            insert(tables.promotion).values(
                model=champion.model,
                incident_id=incident.id if incident else None,
                kind=change.kind,
                from_version=change.former,
                to_version=champion.version,
                token=champion.token,
                reason=clean_text(change.reason),
                actor=change.actor,
            )
        )
        evidence = {"from_version": change.former, "to_version": champion.version, "change": change.kind}
        self.note(
            champion.model, EventKind.CHAMPION, change.reason, evidence, actor=change.actor, incident=incident,
            connection=on,
        )  # fmt: skip

    def confirm_champion(self, champion: Champion, *, connection: Connection | None = None) -> None:
        """Record that serving reported the champion's version, and end its rollout; twice changes nothing."""
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
            self._settle_route(on, champion.model, champion.version)
