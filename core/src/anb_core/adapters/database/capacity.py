"""Warns at startup when a PostgreSQL server allows fewer connections than our programs may open."""

import contextlib
from collections.abc import Callable

import psycopg
import structlog
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

_LIMITS = """
SELECT current_setting('max_connections')::int
         - current_setting('superuser_reserved_connections')::int
         - coalesce(current_setting('reserved_connections', true)::int, 0)
         - (SELECT count(*)::int FROM pg_stat_activity
              WHERE datname <> current_database() AND coalesce(backend_type, 'client backend') = 'client backend'),
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database())
"""
"""Query for three numbers: the server's usable connections, and the connection limits of our role and database.
A connection is usable if it is neither reserved nor used by a client of another database.
A limit of -1 means no limit.
If our role may not inspect a connection, its `backend_type` is NULL. The query then assumes that a client uses it.
"""

_log = structlog.get_logger(__name__)


def warning(wanted: int, place: str) -> Callable[[DBAPIConnection, ConnectionPoolEntry], None]:
    """Return a callback that SQLAlchemy calls when a pool opens its first connection.

    The callback logs a warning if the server allows fewer than `wanted` connections.
    Too few connections are no error: programs rarely open all their connections, and a pooler can share connections.
    """

    def warn_if_too_few(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # Log no warning if our role may not read PostgreSQL's system views.
        with contextlib.suppress(psycopg.Error):
            cursor = connection.cursor()
            cursor.execute(_LIMITS)
            [[free, *limits]] = cursor.fetchall()
            allowed = min(free, *(limit for limit in (*limits, free) if limit >= 0))
            if allowed < wanted:
                _log.warning(
                    f"the database allows {allowed} connections and {wanted} may be opened: raise its max_connections, "
                    "put a pooler before it, or give the programs fewer (ANB_DATABASE_CONNECTIONS)",
                    database=place,
                )

    return warn_if_too_few
