"""Runs calls of the operator's Kubernetes client against a fake API server with prepared responses."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

from aiohttp import web
from kubernetes.aio.client import Configuration

from anb_operator.client import KubeClient
from anb_operator.connection import Connection
from anb_operator.kube import Json

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def ask(
    answer: Answer,
    question: Callable[[KubeClient], Awaitable[object]],
    *,
    served: bool = True,
    watched: str | None = "video",
    on_answer: Callable[[str, str], None] = lambda *_: None,
    on_login: Callable[[Configuration], None] = lambda _: None,
) -> object:
    """Run a call of the client against a fake server, and return the result. Logins return the tokens t1, t2 ...

    `on_login` is called with the configuration of each login, and may change the configuration.
    """
    tokens = (f"t{number}" for number in count(1))

    async def served_and_asked() -> object:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            port = runner.addresses[0][1]
            if not served:
                await runner.cleanup()
            server = f"http://127.0.0.1:{port}"

            async def log_in() -> Configuration:
                configuration = Configuration(host=server, api_key={"BearerToken": f"Bearer {next(tokens)}"})
                on_login(configuration)
                return configuration

            async with Connection(log_in, on_answer).open() as connection:
                return await question(KubeClient(connection, namespace="video", watched=watched))
        finally:
            await runner.cleanup()

    return asyncio.run(served_and_asked())


def status(code: int, reason: str) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"kind": "Status", "reason": reason, "message": f"it is {reason}"}, status=code)

    return answer


def item(name: str) -> Json:
    metadata = {
        "name": name,
        "namespace": "video",
        "uid": name,
        "resourceVersion": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return {"metadata": metadata, "spec": {"videoId": name}}


def unreadable(name: str, **metadata: object) -> Json:
    """Return a VideoJob with a field that only the CRD of a newer operator allows."""
    return (
        item(name)
        | {"spec": {"source": {"key": name}, "edit": {"fade": True}}}
        | {"metadata": item(name)["metadata"] | metadata}
    )
