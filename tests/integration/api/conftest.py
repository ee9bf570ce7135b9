from collections.abc import Iterator

import pytest

from tests.support.api import Api, environment, in_environment, serving


@pytest.fixture(scope="session")
def api(ministack_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API in a real HTTP server, which runs in a thread. The API uses SQLite and the embedded emulator."""
    variables = environment(tmp_path_factory.mktemp("api"), ministack_url)
    with in_environment(variables) as (settings, parts), serving(settings, parts) as (url, context):
        yield Api(url, context, ministack_url)
