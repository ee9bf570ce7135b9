"""How many connections a PostgreSQL server allows us, compared with how many may be opened."""

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
"""What the server has for our database, besides what is reserved or taken by others; limits of the role and the
database, -1 where there is none. Of what belongs to other roles we are not told the type."""

_log = structlog.get_logger(__name__)


def warning(wanted: int, place: str) -> Callable[[DBAPIConnection, ConnectionPoolEntry], None]:
    """For the first connection of a pool: say it in the log when the server allows fewer than `wanted` connections.

    Too few are no error: not all may be wanted at once, and a pooler in between shares them.
    """

    def look(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # Whoever may not ask is not told.
        with contextlib.suppress(psycopg.Error):
            cursor = connection.cursor()
            cursor.execute(_LIMITS)
            [[there, *limits]] = cursor.fetchall()
            allowed = min(there, *(limit for limit in (*limits, there) if limit >= 0))
            if allowed < wanted:
                _log.warning(
                    f"the database allows {allowed} connections and {wanted} may be opened: raise its max_connections, "
                    "put a pooler before it, or give the programs fewer (ANB_DATABASE_CONNECTIONS)",
                    database=place,
                )

    return look
