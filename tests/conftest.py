"""Fixtures for every test, and an environment in which no test can reach AWS or the developer's own settings."""

import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.support.aws import running_ministack, running_moto
from tests.support.postgres import Postgres, running_postgres

FOOTAGE = Path(__file__).parents[1] / "build" / "footage"

SKIPS_ALLOWED_IN_CI: tuple[str, ...] = ()
"""Beginnings of the reasons for which a test may be skipped in CI; each with a comment that says why that is fine."""


def pytest_configure() -> None:
    # What a shell starts in its background ignores Ctrl-C, and so would every program that a test interrupts.
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
        # Nobody listens there: a client that was told no endpoint fails at once instead of asking AWS.
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    # In CI hypothesis has no deadline of its own accord: a machine that pauses for 0.2 s is slow elsewhere, too.
    settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")
    # By default structlog draws every local variable of a traceback, which takes minutes where stores are among them.
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    # Through logging, as the programs do. Otherwise a line of an API that runs in a thread for the whole session would
    # be in the output of the test that runs at that moment.
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, plain],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """An empty PostgreSQL database, for SQLAlchemy."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """S3, SQS and SNS by moto."""
    with running_moto() as url:
        yield url


@pytest.fixture(scope="session")
def ministack_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """S3, SQS and SNS by the embedded emulator."""
    with running_ministack(tmp_path_factory.mktemp("ministack")) as url:
        yield url


@pytest.fixture(scope="session")
def footage() -> Path:
    """The folder with the real clips: bigbuckbunny.mp4, bikes.mp4, carphone_pristine.mp4."""
    if not FOOTAGE.is_dir():
        raise RuntimeError(f"{FOOTAGE} is missing: run `make footage`")
    return FOOTAGE


@pytest.fixture(scope="session")
def cards_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by all processes of this test run: composing the cards takes a while."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cards"
