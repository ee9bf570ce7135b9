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
"""Query for the number of usable connections, and the connection limits of our role and of our database.
Usable connections are neither reserved nor used by other databases. A limit of -1 means no limit.
If our role may not inspect a connection, `backend_type` is NULL, and the connection counts as a client connection.
"""

_log = structlog.get_logger(__name__)


def warning(wanted: int, place: str) -> Callable[[DBAPIConnection, ConnectionPoolEntry], None]:
    """Return a callback for a pool's first connection. The callback warns if the server allows fewer than `wanted`.

    Too few connections are no error, because programs rarely open all of them, and a pooler can share connections.
    """

    def warn_if_too_few(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # If our role may not read PostgreSQL's system views, no warning is logged.
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
