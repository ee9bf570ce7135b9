"""Connections, transactions and the clock of either database. Its errors become `Unavailable`, `Busy` or `Full`."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg.errors import DiskFull, InsufficientPrivilege, LockNotAvailable
from sqlalchemy import (
    URL,
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    Row,
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
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from anb_core.adapters.database import capacity
from anb_core.adapters.database.tables import Time, milliseconds
from anb_core.domain.codes import Code
from anb_core.domain.errors import Busy, Full, Unavailable, Unreadable

T = TypeVar("T")

_log = structlog.get_logger(__name__)

ANSWER = timedelta(seconds=5)
"""How long one statement may take: under a third of the heartbeat's interval, so a lease survives one that hangs."""

LOCK_WAIT = timedelta(seconds=3)
"""How long a statement waits for a row; every transaction is short."""

CONNECT = timedelta(seconds=3)
"""How long a new connection, or a free one of the pool, may take."""

SQLITE_WAIT = timedelta(seconds=30)
"""SQLite has one writer at a time, and a disk that flushes each commit may be slow."""

CONNECTIONS = 15
"""What a process may open where nothing else is said, and on SQLite, where a connection costs little."""

MAX_AGE = timedelta(minutes=5)
"""No connection is used for longer: where a name comes to mean another server, nobody stays with the one before."""

ENDING = frozenset({"25006", "57P01", "57P02", "57P03"})
"""What a server answers that only reads by now, shuts down, has crashed or is starting: ask another connection."""

BROKEN = "08"
"""The class of errors of the connection itself, as a pooler tells them of the server behind it."""

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


def make_engine(url: str, *, connections: int = CONNECTIONS, in_all: int | None = None) -> Engine:
    """An engine with our timeouts and our way of beginning transactions. Connects to nothing yet.

    It opens up to so many `connections` to a PostgreSQL server, and all processes together `in_all`, as far as known.
    """
    parsed = make_url(url)
    options = {
        "json_deserializer": _lenient_json,
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
        # Without these a connection whose peer is gone blocks for minutes.
        "connect_timeout": int(CONNECT.total_seconds()),
        "tcp_user_timeout": milliseconds(ANSWER),
        "keepalives": 1,
        "keepalives_idle": 3,
        "keepalives_interval": 1,
        "keepalives_count": 3,
        # Of several hosts the one that takes writes, and a single one only while it does.
        "target_session_attrs": "read-write",
        # Behind a pooler the next statement may come to a server that another client has prepared its own on.
        "prepare_threshold": None,
    }
    engine = create_engine(
        parsed, **options, pool_size=connections, pool_recycle=MAX_AGE.total_seconds(), connect_args=connect_args
    )
    event.listen(engine, "connect", _prepare_postgresql)
    event.listen(engine, "connect", capacity.warning(in_all or connections, str(_place(parsed))), once=True)
    event.listen(engine, "checkout", _check_postgresql)
    event.listen(engine, "begin", _begin_postgresql)
    event.listen(engine, "handle_error", _end_useless)
    return engine


def _lenient_json(text: str) -> object:
    """Damaged JSON stays text: it is for who reads its row to stumble over, not for who reads many."""
    try:
        return json.loads(text)
    except ValueError:
        return text


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


def _prepare_postgresql(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
    # We begin transactions ourselves, and the driver has asked a moment ago whether this server takes writes.
    connection.autocommit = True
    entry.info["asked"] = True


def _check_postgresql(connection: DBAPIConnection, entry: ConnectionPoolEntry, _: PoolProxiedConnection) -> None:
    """Have a connection replaced, and all that are as old, when its server is gone or can only be read."""
    if entry.info.pop("asked", False):
        return
    try:
        cursor = connection.cursor()
        cursor.execute("SHOW transaction_read_only")
        [[read_only]] = cursor.fetchall()
    except psycopg.Error as error:
        raise exc.InvalidatePoolError from error
    if read_only == "on":
        raise exc.InvalidatePoolError


def _begin_postgresql(connection: Connection) -> None:
    # For this transaction alone: behind a pooler a setting of the session would be some other client's. With BEGIN in
    # one message, because each costs a way to the server and back.
    connection.exec_driver_sql(
        "BEGIN ISOLATION LEVEL READ COMMITTED;"
        f" SET LOCAL statement_timeout = {milliseconds(ANSWER)};"
        f" SET LOCAL lock_timeout = {milliseconds(LOCK_WAIT)};"
        f" SET LOCAL idle_in_transaction_session_timeout = {milliseconds(3 * ANSWER)}"
    )


def _end_useless(context: ExceptionContext) -> None:
    state = getattr(context.original_exception, "sqlstate", None) or ""
    if state in ENDING or state.startswith(BROKEN):
        context.is_disconnect = True


@contextmanager
def translated_errors(engine: Engine) -> Iterator[None]:
    """Turn the driver's errors into ours, which name the database and say why it can't be used.

    Raises:
        Unavailable: for every error that is the connection's or the server's state, not the statement's; `Busy` if
            another session kept a lock for too long, `Full` if the server's disk has no room.
    """
    try:
        yield
    except (*_AWAY, exc.ProgrammingError) as error:
        cause = error.orig if isinstance(error, exc.DBAPIError) else error
        if isinstance(error, exc.ProgrammingError) and not isinstance(cause, InsufficientPrivilege):
            raise
        reason = str(cause).strip().splitlines()[0]
        code = getattr(cause, "sqlite_errorcode", None)
        if isinstance(cause, DiskFull) or code == sqlite3.SQLITE_FULL:
            raise Full("database", f"The disk of the database {_place(engine.url)} is full: {reason}") from error
        if isinstance(cause, LockNotAvailable) or code == sqlite3.SQLITE_BUSY:
            held = f"Another session of the database {_place(engine.url)} holds what is needed: {reason}"
            raise Busy("database", held) from error
        raise Unavailable("database", f"The database {_place(engine.url)} is not available: {reason}") from error


def _place(url: URL) -> URL:
    """Without user and password, and of what follows a question mark only the hosts."""
    hosts = {name: url.query[name] for name in ("host", "port") if name in url.query}
    return URL.create(url.get_backend_name(), host=url.host, port=url.port, database=url.database, query=hosts)


class Database:
    """Where repositories get their transactions. Usable from any thread."""

    def __init__(self, url: str, *, connections: int = CONNECTIONS, in_all: int | None = None) -> None:
        self.engine = make_engine(url, connections=connections, in_all=in_all)
        self._reader = self.engine.execution_options(reading=True)
        self._reported: set[tuple[str, str]] = set()

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
        """Say once of a row that it can't be read: it is met again with every look."""
        reason = " ".join(str(error.__cause__).split())
        if (error.message, reason) not in self._reported:
            self._reported.add((error.message, reason))
            _log.warning("a row is skipped that can't be read", what=error.message, reason=reason)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


class Repository:
    """What implements a port with a database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def readable(self, rows: Iterable[Row[Any]], read: Callable[[Row[Any]], T]) -> Iterator[T]:
        """What these rows say; one that this version can't read is reported and skipped."""
        for row in rows:
            try:
                yield read(row)
            except Unreadable as error:
                self.database.report(error)


@contextmanager
def decoding(code: Code, what: str) -> Iterator[None]:
    """Decode `what` from values of the database; one that means nothing here is an error.

    Raises:
        Unreadable: with this code.
    """
    try:
        yield
    except (ValueError, TypeError, LookupError) as error:
        sentence = f"This version of the program can't read {what}. A newer one may have written it."
        raise Unreadable(code, sentence) from error
