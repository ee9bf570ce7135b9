from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.site import Servers, Site, running_site


@pytest.fixture
def clip(footage: Path) -> bytes:
    """The smallest real clip."""
    return (footage / "carphone_distorted.mp4").read_bytes()


@pytest.fixture
def servers(postgres_url: str, ministack_url: str) -> Servers:
    return Servers(postgres_url, ministack_url)


@pytest.fixture
def site(tmp_path: Path, servers: Servers, cards_dir: Path) -> Iterator[Site]:
    """A site without any program, whose programs use PostgreSQL and the emulator without a proxy."""
    with running_site(tmp_path, servers, cards_dir) as site:
        yield site
        print(site.logs())  # noqa: T201 - pytest shows it when the test failed
