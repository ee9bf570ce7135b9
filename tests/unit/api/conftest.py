from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from anb_api.app import create_app
from anb_api.settings import ApiSettings
from anb_core.adapters.system import new_id
from anb_core.domain.model import Result, Scope
from anb_core.domain.retry import RetryPolicy
from anb_core.ports.store import Claimed
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.queue import InMemoryQueue
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.tokens import create_token

VIDEO = b"\0\0\0\x18ftypisom" + b"\0" * 100


class Client:
    """An HTTP client that calls the app without a socket. The event loop of the app runs in a separate thread."""

    def __init__(self, portal: BlockingPortal, http: httpx.AsyncClient) -> None:
        self._portal = portal
        self._http = http

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._portal.call(partial(self._http.request, method, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> httpx.Response:
        return self.request("PUT", path, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        return self.request("DELETE", path, **options)


@dataclass(frozen=True, slots=True)
class World:
    store: InMemoryStore
    objects: InMemoryObjects
    queue: InMemoryQueue
    client: Client

    def caller(self, owner: str, scope: Scope = Scope.USER) -> dict[str, str]:
        """Create a token for the given owner and return the request headers with the token."""
        return {"Authorization": f"Bearer {create_token(self.store, owner=owner, scope=scope, new_id=new_id).secret}"}

    def upload(self, headers: dict[str, str], title: str = "A title") -> str:
        answer = self.client.post(
            "/api/videos/upload", headers=headers, data={"title": title}, files={"video_file": ("clip.mp4", VIDEO)}
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["video_id"])


@contextmanager
def running_api(*, handle_dead_letters: bool = False, **others: Any) -> Iterator[World]:
    """Run an API with an in-memory store, bucket and queue until the `with` block ends. `others` are settings."""
    store, objects, queue = InMemoryStore(), InMemoryObjects(), InMemoryQueue()
    settings = ApiSettings(
        DATABASE_URL="sqlite:///unused.db",
        S3_BUCKET=objects.bucket,
        SQS_QUEUE_URL="http://127.0.0.1:9/000000000000/anb",
        SQS_REGION="us-east-1",
        ANB_MAX_UPLOAD_BYTES=10_000,
        ANB_HANDLE_DEAD_LETTERS=handle_dead_letters,
        **others,
    )
    dead_letter_queue = queue.dead_letters if handle_dead_letters else None
    app = create_app(settings, store, objects, queue, dead_letter_queue=dead_letter_queue)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(app.router.lifespan_context(app)):
        http = httpx.AsyncClient(transport=transport, base_url="http://api")
        yield World(store, objects, queue, Client(portal, http))


@pytest.fixture
def world() -> Iterator[World]:
    with running_api() as world:
        yield world


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """Check that an error response has all fields, and return its status and code."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "code", "detail"}
    assert problem["status"] == answer.status_code
    assert problem["detail"].endswith(".")
    return answer.status_code, problem["code"]


@pytest.fixture
def world_routes(world: World) -> set[str]:
    """Return every operation of the OpenAPI schema as method and path, such as `GET /healthz`."""
    paths = world.client.get("/openapi.json").json()["paths"]
    return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


def process(world: World, video_id: str) -> None:
    claimed = world.store.claim(
        video_id, generation=1, attempt_id=new_id(), worker="w", lease=timedelta(minutes=1), policy=RetryPolicy()
    )
    assert isinstance(claimed, Claimed)
    result = Result(claimed.lease.result_key, 10, "ab", 1280, 720, 35.5, 1065)
    assert world.store.publish(claimed.lease, result)
