"""Connections, transactions, clock and error translation of PostgreSQL and SQLite, for all repositories."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog
from psycopg.errors import DiskFull, InsufficientPrivilege, LockNotAvailable, UndefinedTable
from sqlalchemy import (
    URL,
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
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
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from anb_core.adapters.database import capacity
from anb_core.adapters.database.tables import Time, milliseconds
from anb_core.domain.codes import Code
from anb_core.domain.errors import Busy, Full, Unavailable, Unreadable

T = TypeVar("T")

_log = structlog.get_logger(__name__)

ANSWER = timedelta(seconds=5)
"""The timeout of one statement: less than a third of the default heartbeat.
A worker therefore keeps its lease even if one statement hangs."""

LOCK_WAIT = timedelta(seconds=3)
"""A statement waits for a lock for at most this time. Usually it waits less, because every transaction is short."""

CONNECT = timedelta(seconds=3)
"""The timeout for opening a connection, and the timeout for getting a free connection from the pool."""

SQLITE_WAIT = timedelta(seconds=30)
"""Maximum wait of a SQLite connection for the write lock. SQLite allows only one writer at a time."""

CONNECTIONS = 15
"""The default size of a connection pool. SQLite always uses this size, because connections to SQLite are cheap."""

MAX_AGE = timedelta(minutes=5)
"""Maximum age of a connection. If the server gets a new address, all connections use it after this time."""

ENDING = frozenset({"25006", "57P01", "57P02", "57P03"})
"""SQLSTATEs of a server that is read-only, shuts down, has crashed or starts.
After such an error, SQLAlchemy closes the connection instead of using it again."""

BROKEN = "08"
"""The first two digits of the SQLSTATEs of connection errors. A pooler returns one if it can't reach the server."""

_AWAY = (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError)
"""SQLAlchemy's errors for a broken connection, a lock or statement timeout, and a read-only server."""


class _Clock(FunctionElement[int]):
    """The database's clock in milliseconds since 1970. It is read when the expression is evaluated.

    SQL's CURRENT_TIMESTAMP would give the start of the transaction in PostgreSQL.
    """

    type = BigInteger()
    inherit_cache = True


@compiles(_Clock, "postgresql")
def _postgresql_clock(element: _Clock, compiler: SQLCompiler, **_: Any) -> str:  # noqa: ARG001, ANN401 - interface
    return "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)"


@compiles(_Clock, "sqlite")
def _sqlite_clock(element: _Clock, compiler: SQLCompiler, **_: Any) -> str:  # noqa: ARG001, ANN401 - interface
    return "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"


def now_plus(duration: timedelta = timedelta(0)) -> ColumnElement[datetime]:
    """Return an SQL expression for the current time of the database's clock plus `duration`."""
    return type_coerce(_Clock() + literal(milliseconds(duration), BigInteger), Time)


def passed(moment: ColumnElement[datetime | None], ago: timedelta = timedelta(0)) -> ColumnElement[bool]:
    """Return an SQL condition that is true if at least the duration `ago` has passed since `moment`.

    The clock is read in a subquery. A query then reads the clock only once, and can use an index.
    """
    return moment <= select(now_plus(-ago)).scalar_subquery()


def clock(connection: Connection) -> datetime:
    """Return the current time of the database's clock."""
    return connection.execute(select(now_plus())).scalar_one()


