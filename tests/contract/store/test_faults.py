"""Tests of a store whose database is full, slow or unavailable, or refuses access."""

import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection

from anb_core.adapters.database import SqlStore, engine, upgrade
from anb_core.adapters.database.engine import Database
from anb_core.domain.errors import Full, Unavailable
from anb_core.ports.store import Store
from anb_core.testing.store import InMemoryStore
from tests.contract.store.conftest import end_all_others
from tests.support.given import MINUTE, POLICY, SECOND, SOURCE, new_video, uploading
from tests.support.postgres import Postgres
from tests.support.stores import Sql


def test_a_full_disk_under_sqlite_is_told_and_nothing_is_promised(sqlite: Sql) -> None:
    video_id = uploading(sqlite.store).video.id
    with closing(SqlStore(sqlite.url)) as full:

        def fill(connection: DBAPIConnection, _: object) -> None:
            cursor = connection.cursor()
            # Make the database full: SQLite replaces a limit below the current size by the current size.
            cursor.execute("PRAGMA max_page_count = 1")
            cursor.close()

        event.listen(full.database.engine, "connect", fill)
        title = "T" * 200_000
        with pytest.raises(Full, match=r"disk of the database sqlite:.* is full"):
            full.begin_upload(replace(new_video(), title=title), lifetime=MINUTE)
        assert full.get(video_id) is not None


def test_a_full_disk_under_postgresql_is_told(postgresql: Sql) -> None:
    with pytest.raises(Full), postgresql.database.transaction() as connection:
        connection.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$")


def test_a_statement_that_takes_too_long_is_ended_by_the_server(
    postgresql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ANSWER", SECOND / 10)
    impatient = Database(postgresql.url)
    with pytest.raises(Unavailable, match="statement timeout"), impatient.transaction() as connection:
        connection.execute(text("SELECT pg_sleep(30)"))
    impatient.close()


def test_every_timeout_is_under_a_third_of_the_heartbeat(postgresql: Sql) -> None:
    limit = 20_000 // 3
    with postgresql.database.reading() as connection:
        for setting in ("statement_timeout", "lock_timeout"):
            shown = connection.execute(
                text("SELECT setting::int FROM pg_settings WHERE name = :name"), {"name": setting}
            ).scalar_one()
            assert 0 < shown < limit
        assert connection.scalar(text("SHOW transaction_isolation")) == "read committed"
        driver = connection.connection.driver_connection
        assert driver is not None
        with socket.fromfd(driver.fileno(), socket.AF_INET, socket.SOCK_STREAM) as peer:
            assert 0 < peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) < limit
            assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert timedelta(milliseconds=limit) > engine.CONNECT


def test_sqlite_keeps_what_it_said_was_committed(sqlite: Sql) -> None:
    with sqlite.database.reading() as connection:
        pragmas = {
            name: connection.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}


@pytest.mark.parametrize("kind", ["memory", "postgresql"])
def test_a_database_that_is_away_is_told_as_unavailable(kind: str) -> None:
    if kind == "memory":
        away: Store = (fake := InMemoryStore())
        fake.fault = Unavailable("database", "The database does not answer.")
    else:
        away = SqlStore("postgresql+psycopg://nobody@127.0.0.1:9/none")
    calls: list[Callable[[], object]] = [
        away.ping,
        away.now,
        away.count_by_status,
        lambda: away.complete_upload("v", SOURCE),
        lambda: away.end_expired_leases(limit=1, policy=POLICY),
        lambda: away.exclusively("sweep", lifetime=MINUTE).__enter__(),
    ]
    for call in calls:
        with pytest.raises(Unavailable) as unavailable:
            call()
        assert unavailable.value.part == "database"


def test_a_database_that_is_not_there_is_named_without_its_password(postgresql: Sql) -> None:
    server = make_url(postgresql.url)
    url = server.set(password="hunter2", database="nowhere")
    wrong = SqlStore(url.render_as_string(hide_password=False))
    with pytest.raises(Unavailable) as unavailable:
        wrong.ping()
    message = unavailable.value.message
    assert message.startswith(f"The database postgresql://127.0.0.1:{server.port}/nowhere is not available: ")
    assert message.endswith('FATAL:  database "nowhere" does not exist')
    wrong.close()


def test_a_user_without_the_right_to_the_tables_is_told_so(postgresql: Sql) -> None:
    name = f"guest_{uuid4().hex}"
    with postgresql.database.transaction() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN")
    url = make_url(postgresql.url).set(username=name).render_as_string()
    guest = SqlStore(url)
    try:
        with pytest.raises(Unavailable, match="is not available: permission denied for table"):
            guest.ping()
        with pytest.raises(Unavailable, match="is not available: permission denied for"):
            upgrade(url)
    finally:
        guest.close()
        with postgresql.database.transaction() as connection:
            connection.exec_driver_sql(f"DROP ROLE {name}")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_database_without_tables_names_the_command_that_makes_them(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/new.db"
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.create_database()
    with closing(SqlStore(url)) as new, pytest.raises(Unavailable) as unavailable:
        new.list_tokens()
    message = unavailable.value.message
    assert "api_tokens" in message
    assert message.endswith(": run `python -m anb_api migrate` first.")


def test_connections_that_the_server_ended_are_replaced_unnoticed(postgresql: Sql) -> None:
    store = postgresql.another()
    store.ping()
    end_all_others(postgresql)
    assert store.get("unknown") is None
