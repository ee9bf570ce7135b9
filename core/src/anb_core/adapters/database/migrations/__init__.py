"""Migrations of the database's schema, with Alembic. Each revision is a file in `versions/`, and has a number.

A deployment first migrates the database, and then replaces the processes.
The previous release still runs after a migration. Therefore never drop a column that the previous release reads.
"""

from functools import cache
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, Engine, MetaData, Table, Text, func, inspect, select

from anb_core.adapters.database.engine import is_postgresql, make_engine, translated_errors
from anb_core.domain.errors import Unavailable

MIGRATION_LOCK = 0x616E626D
"""Key of the advisory lock on PostgreSQL that lets only one migration run at a time."""

FOLDER = Path(__file__).parent

_versions = Table("alembic_version", MetaData(), Column("version_num", Text))

_log = structlog.get_logger(__name__)


def upgrade(url: str) -> None:
    """Migrate the schema to the newest revision. Several processes may call this at the same time.

    Each revision has a transaction of its own. A transaction that locked several tables could deadlock with a running
    program, which may use the same tables in another order. A new database gets all revisions in one transaction.
    If a newer program has migrated the database, nothing is changed.

    Raises:
        Unavailable: the database does not answer, or a long transaction has locked a table that must be changed.
            The revisions before the failed one stay in the database.
    """
    engine = make_engine(url)
    try:
        with translated_errors(engine):
            while _upgrade_once(engine):
                pass
    finally:
        engine.dispose()


def _upgrade_once(engine: Engine) -> bool:
    """Apply the next revision, or all revisions to a new database. Return False if no revision was missing."""
    with engine.begin() as connection:
        if is_postgresql(connection):
            # No timeouts: this migration may take long, or may wait for the migration of another process.
            connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            # ALTER TABLE needs a lock timeout, because a waiting ALTER TABLE blocks all later queries of the table.
            # For example, ALTER TABLE waits for a dump that has locked the table.
            connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
        before = _revision(connection)
        if before == revisions()[0]:
            return False
        if before is not None and before not in revisions():
            _log.warning("database is newer than this program", revision=before)
            return False
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head" if before is None else "+1")
        after = _revision(connection)
        if after != before:
            _log.info("database migrated", before=before, after=after)
        return after != before


def check(connection: Connection) -> None:
    """Check that the schema has the newest revision that this program contains, or a newer one.

    Raises:
        Unavailable: the database has no schema, or an older schema.
    """
    revision = _revision(connection)
    if revision is None:
        raise Unavailable("database", "The database has no schema yet: run the migrations.")
    newest, *older = revisions()
    if revision in older:
        raise Unavailable(
            "database", f"The database's schema is {revision}, this program needs {newest}: run the migrations."
        )


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_versions.name):
        return None
    return connection.scalar(select(_versions.c.version_num))


@cache
def revisions() -> tuple[str, ...]:
    """Return all revisions that this program contains, newest first."""
    return tuple(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    return config
