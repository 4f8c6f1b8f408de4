"""Alembic's entry: migrations run on the connection that `datasets_defs.database.migrate` holds."""

from alembic import context

from datasets_defs.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
