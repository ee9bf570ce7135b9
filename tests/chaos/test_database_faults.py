"""Faults of the database's server, while videos are uploaded and processed. The checker ends each."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from anb_core.domain.status import Status
from tests.chaos.load import at_work, endured
from tests.chaos.site import LEASE, OURS, Servers, Site
from tests.support import eventually
from tests.support.pgbouncer import pooled
from tests.support.postgres import (
    Postgres,
    RestartablePostgres,
    restartable_postgres,
    running_postgres,
    running_standby,
)
from tests.support.proxy import proxied

pytestmark = pytest.mark.chaos

OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND application_name = ''
"""
"""Ends all connections except those of the tests, which have a name."""


@pytest.fixture(scope="module")
def server() -> Iterator[RestartablePostgres]:
    """A PostgreSQL server that the tests may restart."""
    with restartable_postgres() as server:
        yield server


@pytest.fixture
def site(tmp_path: Path, server: RestartablePostgres, ministack_url: str, cards_dir: Path) -> Iterator[Site]:
    """A site with an API and two workers, on the server of this module."""
    url = server.create_database()
    with at_work(tmp_path, Servers(url, ministack_url), cards_dir) as site:
        yield site
    server.drop_database(url)


def connected(server: Postgres, name: str = "postgres") -> psycopg.Connection:
    address = f"host=127.0.0.1 port={server.port} user=postgres dbname={name} application_name={OURS}"
    return psycopg.connect(address, autocommit=True)


def database(site: Site) -> str:
    return site.servers.database_url.rpartition("/")[2]


def test_a_restart_of_postgresql_costs_only_time(site: Site, server: RestartablePostgres, clip: bytes) -> None:
    with endured(site, clip):
        server.stop()
        eventually(lambda: "the database is away" in site.programs.all["worker-2"].log)
        server.start()


def test_backends_that_are_killed_again_and_again_cost_only_time(
    site: Site, server: RestartablePostgres, clip: bytes
) -> None:
    with endured(site, clip), connected(server) as killer:
        killed = 0
        for _ in range(20):
            killed += killer.execute(OTHERS).rowcount
            time.sleep(0.2)
    assert killed > 20


def test_connections_that_are_all_taken_for_longer_than_a_lease_cost_only_time(
    site: Site, server: RestartablePostgres, clip: bytes
) -> None:
    with endured(site, clip), ExitStack() as taken:
        until = time.monotonic() + 1.2 * LEASE.total_seconds()
        refused = 0
        while time.monotonic() < until:
            try:
                taken.enter_context(connected(server)).execute(OTHERS)
            except psycopg.OperationalError:
                refused += 1
                time.sleep(0.05)
        assert refused > 20


def test_a_failover_to_a_standby_costs_only_time(
    tmp_path: Path, ministack_url: str, cards_dir: Path, clip: bytes
) -> None:
    with running_postgres() as before, running_standby(before) as after:
        name = before.create_database().rpartition("/")[2]
        hosts = f"host=127.0.0.1:{before.port}&host=127.0.0.1:{after.port}"
        servers = Servers(f"postgresql+psycopg://postgres@/{name}?{hosts}", ministack_url)
        with at_work(tmp_path, servers, cards_dir) as site, endured(site, clip):
            fail_over(before, after)


@pytest.mark.debian
def test_a_failover_behind_a_pooler_costs_only_time(
    tmp_path: Path, ministack_url: str, cards_dir: Path, clip: bytes
) -> None:
    with (
        running_postgres() as before,
        running_standby(before) as after,
        proxied("127.0.0.1", before.port) as address,
        pooled(before.create_database().replace(f":{before.port}/", f":{address.port}/"), connections=6) as url,
        at_work(tmp_path, Servers(url, ministack_url), cards_dir) as site,
        endured(site, clip),
    ):
        fail_over(before, after)
        address.move(("127.0.0.1", after.port))


def fail_over(before: Postgres, after: Postgres) -> None:
    """Make the primary server read-only, wait until the standby has all its data, and promote the standby."""
    before.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    before.execute("SELECT pg_reload_conf()")
    with connected(before) as primary, connected(after) as standby:

        def has_followed() -> bool:
            [written] = primary.execute("SELECT pg_current_wal_lsn()").fetchone() or [None]
            [behind] = standby.execute("SELECT pg_last_wal_replay_lsn() < %s", [written]).fetchone() or [True]
            return not behind

        eventually(has_followed)
        time.sleep(2)  # During this time, no server accepts writes.
        standby.execute("SELECT pg_promote()")


def test_a_clock_that_is_set_back_and_forth_costs_only_time(
    site: Site, server: RestartablePostgres, clip: bytes
) -> None:
    with connected(server, database(site)) as connection:
        connection.execute(WRONG_CLOCK)
        connection.execute(f'ALTER DATABASE "{database(site)}" SET search_path = wrong, pg_catalog, public'.encode())

        def is_ahead(seconds: float) -> bool:
            if abs((site.store.now() - datetime.now(UTC)).total_seconds() - seconds) < 5:
                return True
            # Connections that were made before have the right clock, also those of the tests.
            connection.execute(ALL_OTHERS)
            return False

        connection.execute(ALL_OTHERS)
        with endured(site, clip):
            for seconds in (-600, 0, 10, 0):
                connection.execute("UPDATE wrong.clock SET ahead = %s", [timedelta(seconds=seconds)])
                eventually(lambda seconds=seconds: is_ahead(seconds))  # type: ignore[misc]
                time.sleep(2)


ALL_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""

WRONG_CLOCK = """
CREATE SCHEMA wrong;
CREATE TABLE wrong.clock AS SELECT INTERVAL '0' AS ahead;
CREATE FUNCTION wrong.clock_timestamp() RETURNS timestamptz LANGUAGE sql
AS 'SELECT pg_catalog.clock_timestamp() + ahead FROM wrong.clock'
"""


@pytest.mark.parametrize("lock", ["LOCK TABLE jobs", "SELECT FROM jobs JOIN videos ON videos.id = video_id FOR UPDATE"])
def test_rows_and_tables_that_are_locked_for_longer_than_a_lease_cost_only_time(
    site: Site, server: RestartablePostgres, clip: bytes, lock: LiteralString
) -> None:
    with endured(site, clip), connected(server, database(site)) as connection, connection.transaction():
        eventually(lambda: site.store.count_by_status().get(Status.PROCESSING))
        connection.execute(lock)
        time.sleep(1.2 * LEASE.total_seconds())
