"""Installs a second release beside the first one, so that the tests of both folders can run at the same time."""

from collections.abc import Iterator

import pytest

from tests.support.release import Release, installing


@pytest.fixture(scope="session")
def installed() -> Iterator[Release]:
    """The complete system once more, in another namespace. After the last test, every promise must be kept."""
    with installing("anb-e2e-beside") as release:
        yield release
