"""Tests of the connection to the Kubernetes API server: logins, expired tokens, timeouts, and request metrics."""

import asyncio
import gc
import json
from pathlib import Path

import kopf
import pytest
from aiohttp import ClientSession, web
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException

from anb_core.domain.errors import Unavailable
from anb_operator.client import KubeClient
from anb_operator.connection import log_in
from anb_operator.kube import KubeRefused
from anb_operator.videojob import VideoJob
from tests.integration.operator.asking import ask, item, status


def test_a_closed_port_is_an_outage() -> None:
    with pytest.raises(Unavailable) as raised:
        ask(status(500, "none"), lambda client: client.list_videojobs(), served=False)
    assert raised.value.part == "kubernetes"


def test_an_expired_token_is_read_again() -> None:
    seen = []

    async def strict(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers["Authorization"])
        if request.headers["Authorization"] == "Bearer t1":
            return await status(401, "Unauthorized")(request)
        return web.json_response({"metadata": {}, "items": []})

    assert ask(strict, lambda client: client.list_videojobs()) == []
    assert seen == ["Bearer t1", "Bearer t2"]


def test_logins_that_the_server_refuses_leave_no_open_sessions_behind() -> None:
    async def many(client: KubeClient) -> int:
        for _ in range(5):
            with pytest.raises(KubeRefused):
                await client.ping()
        return sum(isinstance(thing, ClientSession) and not thing.closed for thing in gc.get_objects())

    assert ask(status(401, "Unauthorized"), many) == 1


def test_a_token_that_expires_during_many_calls_fails_none_of_them_and_is_read_again_once() -> None:
    seen = set()

    async def strict(request: web.Request) -> web.StreamResponse:
        seen.add(request.headers["Authorization"])
        # Delay the responses to requests whose label selector contains "slow".
        await asyncio.sleep(0.02 if "slow" in request.query["labelSelector"] else 0)
        if request.headers["Authorization"] == "Bearer t1":
            return await status(401, "Unauthorized")(request)
        return web.json_response({"metadata": {}, "items": []})

    async def many(client: KubeClient) -> object:
        return await asyncio.gather(*(client.list_pods(f"a={speed}") for speed in ["quick", "slow"] * 8))

    assert ask(strict, many) == [[]] * 16
    assert seen == {"Bearer t1", "Bearer t2"}


def test_a_request_that_is_not_answered_in_time_is_an_outage_and_counted_as_such(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("anb_operator.connection.TIMEOUT_SECONDS", 0.05)
    counted = []

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"metadata": {}, ')
        await asyncio.Event().wait()
        return response

    with pytest.raises(Unavailable, match=r"GET /apis/anb\.video/v1alpha1/.*: no answer within"):
        ask(half, lambda client: client.list_videojobs(), on_answer=lambda *answer: counted.append(answer))
    assert counted == [("GET", "none")]


def test_each_request_is_counted_by_its_status_those_with_an_old_token_too() -> None:
    counted = []

    async def strict(request: web.Request) -> web.StreamResponse:
        if request.headers["Authorization"] == "Bearer t1":
            return await status(401, "Unauthorized")(request)
        if request.method == "DELETE":
            return await status(503, "ServiceUnavailable")(request)
        return web.json_response(item("a"))

    async def writes(client: KubeClient) -> None:
        await client.patch_status(VideoJob.read(item("a")), {})
        await client.delete_videojob(VideoJob.read(item("a")))

    with pytest.raises(Unavailable):
        ask(strict, writes, on_answer=lambda *answer: counted.append(answer))
    assert counted == [("PATCH", "401"), ("PATCH", "200"), ("DELETE", "503")]


def test_a_proxy_in_the_environment_is_not_for_the_api_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    async def nothing(_: web.Request) -> web.Response:
        return web.json_response({"metadata": {}, "items": []})

    assert ask(nothing, lambda client: client.list_videojobs()) == []


def test_without_a_pod_and_without_a_kubeconfig_there_is_no_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(kopf.LoginError, match="run in a pod, or set KUBECONFIG"):
        asyncio.run(log_in())


@pytest.mark.parametrize("content", ["", "clusters: [", "no mapping", "clusters: []"])
def test_a_kubeconfig_that_cannot_be_read_is_named_with_the_reason(
    content: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(file))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(kopf.LoginError, match=str(file)):
        asyncio.run(log_in())


def test_a_kubeconfig_whose_server_is_certified_under_another_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster = {"server": "https://127.0.0.1:6443", "tls-server-name": "kubernetes"}
    content = {
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": {"token": "token"}}],
    }
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(content))
    monkeypatch.setenv("KUBECONFIG", str(file))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(kopf.LoginError, match="tls-server-name kubernetes"):
        asyncio.run(log_in())


def test_in_a_pod_a_token_that_is_missing_for_a_moment_is_an_outage(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token, certificate = tmp_path / "token", tmp_path / "ca.crt"
    certificate.write_text("a certificate")
    monkeypatch.setattr("kubernetes.aio.config.incluster_config.SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr("kubernetes.aio.config.incluster_config.SERVICE_CERT_FILENAME", str(certificate))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(Unavailable, match="ServiceAccount of this pod can't be read"):
        asyncio.run(log_in())
    token.write_text("secret")
    assert asyncio.run(log_in()).api_key == {"BearerToken": "bearer secret"}


@pytest.mark.parametrize("error", [FileNotFoundError("no token"), ConfigException("Token file exists but empty.")])
def test_a_token_that_cannot_be_read_again_for_a_moment_is_an_outage(error: Exception) -> None:
    errors = [error]

    def reread(_: Configuration) -> None:
        if errors:
            raise errors.pop()

    async def twice(client: KubeClient) -> object:
        with pytest.raises(Unavailable, match=str(error)):
            await client.list_pods("a=b")
        return await client.list_pods("a=b")

    async def nothing(_: web.Request) -> web.Response:
        return web.json_response({"metadata": {}, "items": []})

    assert (
        ask(nothing, twice, on_login=lambda configuration: setattr(configuration, "refresh_api_key_hook", reread)) == []
    )
