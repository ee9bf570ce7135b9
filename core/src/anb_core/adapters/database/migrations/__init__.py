"""The schema's history, shipped with the program. A new revision is a file in `versions/`, numbered after the last one.

A deployment migrates first and then replaces its processes, so a revision must leave the schema usable by the program
before it: a column goes one release after the last that reads it.
"""

from functools import cache
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, MetaData, Table, Text, func, inspect, select

from anb_core.adapters.database.engine import is_postgresql, make_engine, translated_errors
from anb_core.domain.errors import Unavailable

MIGRATION_LOCK = 0x616E626D
"""Key of the advisory lock under which migrations take turns on PostgreSQL; SQLite has one writer at a time anyway."""

FOLDER = Path(__file__).parent

_versions = Table("alembic_version", MetaData(), Column("version_num", Text))

_log = structlog.get_logger(__name__)


def upgrade(url: str) -> None:
    """Bring the database's schema to what this program needs, all or nothing; several may try at once.

    A database that a newer program has migrated is left as it is.

    Raises:
        Unavailable: it does not answer, or a long transaction has a table that is to change.
    """
    engine = make_engine(url)
    try:
        with translated_errors(engine), engine.begin() as connection:
            if is_postgresql(connection):
                # Another's migration, or this one's own statements, may take their time.
                connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
                # Whatever the running programs ask waits behind a change of a table that waits, for a dump say.
                connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
            before = _revision(connection)
            if before is not None and before not in known():
                _log.warning("database is newer than this program", revision=before)
                return
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            after = _revision(connection)
            if after != before:
                _log.info("database migrated", before=before, after=after)
    finally:
        engine.dispose()


def check(connection: Connection) -> None:
    """Return when the schema is this program's, or a newer one.

    Raises:
        Unavailable: it has no schema, or an older one.
    """
    revision = _revision(connection)
    if revision is None:
        raise Unavailable("database", "The database has no schema yet: run the migrations.")
    newest, *older = known()
    if revision in older:
        raise Unavailable(
            "database", f"The database's schema is {revision}, this program needs {newest}: run the migrations."
        )


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_versions.name):
        return None
    return connection.scalar(select(_versions.c.version_num))


@cache
def known() -> tuple[str, ...]:
    """The revisions that this program brings along, the newest first."""
    return tuple(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    return config
