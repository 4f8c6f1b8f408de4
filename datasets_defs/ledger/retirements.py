"""Retirements: models that the loop leaves alone, until a person brings them back."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, select

from datasets_defs.core.errors import ContractError
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Retirement:
    """One row of `retirement`."""

    model: str
    reason: str
    actor: str
    since: datetime
    closes_route: bool
    """Whether nobody's requests are answered any more."""
    drops_aliases: bool
    """Whether the registry's aliases are taken away."""

    def __str__(self) -> str:
        return f"{self.model} is retired since {self.since:%Y-%m-%d %H:%M}Z by {self.actor}: {self.reason}"


def retirements(db: Engine) -> dict[str, Retirement]:
    """Read which models are retired, by the model's name.

    Raises:
        TransientError: PostgreSQL is away.
    """
    with database_errors("reading which models are retired"), db.connect() as on:
        return retirements_in(on)


def retirements_in(on: Connection) -> dict[str, Retirement]:
    """Read them within a transaction."""
    return {row.model: Retirement(**row._mapping) for row in on.execute(select(tables.retirement))}


def closed_routes(db: Engine) -> dict[str, Retirement]:
    """Read the retirements that closed a route, by the model's name.

    Raises:
        TransientError: PostgreSQL is away.
    """
    return {model: retirement for model, retirement in retirements(db).items() if retirement.closes_route}


def retirement_of(db: Engine, model: str) -> Retirement | None:
    """Read the retirement of a model; None: the loop acts.

    Raises:
        TransientError: PostgreSQL is away.
    """
    with database_errors("reading whether a model is retired"), db.connect() as on:
        return retirement_in(on, model)


def retirement_in(on: Connection, model: str) -> Retirement | None:
    """Read it within a transaction."""
    row = on.execute(select(tables.retirement).where(tables.retirement.c.model == model)).one_or_none()
    return Retirement(**row._mapping) if row is not None else None


def require_active(db: Engine, model: str) -> None:
    """Refuse to act on a retired model.

    Raises:
        ContractError: it is retired; says since when, by whom, and how to bring it back.
        TransientError: PostgreSQL is away.
    """
    if (retirement := retirement_of(db, model)) is not None:
        raise ContractError(f"{retirement}. `driftloop bring-back {model}` ends that")
