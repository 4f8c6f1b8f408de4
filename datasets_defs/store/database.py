"""Connections to the loop's PostgreSQL: engines, errors in our words, and the schema's migrations."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from datasets_defs.core.errors import TransientError
from datasets_defs.core.settings import settings

STATEMENT_SECONDS = 45.0
"""How long a statement may take; whoever needs longer says so with `allow`."""
SILENCE_SECONDS = 10.0
"""How much longer the client waits for the server to say that a statement took too long."""
_TCP = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
"""A host that vanished without a word is noticed by the kernel: seconds, and milliseconds of unanswered data."""

RV = TypeVar("RV")


class LimitedConnection(psycopg.Connection[Any]):
    """A connection on which nothing is waited for without end, even if the server accepts and never answers."""

    limit_seconds: float = STATEMENT_SECONDS

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the server, for `timeout` seconds or the connection's own limit."""
        longest = self.limit_seconds + SILENCE_SECONDS if timeout is None else timeout
        try:
            return super().wait(gen, interval=interval, timeout=longest)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:  # no answer: what it does is unknown
                self.pgconn.finish()
            raise


def engine_for(url: str, *, statement_seconds: float = STATEMENT_SECONDS) -> Engine:
    """Make an engine for a PostgreSQL URL; sessions speak UTC, and nothing is waited for without end.

    Connecting is given up after 10 s, a statement after `statement_seconds`.
    """
    address = make_url(url).set(drivername="postgresql+psycopg")
    made = create_engine(
        address,
        pool_pre_ping=True,
        pool_size=4,
        max_overflow=4,
        hide_parameters=True,  # tracebacks end in logs and on Airflow's pages: no user's text belongs there
        connect_args={
            "connect_timeout": 10,
            "options": f"-c timezone=UTC -c statement_timeout={int(1000 * statement_seconds)}",
            **_TCP,
        },
    )

    @event.listens_for(made, "do_connect")
    def connect(_dialect: object, _record: object, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        connection = LimitedConnection.connect(*arguments, **options)
        connection.limit_seconds = statement_seconds
        return connection

    return made


@contextmanager
def allow(on: Connection, limit: timedelta) -> Iterator[None]:
    """Let the statements of this transaction take longer than usual: whoever needs it says how long."""
    connection = on.connection.driver_connection
    before = connection.limit_seconds if isinstance(connection, LimitedConnection) else STATEMENT_SECONDS
    on.exec_driver_sql(f"SET LOCAL statement_timeout = {int(1000 * limit.total_seconds())}")
    _set_limit(connection, limit.total_seconds())
    try:
        yield
    finally:
        _set_limit(connection, before)


def _set_limit(connection: object, seconds: float) -> None:
    if isinstance(connection, LimitedConnection):
        connection.limit_seconds = seconds


def engine() -> Engine:
    """Make an engine for the loop's database as settings name it (commands, serving, exporter)."""
    return engine_for(settings().database_url)


@contextmanager
def database_errors(doing: str) -> Iterator[None]:
    """Translate a database that is away into TransientError; `doing` says what was tried.

    Raises:
        TransientError: the server is unreachable, restarting, or broke the connection.
    """
    try:
        yield
    except OperationalError as err:
        if isinstance(err.orig, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
            raise TransientError(f"{doing}: PostgreSQL took too long ({first_line(err)})") from err
        raise TransientError(f"{doing}: PostgreSQL is not reachable ({first_line(err)})") from err
    except DBAPIError as err:
        if err.connection_invalidated:
            raise TransientError(f"{doing}: PostgreSQL dropped the connection ({first_line(err)})") from err
        raise
    except psycopg.OperationalError as err:  # COPY goes past SQLAlchemy, which would have wrapped it
        first = (str(err).strip() or type(err).__name__).splitlines()[0]
        raise TransientError(f"{doing}: PostgreSQL is not reachable ({first})") from err
    except NoConnectionFree as err:
        raise TransientError(f"{doing}: every connection to PostgreSQL is busy; is it hanging?") from err


def first_line(err: DBAPIError) -> str:
    """Give the first line of what the database said."""
    return str(err.orig).strip().splitlines()[0] if err.orig else type(err).__name__
