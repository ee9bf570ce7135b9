"""Tests that after a failover to another server, a store drops its old connections and continues."""

from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest
from sqlalchemy import text

from anb_core.adapters.database import SqlStore, engine, upgrade
from anb_core.adapters.database.engine import Database
from anb_core.adapters.system import new_id
from anb_core.domain.errors import Unavailable
from anb_core.ports.store import Claimed, Store
from tests.support.given import LEASE, POLICY, SECOND, claim, processed, result, uploaded
from tests.support.postgres import Postgres, running_postgres, running_standby
from tests.support.stores import Sql
from tests.support.waiting import eventually


def pid(database: Database) -> int:
    """Return the process id of the PostgreSQL backend that serves the next transaction."""
    with database.reading() as connection:
        return int(connection.scalar(text("SELECT pg_backend_pid()")) or 0)


@pytest.fixture
def database(postgresql: Sql) -> Iterator[Database]:
    database = Database(postgresql.url)
    yield database
    database.close()


@pytest.mark.parametrize("state", ["25006", "57P01", "57P02", "57P03", "08000", "08003", "08006", "08P01"])
def test_an_answer_that_tells_of_the_server_ends_the_connection(database: Database, state: str) -> None:
    before = pid(database)
    with pytest.raises(Unavailable), database.transaction() as connection:
        connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'so' USING ERRCODE = '{state}'; END $$"))
    assert pid(database) != before


@pytest.mark.parametrize("state", ["55P03", "57014", "40001"])
def test_an_answer_that_tells_of_the_statement_does_not(database: Database, state: str) -> None:
    before = pid(database)
    with pytest.raises(Unavailable), database.transaction() as connection:
        connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'so' USING ERRCODE = '{state}'; END $$"))
    assert pid(database) == before


def test_a_write_that_meets_a_server_that_only_reads_by_now_ends_its_connection(database: Database) -> None:
    before = pid(database)
    with pytest.raises(Unavailable, match="read-only transaction"), database.transaction() as connection:
        connection.execute(text("DO $$ BEGIN SET TRANSACTION READ ONLY; DELETE FROM locks; END $$"))
    assert pid(database) != before


def test_no_connection_is_used_for_longer_than_it_may_be(
    postgresql: Sql, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pid(database) == pid(database)
    monkeypatch.setattr(engine, "MAX_AGE", 0 * SECOND)
    short_lived = Database(postgresql.url)
    assert pid(short_lived) != pid(short_lived)
    short_lived.close()


def read_only(server: Postgres, *, whether: bool) -> None:
    """Make the server read-only or writable, also for existing connections."""
    server.execute("ALTER SYSTEM SET default_transaction_read_only = on" if whether else "ALTER SYSTEM RESET ALL")
    server.execute("SELECT pg_reload_conf()")


def away(store: Store) -> str | None:
    try:
        store.ping()
    except Unavailable as error:
        return error.message
    return None


def test_while_the_database_can_only_be_read_nobody_is_told_that_it_is_there(
    postgres: Postgres, postgresql: Sql
) -> None:
    store = postgresql.store
    video_id = uploaded(store)
    read_only(postgres, whether=True)
    try:
        assert "read-only" in str(eventually(lambda: away(store)))
        with pytest.raises(Unavailable, match="read-only"):
            store.claim(video_id, generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY)
    finally:
        read_only(postgres, whether=False)
    eventually(lambda: not away(store))
    claim(store, video_id)


def has_followed(standby: Postgres, name: str, video_id: str) -> bool:
    url = f"postgresql://postgres@127.0.0.1:{standby.port}/{name}"
    with suppress(psycopg.errors.UndefinedTable), psycopg.connect(url) as connection:
        return (
            connection.execute(
                "SELECT FROM outbox JOIN jobs ON jobs.id = job_id WHERE video_id = %s", [video_id]
            ).rowcount
            > 0
        )
    return False


def test_who_was_connected_to_the_server_before_goes_on_with_the_one_that_took_over() -> None:
    with running_postgres() as before, running_standby(before) as after:
        name = before.create_database().rpartition("/")[2]
        hosts = f"host=127.0.0.1:{before.port}&host=127.0.0.1:{after.port}"
        store = SqlStore(f"postgresql+psycopg://postgres@/{name}?{hosts}")
        upgrade(f"postgresql+psycopg://postgres@/{name}?{hosts}")
        done, waiting = processed(store), uploaded(store)
        follower = SqlStore(f"postgresql+psycopg://postgres@127.0.0.1:{after.port}/{name}")
        assert "read-only" in (away(follower) or "")
        eventually(lambda: has_followed(after, name, waiting))

        # Keep the old server running, because some failovers only move the network address to another server.
        read_only(before, whether=True)
        message = str(eventually(lambda: away(store)))
        assert message.startswith(f"The database postgresql:///{name}?host=127.0.0.1%3A{before.port}&host=127.0.0.1%3A")
        after.execute("SELECT pg_promote()")
        eventually(lambda: not away(store), within=15)

        claimed = store.claim(waiting, generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY)
        assert isinstance(claimed, Claimed)
        assert store.publish(claimed.lease, result(claimed.lease))
        assert not away(follower)
        assert {record.video.id for record in follower.listing(owner=None)} == {done, waiting}
        for one in (store, follower):
            one.close()
