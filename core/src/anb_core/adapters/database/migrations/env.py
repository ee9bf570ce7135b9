"""Alembic runs this module, which migrates on the connection that `upgrade` passes, inside its open transaction."""

from alembic import context

from anb_core.adapters.database.tables import metadata

# Schema changes are transactional in SQLite, as in PostgreSQL. Alembic's default assumes the opposite.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
