"""Run by Alembic: it works on the connection it is handed, inside the transaction that is open there."""

from alembic import context

from anb_core.adapters.database.tables import metadata

# SQLite's changes of schema are as transactional as PostgreSQL's; Alembic is only careful about its driver.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
