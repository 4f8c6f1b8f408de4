"""Each model's YAML as the loop last read it."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.store import tables
from datasets_defs.store.database import database_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSpec:
    """A YAML as it was read once."""

    version: str
    """Of driftloop, which knows the fields and their defaults."""
    content: dict[str, Any]
    """Every field, defaults included, as plain values."""


def seen_spec(engine: Engine, model: str) -> SeenSpec | None:
    """Give a model's YAML as the loop last read it; None: it has not read it yet.

    Raises:
        TransientError: PostgreSQL is away.
    """
    with database_errors("reading a model's settings"), engine.connect() as on:
        return seen_in(on, model)


def seen_in(on: Connection, model: str) -> SeenSpec | None:
    """Give it within a transaction."""
    seen = tables.spec_seen.c
    row = on.execute(select(seen.version, seen.content).where(seen.model == model)).one_or_none()
    return None if row is None else SeenSpec(version=row.version, content=row.content)


def keep_seen(on: Connection, model: str, spec: SeenSpec) -> None:
    """Keep what was read, in a transaction of the caller's."""
    values = {"model": model, "version": spec.version, "content": spec.content, "at": func.now()}
    on.execute(insert(tables.spec_seen).values(values).on_conflict_do_update(index_elements=["model"], set_=values))
