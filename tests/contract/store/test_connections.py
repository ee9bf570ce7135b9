"""Tests how many connections a store opens, and that a store warns if the server allows too few connections."""

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import make_url, text
from structlog.testing import capture_logs

from anb_core.adapters.database import SqlStore, engine
from tests.support import eventually
from tests.support.given import MINUTE, processed
from tests.support.stores import Sql

MAX_CONNECTIONS = 60
"""Maximum number of connections of the test server. PostgreSQL reserves three connections for superusers."""


@pytest.fixture
def limited(postgresql: Sql) -> Iterator[Sql]:
    """A database that allows four connections to users who are not superusers."""
    name = make_url(postgresql.url).database
    with postgresql.database.transaction() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" CONNECTION LIMIT 4')
    yield postgresql
    with postgresql.database.transaction() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')


def said(url: str, **numbers: int) -> list[Any]:
    with capture_logs() as logs, closing(SqlStore(url, **numbers)) as store:
        store.ping()
        store.ping()
    return [line["event"] for line in logs if "connections" in line["event"]]


def test_a_store_opens_no_more_connections_than_it_may_and_serves_all_who_ask(postgresql: Sql) -> None:
    pids: set[int] = set()
    with closing(SqlStore(postgresql.url, connections=3)) as store:
        together = threading.Barrier(3)

        def ask(*, waits: bool) -> None:
            with store.database.reading() as connection:
                pids.add(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
                if waits:
                    together.wait(10)

        threads = [threading.Thread(target=ask, kwargs={"waits": number < 3}) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert len(pids) == 3


def test_nothing_stays_on_a_connection_that_a_pooler_may_lend_to_somebody_else(postgresql: Sql) -> None:
    with closing(SqlStore(postgresql.url, connections=3)) as store:
        # Execute each statement ten times, because by default the driver prepares a statement after five executions.
        for _ in range(10):
            with store.exclusively("sweep", lifetime=MINUTE):
                processed(store)
        with closing(store.database.engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
            for question, none in (
                ("SELECT count(*) FROM pg_prepared_statements", 0),
                ("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()", 0),
                ("SHOW statement_timeout", "0"),
                ("SHOW lock_timeout", "0"),
                ("SHOW idle_in_transaction_session_timeout", "0"),
            ):
                cursor.execute(question)
                assert cursor.fetchone() == (none,), question


@pytest.mark.parametrize(
    ("numbers", "warnings"),
    [
        ({"connections": 5}, 0),
        ({"connections": 5, "in_all": 10}, 0),
        ({"connections": 5, "in_all": MAX_CONNECTIONS - 2}, 1),
        ({"connections": MAX_CONNECTIONS - 2}, 1),
    ],
    ids=str,
)
def test_a_server_that_allows_fewer_connections_than_may_be_opened_is_told_of_once(
    postgresql: Sql, numbers: dict[str, int], warnings: int
) -> None:
    assert len(said(postgresql.url, **numbers)) == warnings


def test_a_limit_of_the_database_counts_too(limited: Sql) -> None:
    [line] = said(limited.url, connections=3, in_all=5)
    assert line.startswith("the database allows 4 connections and 5 may be opened: raise its max_connections")


@pytest.fixture
def common(postgresql: Sql) -> Iterator[str]:
    """The database's URL for an ordinary role, which can't see details of the connections of other roles."""
    name = f"common_{uuid4().hex}"
    with postgresql.database.transaction() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN")
        connection.exec_driver_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
    yield make_url(postgresql.url).set(username=name).render_as_string()
    with postgresql.database.transaction() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {name}")
        connection.exec_driver_sql(f"DROP ROLE {name}")


def test_what_other_databases_take_is_not_there_for_ours(common: str, postgres_url: str) -> None:
    def left() -> int:
        [line] = said(common, in_all=1000)
        return int(line.split()[3])

    before = left()
    with closing(SqlStore(postgres_url)) as other, other.database.engine.connect(), other.database.engine.connect():
        assert left() <= before - 2
    assert eventually(lambda: left() >= before)


def test_sqlite_has_connections_for_all(sqlite: Sql) -> None:
    assert said(sqlite.url, connections=3, in_all=100_000) == []
    assert engine.make_engine(sqlite.url, connections=3).pool.size() == engine.CONNECTIONS  # type: ignore[attr-defined]
