"""Alembic runs this module to migrate. It uses the connection, and the transaction, that `upgrade` has opened."""

from alembic import context

from anb_core.adapters.database.tables import metadata

# SQLite can roll back schema changes, like PostgreSQL. By default Alembic assumes that SQLite can't.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
