"""The migrations make exactly the tables that the code knows."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, insert, make_url, text

from datasets_defs.store.schema import migrate
from datasets_defs.store.tables import heartbeat, metadata
from ops.stack.postgres import LOOP_ROLE, Cluster


def test_migrations_and_tables_agree(engine: Engine):
    """A database brought up by the migrations differs in nothing from the tables as code."""
    with engine.connect() as on:
        assert compare_metadata(MigrationContext.configure(on, opts={"compare_type": True}), metadata) == []


def test_migrating_twice_changes_nothing(cluster: Cluster, database_url: str):
    """Migrations may be run at any time: tables, rights and rows are those of before."""
    name = str(make_url(database_url).database)
    owner = create_engine(cluster.url(name))
    with owner.begin() as on:
        on.execute(insert(heartbeat).values(component="reconcile"))
    before = state_of(owner)
    migrate(cluster.url(name), LOOP_ROLE)
    assert state_of(owner) == before
    owner.dispose()


def state_of(owner: Engine) -> list[list[tuple[object, ...]]]:
    """Read the columns, the rights, the revision and a table's rows."""
    queries = (
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'",
        "SELECT relname, relacl::text FROM pg_class WHERE relnamespace = 'public'::regnamespace",
        "SELECT version_num FROM alembic_version",
        "SELECT component, at FROM heartbeat",
    )
    with owner.connect() as on:
        return [sorted((tuple(row) for row in on.execute(text(query))), key=str) for query in queries]
