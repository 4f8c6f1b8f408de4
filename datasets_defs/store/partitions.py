"""The inference log's day partitions, made and dropped without holding up anybody who reads or writes the log.

Making or dropping a partition in place takes a lock for which everybody who comes later queues. Here a day is made as a
table of its own and attached, and it is detached concurrently before it is dropped. Both locks leave reading and
writing alone (PostgreSQL's manual, ALTER TABLE, ATTACH and DETACH PARTITION). No try waits for long; the next one goes
on.
"""

import logging
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Connection, Engine, text

from datasets_defs.core.errors import TransientError
from datasets_defs.store.database import database_errors

log = logging.getLogger(__name__)
LOCK_LIMIT = timedelta(seconds=2)
"""How long one try waits for a lock: for another maker of days, or for somebody who alters the log."""
DETACH_LIMIT = timedelta(seconds=10)
"""How long one try waits for the readers of a day that is to be dropped."""
_DETACHED = "pg_inherits WHERE inhparent = 'inference'::regclass AND inhdetachpending"


def ensure_days(db: Engine, days: Iterable[date]) -> None:
    """Make the day partitions that are missing; safe when several writers do it at once, and when one is killed.

    Raises:
        TransientError: PostgreSQL is away, or a lock was not to be had in time.
    """
    wanted = {_name(day): day for day in days}
    with database_errors("looking for the log's days"), db.connect() as on:
        query = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'inference'::regclass")
        there = set(on.scalars(query))
    for name, day in sorted(wanted.items()):
        if name not in there:
            _make(db, name, day)


def drop_days(db: Engine, before: datetime) -> list[str]:
    """Drop the days that end by `before`, oldest first; give their names.

    A day that somebody reads all the while stays for the next time, and those after it with it.

    Raises:
        TransientError: PostgreSQL is away.
    """
    last = _name(before.astimezone(UTC).date() - timedelta(days=1))
    with database_errors("looking for old days of the log"), db.connect() as on:
        query = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'inference'::regclass")
        attached = set(on.scalars(query))
        # a day that a killed run had detached is a table of its own by now
        loose = set(
            on.scalars(text("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^inference_\\d{8}$'"))
        )
    dropped = []
    for name in sorted(name for name in attached | loose if name <= last):
        try:
            if name in attached:
                _detach(db, name)
            with database_errors(f"dropping {name}"), db.begin() as on:
                _limit(on, LOCK_LIMIT)
                on.execute(text(f"DROP TABLE IF EXISTS {name}"))
        except TransientError as err:
            log.warning("%s and what is newer stay for now: %s", name, err)
            break
        dropped.append(name)
    return dropped


def _make(db: Engine, name: str, day: date) -> None:
    bounds = f"FROM ('{day}T00:00:00Z') TO ('{day + timedelta(days=1)}T00:00:00Z')"
    with database_errors(f"making {name}"), db.begin() as on:
        _limit(on, LOCK_LIMIT)
        on.execute(text("SELECT pg_advisory_xact_lock(hashtext('inference partitions'))"))
        if on.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is None:
            on.execute(text(f"CREATE TABLE {name} (LIKE inference INCLUDING ALL)"))
            on.execute(text(f"ALTER TABLE inference ATTACH PARTITION {name} FOR VALUES {bounds}"))


def _detach(db: Engine, name: str) -> None:
    """Detach a day; one whose detaching was cut short is finished first, since only one may be pending."""
    with database_errors(f"detaching {name}"), db.connect().execution_options(isolation_level="AUTOCOMMIT") as on:
        _limit(on, DETACH_LIMIT, local=False)
        try:
            for pending in on.scalars(text(f"SELECT inhrelid::regclass::text FROM {_DETACHED}")).all():  # noqa: S608 constant
                on.execute(text(f"ALTER TABLE inference DETACH PARTITION {pending} FINALIZE"))
                if pending == name:
                    return
            on.execute(text(f"ALTER TABLE inference DETACH PARTITION {name} CONCURRENTLY"))
        finally:
            if not on.invalidated and not on.closed:
                on.execute(text("RESET lock_timeout"))


def _limit(on: Connection, limit: timedelta, *, local: bool = True) -> None:
    scope = "LOCAL " if local else ""
    on.execute(text(f"SET {scope}lock_timeout = {int(limit.total_seconds() * 1000)}"))


def _name(day: date) -> str:
    return f"inference_{day:%Y%m%d}"
