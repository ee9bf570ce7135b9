import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import text

from anb_core.adapters.database import upgrade
from anb_core.adapters.system import new_id
from anb_core.ports.store import Store
from tests.contract.store.one_run import Run
from tests.support.given import LEASE, POLICY
from tests.support.postgres import Postgres
from tests.support.stores import Backend, InMemory, Sql

T = TypeVar("T")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite(sqlite_template: Path, tmp_path: Path) -> Iterator[Sql]:
    """A store on SQLite."""
    path = shutil.copy(sqlite_template, tmp_path / "anb.db")
    backend = Sql(f"sqlite:///{path}")
    yield backend
    backend.check_events_come_last()
    backend.close()


@pytest.fixture(scope="session")
def postgres_template(postgres: Postgres) -> str:
    url = postgres.create_database()
    upgrade(url)
    return url


@pytest.fixture(scope="session")
def postgresql_store(postgres: Postgres, postgres_template: str) -> Iterator[Sql]:
    backend = Sql(postgres.create_database(template=postgres_template))
    yield backend
    backend.close()


@pytest.fixture
def postgresql(postgresql_store: Sql) -> Iterator[Sql]:
    """A store on PostgreSQL. The fixture empties the tables for each test, which is faster than a new database."""
    postgresql_store.clear()
    yield postgresql_store
    postgresql_store.close_others()
    postgresql_store.check_events_come_last()


@pytest.fixture
def memory() -> Backend:
    """The in-memory store."""
    return InMemory()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """A store under test. Each test runs three times: with the in-memory store, SQLite and PostgreSQL."""
    chosen: Backend = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture(params=["sqlite", "postgresql"])
def sql(request: pytest.FixtureRequest) -> Sql:
    """An SQL store under test. Each test runs twice: with SQLite and with PostgreSQL."""
    chosen: Sql = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture
def store(backend: Backend) -> Store:
    return backend.store


@pytest.fixture(params=["memory", "sqlite"])
def planted_run(request: pytest.FixtureRequest) -> Run:
    """A correct run, in which a test then breaks a promise. The checker's rules do not depend on the kind of database,
    so PostgreSQL is left out.
    """
    return Run(request.getfixturevalue(request.param))


def end_all_others(backend: Sql) -> None:
    with backend.database.transaction() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


def deliver(store: Store, video_id: str, *, generation: int | None = 1) -> object:
    """Claim the video, as worker-2 does when it receives the video's message. Returns the outcome of the claim."""
    return store.claim(
        video_id, generation=generation, attempt_id=new_id(), worker="worker-2", lease=LEASE, policy=POLICY
    )


def at_once(*calls: Callable[[], T]) -> Sequence[T]:
    """Start all calls at the same moment, each in its own thread. Returns the results in the order of the calls."""
    gate = threading.Barrier(len(calls))

    def begin(call: Callable[[], T]) -> T:
        gate.wait(timeout=30)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(timeout=60) for future in [pool.submit(begin, call) for call in calls]]
