"""Connections, transactions and the clock of either database; every error of a database that is away is told here."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

from psycopg.errors import InsufficientPrivilege
from sqlalchemy import (
    URL,
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    Table,
    create_engine,
    event,
    exc,
    literal,
    make_url,
    select,
    type_coerce,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from anb_core.adapters.database.tables import Time, milliseconds
from anb_core.domain.errors import Unavailable

T = TypeVar("T")

ANSWER = timedelta(seconds=5)
"""How long one statement may take: under a third of the heartbeat's interval, so a lease survives one that hangs."""

LOCK_WAIT = timedelta(seconds=3)
"""How long a statement waits for a row; every transaction is short."""

CONNECT = timedelta(seconds=3)
"""How long a new connection, or a free one of the pool, may take."""

SQLITE_WAIT = timedelta(seconds=30)
"""SQLite has one writer at a time, and a disk that flushes each commit may be slow."""

POOL_SIZE = 5
POOL_OVERFLOW = 10
"""Connections a process keeps, and may add: some processes share the 100 that PostgreSQL allows by default."""

_AWAY = (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError)
"""Errors of the connection, of a lock or statement that took too long, of a server that became a read-only standby."""


class _Clock(FunctionElement[int]):
    """The database's clock in milliseconds, read when the statement gets there, not when its transaction began."""

    type = BigInteger()
    inherit_cache = True


@compiles(_Clock, "postgresql")
def _postgresql_clock(element: _Clock, compiler: SQLCompiler, **_: Any) -> str:  # noqa: ARG001, ANN401 - its interface
    return "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)"


@compiles(_Clock, "sqlite")
def _sqlite_clock(element: _Clock, compiler: SQLCompiler, **_: Any) -> str:  # noqa: ARG001, ANN401 - its interface
    return "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"


def now_plus(duration: timedelta = timedelta(0)) -> ColumnElement[datetime]:
    """The database's clock and a duration, for use inside a statement."""
    return type_coerce(_Clock() + literal(milliseconds(duration), BigInteger), Time)


def passed(moment: ColumnElement[datetime | None], ago: timedelta = timedelta(0)) -> ColumnElement[bool]:
    """Whether a moment is so long ago. In a subquery the clock is read once, so that an index can serve."""
    return moment <= select(now_plus(-ago)).scalar_subquery()


def clock(connection: Connection) -> datetime:
    """The database's clock now."""
    return connection.execute(select(now_plus())).scalar_one()


def insert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that can take ON CONFLICT; both dialects spell it alike but share no base for it."""
    return postgresql.insert(table) if is_postgresql(connection) else sqlite.insert(table)


def is_postgresql(connection: Connection) -> bool:
    """Whether this is PostgreSQL; it is SQLite otherwise."""
    return connection.dialect.name == "postgresql"


def make_engine(url: str) -> Engine:
    """An engine with our timeouts and our way of beginning transactions. Connects to nothing yet."""
    parsed = make_url(url)
    pool = {
        "pool_size": POOL_SIZE,
        "max_overflow": POOL_OVERFLOW,
        "pool_timeout": CONNECT.total_seconds(),
    }
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, **pool, connect_args={"timeout": SQLITE_WAIT.total_seconds()})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # Without these a connection whose peer is gone blocks for minutes.
    connect_args = {
        "connect_timeout": int(CONNECT.total_seconds()),
        "tcp_user_timeout": milliseconds(ANSWER),
        "keepalives": 1,
        "keepalives_idle": 3,
        "keepalives_interval": 1,
        "keepalives_count": 3,
    }
    engine = create_engine(
        parsed, **pool, pool_pre_ping=True, isolation_level="READ COMMITTED", connect_args=connect_args
    )
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # The driver must not begin transactions on its own: it begins them deferred, and a writer that comes second fails.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {milliseconds(SQLITE_WAIT)}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _prepare_postgresql(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # By SET, because poolers in between refuse options at the start of a connection.
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute(f"SET statement_timeout = {milliseconds(ANSWER)}")
    cursor.execute(f"SET lock_timeout = {milliseconds(LOCK_WAIT)}")
    cursor.execute(f"SET idle_in_transaction_session_timeout = {milliseconds(3 * ANSWER)}")
    cursor.close()
    connection.autocommit = False


@contextmanager
def told(engine: Engine) -> Iterator[None]:
    """Say of a database that can't be used that it can't, which one it is, and why.

    Raises:
        Unavailable: for every error that is the connection's or the server's state, not the statement's.
    """
    try:
        yield
    except (*_AWAY, exc.ProgrammingError) as error:
        cause = error.orig if isinstance(error, exc.DBAPIError) else error
        if isinstance(error, exc.ProgrammingError) and not isinstance(cause, InsufficientPrivilege):
            raise
        reason = str(cause).strip().splitlines()[0]
        raise Unavailable("database", f"The database {_place(engine.url)} is not available: {reason}") from error


def _place(url: URL) -> URL:
    """Without user and password, and what follows a question mark."""
    return URL.create(url.get_backend_name(), host=url.host, port=url.port, database=url.database)


class Database:
    """Where repositories get their transactions. Usable from any thread."""

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        self._reader = self.engine.execution_options(reading=True)

    def transaction(self) -> AbstractContextManager[Connection]:
        """A transaction that may write; it is committed when its block ends well."""
        return self._begin(self.engine)

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction that only reads; it waits for no writer."""
        return self._begin(self._reader)

    def repeatable(self, work: Callable[[Connection], T]) -> T:
        """Do work in a transaction; if the connection breaks, once more on a new one.

        It may have broken before the commit or only on the answer's way back. The work must read under a lock what is
        there, so that it waits for the end of its own first try and acts on what that left.
        """
        with told(self.engine):
            try:
                with self.engine.begin() as connection:
                    return work(connection)
            except exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            with self.engine.begin() as connection:
                return work(connection)

    @contextmanager
    def _begin(self, engine: Engine) -> Iterator[Connection]:
        with told(engine), engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


class Repository:
    """What implements a port with a database."""

    def __init__(self, database: Database) -> None:
        self.database = database
