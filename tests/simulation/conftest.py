from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for the workers' files. All runs use it, one after the other."""
    return tmp_path_factory.mktemp("simulation")


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    """Make no log lines. The story of a run is more readable, and writing the lines takes longer than the run."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.configure(**before)
