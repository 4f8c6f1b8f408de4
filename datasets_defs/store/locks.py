"""Locks that last as long as a process and its connection: PostgreSQL lets go of them when either dies."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from datasets_defs.store.database import database_errors


@contextmanager
def held(db: Engine, space: str, name: str) -> Iterator[bool]:
    """Try to hold the lock `name` of `space`; give whether it is held, and let go of it at the end.

    Raises:
        TransientError: PostgreSQL is away.
    """
    names, doing = {"space": space, "name": name}, f"taking the lock of {space}"
    with database_errors(doing):
        on = db.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        with database_errors(doing):
            is_mine = bool(on.scalar(text("SELECT pg_try_advisory_lock(hashtext(:space), hashtext(:name))"), names))
        yield is_mine
    finally:
        if not on.closed and not on.invalidated:
            _let_go(on)
        on.invalidate()  # the connection ends, and with it the lock, where nobody could let go of it
        on.close()


def _let_go(on: Connection) -> None:
    """Give the lock back now: the server notices the end of a connection only a moment after it."""
    with suppress(DBAPIError):
        on.execute(text("SELECT pg_advisory_unlock_all()"))
