"""Connections to the loop's PostgreSQL: engines, errors in our words, and the schema's migrations."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from datasets_defs.errors import ContractError, TransientError
from datasets_defs.settings import settings

MIGRATIONS = Path(__file__).parent / "migrations"


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
        raise TransientError(f"{doing}: PostgreSQL is not reachable ({_first_line(err)})") from err
    except DBAPIError as err:
        if err.connection_invalidated:
            raise TransientError(f"{doing}: PostgreSQL dropped the connection ({_first_line(err)})") from err
        raise
    except psycopg.OperationalError as err:  # COPY goes past SQLAlchemy, which would have wrapped it
        first = (str(err).strip() or type(err).__name__).splitlines()[0]
        raise TransientError(f"{doing}: PostgreSQL is not reachable ({first})") from err
    except NoConnectionFree as err:
        raise TransientError(f"{doing}: every connection to PostgreSQL is busy; is it hanging?") from err


def migrate(url: str, loop: str | None = None) -> None:
    """Bring the schema to this release's, as its owner; safe to run at any time and by several processes at once.

    `loop` is the role that the loop's processes connect as: it gets what it needs, and cannot rewrite the history.

    Raises:
        ContractError: there is no such role, or the owner may not hand tables to it.
    """
    from alembic import command
    from alembic.config import Config

    from datasets_defs.grants import grant

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = engine_for(url)
    try:
        with database_errors("migrating the schema"), engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('driftloop migrations'))"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            if loop is not None:
                grant(connection, loop)
    except ProgrammingError as err:
        if not isinstance(err.orig, psycopg.errors.InsufficientPrivilege):
            raise
        raise ContractError(
            f"role {engine.url.username} may not migrate ({_first_line(err)}); set DRIFTLOOP_OWNER_DATABASE_URL to the "
            "address by which the tables' owner connects"
        ) from err
    finally:
        engine.dispose()


def require_schema(engine: Engine) -> None:
    """Check that the tables are there.

    Raises:
        ContractError: the database is empty or older than this release.
    """
    with database_errors("looking for the schema"), engine.connect() as connection:
        if connection.scalar(text("SELECT to_regclass('incident_event')")) is None:
            raise ContractError(f"database {engine.url.database!r} has no driftloop tables; run `driftloop migrate`")


def _first_line(err: DBAPIError) -> str:
    return str(err.orig).strip().splitlines()[0] if err.orig else type(err).__name__
