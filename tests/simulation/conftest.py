from collections.abc import Iterator

import pytest
import structlog
from coverage import Coverage


@pytest.fixture(autouse=True)
def _unmeasured() -> Iterator[None]:
    """Measure no coverage, because coverage follows greenlets only with an option that loses signals of programs."""
    coverage = Coverage.current()
    if coverage:
        coverage.stop()
    yield
    if coverage:
        coverage.start()


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    """Make no log lines. The story of a run is more readable, and writing the lines takes longer than the run."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.configure(**before)
