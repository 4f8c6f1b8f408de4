"""Alembic's entry: migrations run on the connection that `datasets_defs.store.schema.migrate` holds."""

from alembic import context

from datasets_defs.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
