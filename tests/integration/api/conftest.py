import threading
from collections.abc import Iterator

import pytest

from anb_api.server import make_server
from tests.support import eventually
from tests.support.api import Api, environment, in_environment


@pytest.fixture(scope="session")
def api(ministack_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API in a real HTTP server, which runs in a thread. The API uses SQLite and the embedded emulator."""
    with in_environment(environment(tmp_path_factory.mktemp("api"), ministack_url)) as (settings, parts):
        server = make_server(settings, parts.store, parts.objects, parts.queue)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            eventually(lambda: server.started)
            host, port = server.servers[0].sockets[0].getsockname()
            yield Api(f"http://{host}:{port}", server.app.state.context, ministack_url)
        finally:
            server.should_exit = True
            thread.join(20)
