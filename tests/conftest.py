"""Fixtures for every test, and an environment in which no test can reach AWS or the developer's own settings."""

import logging
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.support.aws import running_ministack, running_moto
from tests.support.brokers import running_rabbitmq, running_redis
from tests.support.postgres import Postgres, running_postgres

FOOTAGE = Path(__file__).parents[1] / "build" / "footage"

LONGEST = Path(__file__).parent / "integration" / "worker" / "test_moves.py"
"""The module with the longest tests."""

SKIPS_ALLOWED_IN_CI: tuple[str, ...] = ()
"""Prefixes of the skip reasons that CI accepts. A comment must say for each prefix why CI may skip the test."""


def pytest_configure() -> None:
    # Restore the handling of SIGINT, because shells start background jobs with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in list(os.environ):
        if name.startswith(("ANB_", "AWS_", "CELERY_", "DATABASE_", "S3_", "SQS_")):
            del os.environ[name]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        # No server listens on port 9, so a client without a configured endpoint fails at once and never calls AWS.
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    # Disable the deadline of Hypothesis (0.2 s for one example), because a busy machine can pause for longer.
    settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")
    # Print tracebacks without local variables, because printing a large in-memory store takes minutes.
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    # Log through the standard logging module, as the programs do, so that pytest assigns each log line to its test.
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, plain],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Begin with the longest tests. Otherwise one process would still run them after the other processes have ended.
    items.sort(key=lambda item: item.path != LONGEST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_an_unexplained_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_an_unexplained_skip(report)
    return report


def _fail_an_unexplained_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail") or not os.environ.get("CI"):
        return
    reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
    if not reason.startswith(SKIPS_ALLOWED_IN_CI):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, which is allowed only for the reasons listed in {__file__}: {reason}"


@pytest.fixture(autouse=True)
def _root_logger_is_kept() -> Iterator[None]:
    """A test that replaces the handlers of the root logger would make later tests fail, which have lost their logs."""
    before = [*logging.root.handlers]
    yield
    assert logging.root.handlers == before, "this test has changed the handlers of the root logger"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for the whole test session."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The SQLAlchemy URL of an empty PostgreSQL database."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """The URL of a moto server that simulates S3, SQS and SNS."""
    with running_moto() as url:
        yield url


@pytest.fixture(scope="session")
def ministack_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the embedded emulator, which simulates S3, SQS and SNS."""
    with running_ministack(tmp_path_factory.mktemp("ministack")) as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a Redis server for the whole test session."""
    with running_redis() as url:
        yield url


@pytest.fixture(scope="session")
def rabbitmq_url() -> Iterator[str]:
    """The URL of a RabbitMQ server for the whole test session."""
    with running_rabbitmq() as url:
        yield url


@pytest.fixture(scope="session")
def footage() -> Path:
    """The folder with the real clips: bigbuckbunny.mp4, bikes.mp4, carphone_pristine.mp4."""
    if not FOOTAGE.is_dir():
        raise RuntimeError(f"{FOOTAGE} is missing: run `make footage`")
    return FOOTAGE


@pytest.fixture(scope="session")
def cards_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache folder for intro and outro clips. All tests share this folder, because making a clip takes seconds."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cards"
