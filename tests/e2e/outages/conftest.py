"""Installs a release of its own for the outages, so that the tests of the other folders can run at the same time."""

from collections.abc import Iterator

import pytest

from tests.support.release import Release, installing


@pytest.fixture(scope="session")
def installed() -> Iterator[Release]:
    """The complete system in a namespace of its own. After the last test, every promise must be kept."""
    with installing("anb-e2e-outages") as release:
        yield release
