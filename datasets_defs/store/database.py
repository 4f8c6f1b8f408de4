"""Connections to the loop's PostgreSQL: engines, errors in our words, and the schema's migrations."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from datasets_defs.core.errors import TransientError
from datasets_defs.core.settings import settings


def engine_for(url: str) -> Engine:
    """Make an engine for a PostgreSQL URL; sessions speak UTC and give up connecting after 10 s."""
    address = make_url(url).set(drivername="postgresql+psycopg")
    return create_engine(
        address,
        pool_pre_ping=True,
        pool_size=4,
        max_overflow=4,
        hide_parameters=True,  # tracebacks end in logs and on Airflow's pages: no user's text belongs there
        connect_args={"connect_timeout": 10, "options": "-c timezone=UTC"},
    )


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
