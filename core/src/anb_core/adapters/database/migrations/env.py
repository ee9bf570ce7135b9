"""Alembic runs this module. It migrates on the connection that `upgrade` passes, inside its open transaction."""

from alembic import context

from anb_core.adapters.database.tables import metadata

# Schema changes are transactional in SQLite, as in PostgreSQL. By default, Alembic assumes that they are not.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
