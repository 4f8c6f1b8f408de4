"""The migrations make exactly the tables that the code knows."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine

from datasets_defs.store.schema import migrate
from datasets_defs.store.tables import metadata


def test_migrations_and_tables_agree(engine: Engine):
    """A database brought up by the migrations differs in nothing from the tables as code."""
    with engine.connect() as on:
        assert compare_metadata(MigrationContext.configure(on, opts={"compare_type": True}), metadata) == []


def test_migrating_twice_changes_nothing(database_url: str):
    """Migrations may be run at any time."""
    migrate(database_url)