def insert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT of the database's own dialect, because SQLAlchemy's general INSERT has no ON CONFLICT."""
    return postgresql.insert(table) if is_postgresql(connection) else sqlite.insert(table)


def is_postgresql(connection: Connection) -> bool:
    """Return True for a connection to PostgreSQL, False for a connection to SQLite."""
    return connection.dialect.name == "postgresql"


def make_engine(url: str, *, connections: int = CONNECTIONS, in_all: int | None = None) -> Engine:
    """Return an SQLAlchemy engine with our timeouts and our own BEGIN. The engine connects when it is first used.

    `connections` is the size of the connection pool on PostgreSQL.
    `in_all` is the number of connections that all our processes together may open. None if unknown.
    A warning is logged if the server allows fewer than `in_all` connections.
    """
    parsed = make_url(url)
    options = {
        "json_deserializer": _lenient_json,
        # Errors are logged. They must not contain the parameters of statements, such as titles and bodies of messages.
        "hide_parameters": True,
        "max_overflow": 0,
        "pool_timeout": CONNECT.total_seconds(),
    }
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(
            parsed, **options, pool_size=CONNECTIONS, connect_args={"timeout": SQLITE_WAIT.total_seconds()}
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    connect_args = {
        # Without these timeouts and keepalives, a connection to a dead server would block for minutes.
        "connect_timeout": int(CONNECT.total_seconds()),
        "tcp_user_timeout": milliseconds(ANSWER),
        "keepalives": 1,
        "keepalives_idle": 3,
        "keepalives_interval": 1,
        "keepalives_count": 3,
        # If the URL names several hosts, libpq connects to the host that accepts writes.
        "target_session_attrs": "read-write",
        # Use no prepared statements, because a pooler may send a statement to a server that has not prepared it.
        "prepare_threshold": None,
    }
    engine = create_engine(
        parsed, **options, pool_size=connections, pool_recycle=MAX_AGE.total_seconds(), connect_args=connect_args
    )
    event.listen(engine, "connect", _prepare_postgresql)
    event.listen(engine, "connect", capacity.warning(in_all or connections, str(_place(parsed))), once=True)
    event.listen(engine, "begin", _begin_postgresql)
    event.listen(engine, "handle_error", _end_useless)
    return engine


def _lenient_json(text: str) -> object:
    """Parse JSON. Return damaged JSON unchanged, so that one damaged row does not make the whole query fail."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # Transactions begin in `_begin_sqlite`, not in the driver.
    # The driver's transactions get the write lock late, and then fail if another transaction has written meanwhile.
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
    # Transactions begin in `_begin_postgresql`, not in the driver.
    connection.autocommit = True


# Use SET LOCAL, which ends with the transaction. Settings of a session would affect other clients of a pooler.
# All five statements are sent in one message, which saves four round trips to the server.
_BEGIN = (
    "SHOW transaction_read_only;"
    " BEGIN ISOLATION LEVEL READ COMMITTED;"
    f" SET LOCAL statement_timeout = {milliseconds(ANSWER)};"
    f" SET LOCAL lock_timeout = {milliseconds(LOCK_WAIT)};"
    f" SET LOCAL idle_in_transaction_session_timeout = {milliseconds(3 * ANSWER)}"
)


def _begin_postgresql(connection: Connection) -> None:
    """Begin a transaction. If the server does not answer or is read-only, begin it on a new connection instead.

    This is safe, because nothing has been done in the transaction yet. libpq checks each new connection
    (target_session_attrs).
    """
    try:
        read_only = connection.exec_driver_sql(_BEGIN).scalar_one()
    except exc.DBAPIError:
        # If the connection broke, SQLAlchemy will replace the whole pool.
        pass
    else:
        if read_only == "off":
            return
        connection.engine.dispose()
    connection.invalidate()
    connection.exec_driver_sql(_BEGIN)


def _end_useless(context: ExceptionContext) -> None:
    state = getattr(context.original_exception, "sqlstate", None) or ""
    if state in ENDING or state.startswith(BROKEN):
        context.is_disconnect = True


