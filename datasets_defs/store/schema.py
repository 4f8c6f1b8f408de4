"""Bringing the schema to this release, and checking that it is there."""

from pathlib import Path

import psycopg
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from datasets_defs.core.errors import ContractError
from datasets_defs.store.database import database_errors, engine_for, first_line

MIGRATION_SECONDS = 3600.0
"""A migration may rewrite a table of months."""
MIGRATIONS = Path(__file__).parent.parent / "migrations"


def migrate(url: str, loop: str | None = None) -> None:
    """Bring the schema to this release's, as its owner; safe to run at any time and by several processes at once.

    `loop` is the role that the loop's processes connect as: it gets what it needs, and cannot rewrite the history.

    Raises:
        ContractError: there is no such role, or the owner may not hand tables to it.
    """
    from alembic import command
    from alembic.config import Config

    from datasets_defs.store.grants import grant

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = engine_for(url, statement_seconds=MIGRATION_SECONDS)
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
            f"role {engine.url.username} may not migrate ({first_line(err)}); set DRIFTLOOP_OWNER_DATABASE_URL to the "
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