@contextmanager
def translated_errors(engine: Engine) -> Iterator[None]:
    """Translate the driver's errors into errors of the core. Their messages contain the database and the reason.

    Raises:
        Unavailable: the connection failed, the server can't serve requests, or the schema lacks a table.
            Other errors in the SQL statement are not translated.
        Busy: another session held a lock for too long.
        Full: the server's disk is full.
    """
    try:
        yield
    except (*_AWAY, exc.ProgrammingError) as error:
        cause = error.orig if isinstance(error, exc.DBAPIError) else error
        if isinstance(error, exc.ProgrammingError) and not isinstance(cause, (InsufficientPrivilege, UndefinedTable)):
            raise
        reason = str(cause).strip().splitlines()[0]
        code = getattr(cause, "sqlite_errorcode", None)
        if isinstance(cause, DiskFull) or code == sqlite3.SQLITE_FULL:
            raise Full("database", f"The disk of the database {_place(engine.url)} is full: {reason}") from error
        if isinstance(cause, LockNotAvailable) or code == sqlite3.SQLITE_BUSY:
            message = f"Another session of the database {_place(engine.url)} holds a lock that is needed: {reason}"
            raise Busy("database", message) from error
        if isinstance(cause, UndefinedTable) or reason.startswith("no such table"):
            message = (
                f"The database {_place(engine.url)} lacks a table: {reason}: run `python -m anb_api migrate` first."
            )
            raise Unavailable("database", message) from error
        raise Unavailable("database", f"The database {_place(engine.url)} is not available: {reason}") from error


def _place(url: URL) -> URL:
    """Return the URL for messages: without user and password, and with no query parameters except host and port."""
    hosts = {name: url.query[name] for name in ("host", "port") if name in url.query}
    return URL.create(url.get_backend_name(), host=url.host, port=url.port, database=url.database, query=hosts)


class Database:
    """The connection pool of one database. Repositories take connections from it. Any thread may use it."""

    def __init__(self, url: str, *, connections: int = CONNECTIONS, in_all: int | None = None) -> None:
        self.engine = make_engine(url, connections=connections, in_all=in_all)
        self._reader = self.engine.execution_options(reading=True)
        self._reported: set[tuple[str, str]] = set()

    def transaction(self) -> AbstractContextManager[Connection]:
        """Begin a transaction that may write. It is committed at the end of the block. An error rolls it back."""
        return self._begin(self.engine)

    def reading(self) -> AbstractContextManager[Connection]:
        """Begin a transaction that only reads. It never waits for a transaction that writes."""
        return self._begin(self._reader)

    def repeatable(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction. If the connection breaks, run `work` once more on a new connection.

        The first run may have been committed, although the connection broke during its commit.
        So `work` must first lock its rows. The locked rows show whether the first run was committed.
        The lock makes the second run wait until the first transaction has ended.
        """
        with translated_errors(self.engine):
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
        with translated_errors(engine), engine.begin() as connection:
            yield connection

    def report(self, error: Unreadable) -> None:
        """Log a warning about an unreadable row. Each row is logged only once."""
        reason = " ".join(str(error.__cause__).split())
        if (error.message, reason) not in self._reported:
            self._reported.add((error.message, reason))
            _log.warning("a row is skipped that can't be read", what=error.message, reason=reason)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


class Repository:
    """Base class of all repositories. A repository implements one port of the store."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def readable(self, rows: Iterable[Row[Any]], read: Callable[[Row[Any]], T]) -> Iterator[T]:
        """Convert rows with `read`. A row that this version of the program can't read is logged and skipped."""
        for row in rows:
            try:
                yield read(row)
            except Unreadable as error:
                self.database.report(error)

    def read_pages(
        self, page: Callable[[Row[Any] | None], Select[Any]], read: Callable[[Row[Any]], T], *, limit: int
    ) -> list[T]:
        """Return at most `limit` rows, converted with `read`. `page(last)` is the query for all rows after `last`.

        `last` is None in the first query. Unreadable rows are skipped.
        So the query is repeated until enough rows are found or no rows are left.
        """
        found: list[T] = []
        last = None
        with self.database.reading() as connection:
            while len(found) < limit:
                missing = limit - len(found)
                rows = connection.execute(page(last).limit(missing)).all()
                found += self.readable(rows, read)
                if len(rows) < missing:
                    break
                last = rows[-1]
        return found


@contextmanager
def decoding(code: Code, what: str) -> Iterator[None]:
    """Raise `Unreadable` with the code `code` if the block can't convert a value. The error calls the row `what`.

    Raises:
        Unreadable: this version of the program can't convert a value of the row.
    """
    try:
        yield
    except (ValueError, TypeError, LookupError) as error:
        message = f"This version of the program can't read {what}. A newer one may have written it."
        raise Unreadable(code, message) from error
