"""The Kubernetes client against a fake API server that fails. tests/e2e/operator uses a real API server."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path

import kopf
import pytest
from aiohttp import ClientSession, web
from kubernetes.aio.client import Configuration

from anb_core.domain.errors import AnbError, Unavailable
from anb_operator.client import KubeClient
from anb_operator.connection import Connection, log_in
from anb_operator.kube import Existing, Json, KubeRefused, Missing, Outdated
from anb_operator.settings import UninstallSettings
from anb_operator.uninstall import uninstall
from anb_operator.videojob import FINALIZER, VideoJob

GROUPS = [{"name": "anb.video", "versions": [{"groupVersion": "anb.video/v1alpha1", "version": "v1alpha1"}]}]

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def ask(
    answer: Answer,
    question: Callable[[KubeClient], Awaitable[object]],
    *,
    served: bool = True,
    watched: str | None = "video",
    on_answer: Callable[[str, str], None] = lambda *_: None,
) -> object:
    """Run a client call against a fake server and return the result. The logins return the tokens t1, t2 ..."""
    tokens = (f"t{number}" for number in count(1))

    async def served_and_asked() -> object:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            port = runner.addresses[0][1]
            if not served:
                await runner.cleanup()
            server = f"http://127.0.0.1:{port}"

            async def log_in() -> Configuration:
                return Configuration(host=server, api_key={"BearerToken": f"Bearer {next(tokens)}"})

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


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        (404, "NotFound", Missing),
        (409, "AlreadyExists", Existing),
        (409, "Conflict", Outdated),
        (401, "Unauthorized", KubeRefused),
        (403, "Forbidden", KubeRefused),
        (422, "Invalid", KubeRefused),
        (429, "TooManyRequests", Unavailable),
        (500, "InternalError", Unavailable),
        (503, "ServiceUnavailable", Unavailable),
    ],
)
def test_refusals_and_outages_are_distinguished(code: int, reason: str, error: type[AnbError]) -> None:
    with pytest.raises(AnbError) as raised:
        ask(status(code, reason), lambda client: client.list_videojobs())
    assert type(raised.value) is error
    assert f"it is {reason}" in raised.value.message


def test_a_closed_port_is_an_outage() -> None:
    with pytest.raises(Unavailable) as raised:
        ask(status(500, "none"), lambda client: client.list_videojobs(), served=False)
    assert raised.value.part == "kubernetes"


def test_a_proxy_whose_server_is_away_is_an_outage() -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>a proxy</html>", status=502)

    with pytest.raises(Unavailable):
        ask(page, lambda client: client.list_videojobs())


def test_a_resource_that_the_cluster_does_not_know_is_missing() -> None:
    async def unknown_path(_: web.Request) -> web.Response:
        return web.Response(text="404 page not found\n", status=404)

    with pytest.raises(Missing, match="404 page not found"):
        ask(unknown_path, lambda client: client.list_videojobs())


def test_a_list_that_is_cut_off_is_an_outage() -> None:
    async def half(_: web.Request) -> web.Response:
        return web.Response(text='{"metadata": {}, "items": [')

    with pytest.raises(Unavailable):
        ask(half, lambda client: client.list_videojobs())


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
        # Delay the answers to requests whose label selector contains "slow".
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


@pytest.mark.parametrize("body", ["", "null", "[]", '"no"', "<html>"])
@pytest.mark.parametrize(("code", "error"), [(502, Unavailable), (403, KubeRefused), (200, Unavailable)])
def test_an_answer_that_is_not_an_object_is_judged_by_its_status(body: str, code: int, error: type[AnbError]) -> None:
    async def odd(_: web.Request) -> web.Response:
        return web.Response(text=body, status=code)

    with pytest.raises(AnbError) as raised:
        ask(odd, lambda client: client.list_videojobs())
    assert type(raised.value) is error


def test_long_lists_are_read_page_by_page_and_unreadable_objects_are_left_out() -> None:
    asked = []

    async def paged(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        if "continue" in request.query:
            return web.json_response({"metadata": {}, "items": [item("c")]})
        odd = {"metadata": item("b")["metadata"], "spec": {"videoId": 7}}
        return web.json_response({"metadata": {"continue": "on"}, "items": [item("a"), odd]})

    async def names(client: KubeClient) -> list[str]:
        return [videojob.metadata.name for videojob in await client.list_videojobs()]

    assert ask(paged, names) == ["a", "c"]
    assert asked == [{"limit": "500"}, {"limit": "500", "continue": "on"}]


def test_a_write_names_the_uid_of_the_object_that_was_read() -> None:
    bodies: list[Json] = []

    async def answer(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        return web.json_response(item("a"))

    async def writes(client: KubeClient) -> None:
        videojob = VideoJob.read(item("a"))
        await client.set_finalizers(videojob, [])
        await client.patch_status(videojob, {})
        await client.delete_videojob(videojob)

    ask(answer, writes)
    finalizers, status_of_it, deletion = bodies
    assert finalizers["metadata"]["resourceVersion"] == "1"
    assert status_of_it["metadata"] == {"uid": "a"}
    assert deletion["preconditions"] == {"uid": "a"}


def test_with_the_whole_cluster_watched_the_client_asks_whether_that_is_allowed() -> None:
    async def forbids(request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.json_response({"metadata": {}, "items": [], "groups": GROUPS})
        asked = (await request.json())["spec"]["resourceAttributes"]
        return web.json_response({"spec": {}, "status": {"allowed": bool(asked["namespace"])}})

    ask(forbids, lambda client: client.ping())
    with pytest.raises(KubeRefused, match=r"may not watch videojobs\.anb\.video in any namespace"):
        ask(forbids, lambda client: client.ping(), watched=None)


def test_a_cluster_that_refuses_access_reviews_counts_as_available() -> None:
    async def keeps_it(request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.json_response({"metadata": {}, "items": [], "groups": GROUPS})
        return web.json_response({"reason": "Forbidden", "message": "it is forbidden to ask"}, status=403)

    ask(keeps_it, lambda client: client.ping())


def unreadable(name: str, **metadata: object) -> Json:
    """Return a VideoJob with a field that only the CRD of a newer operator allows."""
    return (
        item(name)
        | {"spec": {"source": {"key": name}, "edit": {"fade": True}}}
        | {"metadata": item(name)["metadata"] | metadata}
    )


def test_an_unreadable_videojob_can_still_be_deleted() -> None:
    going = {"deletionTimestamp": "2026-01-02T00:00:00Z", "finalizers": [FINALIZER]}

    async def answer(request: web.Request) -> web.Response:
        if request.method == "PATCH":
            return web.json_response(unreadable("b", **going | (await request.json())["metadata"]))
        return web.json_response(
            {"metadata": {}, "items": [unreadable("a", finalizers=[FINALIZER]), unreadable("b", **going)]}
        )

    async def freed(client: KubeClient) -> object:
        (videojob,) = await client.list_videojobs()
        assert (videojob.metadata.name, videojob.deleting, videojob.metadata.finalizers) == ("b", True, (FINALIZER,))
        return await client.set_finalizers(videojob, [])

    videojob = ask(answer, freed)
    assert isinstance(videojob, VideoJob)
    assert videojob.metadata.finalizers == ()


class Uninstalled:
    """A fake API server for uninstall tests. `pods` are the operator's pods. If `stubborn`, all finalizers stay."""

    def __init__(self, *, stubborn: bool = False, pods: Sequence[str] = ()) -> None:
        self._pods = [{"metadata": {"name": pod}} for pod in pods]
        self.videojobs = {name: unreadable(name, finalizers=["other", FINALIZER]) for name in ("a", "b")}
        self.crd_exists = True
        self.applied = False
        self.stopped = False
        self._stubborn = stubborn

    async def answer(self, request: web.Request) -> web.StreamResponse:
        name = request.path.rpartition("/")[2]
        if request.method == "PATCH" and name in self.videojobs:
            if not self._stubborn:
                self.videojobs[name]["metadata"] |= (await request.json())["metadata"]
            return web.json_response(self.videojobs[name])
        if name == "scale":
            self.stopped = True
        if name == "anb-operator-uninstall" and not self.applied:
            return web.json_response({"reason": "NotFound", "message": "there is no marker"}, status=404)
        if name == "videojobs" and not self.crd_exists:
            return web.Response(text="404 page not found\n", status=404)
        items = {"videojobs": [*self.videojobs.values()], "pods": self._pods}
        return web.json_response({"metadata": {}, "items": items.get(name, [])})

    def uninstall(self) -> None:
        settings = UninstallSettings.model_validate(
            {
                "ANB_OPERATOR_NAMESPACE": "video",
                "ANB_OPERATOR_DEPLOYMENT": "anb-operator",
                "ANB_OPERATOR_SELECTOR": "app=operator",
            }
        )
        ask(self.answer, lambda client: uninstall(client, settings))

    def finalizers(self) -> list[list[str]]:
        return [videojob["metadata"]["finalizers"] for videojob in self.videojobs.values()]


@pytest.fixture(autouse=True)
def _no_marker_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anb_operator.uninstall.MARKER_CHECKS", 1)


def test_an_uninstall_takes_our_finalizer_off_unreadable_videojobs_too() -> None:
    cluster = Uninstalled()
    cluster.uninstall()
    assert cluster.stopped
    assert cluster.finalizers() == [["other"], ["other"]]


def test_a_clean_up_that_was_applied_like_everything_else_does_nothing() -> None:
    cluster = Uninstalled()
    cluster.applied = True
    cluster.uninstall()
    assert not cluster.stopped
    assert cluster.finalizers() == [["other", FINALIZER]] * 2


def test_a_marker_that_is_applied_a_moment_later_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anb_operator.uninstall.MARKER_CHECKS", 3)
    monkeypatch.setattr("anb_operator.uninstall.PAUSE_SECONDS", 0.01)
    cluster = Uninstalled()
    requests = []

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/anb-operator-uninstall"):
            requests.append(request.path)
            cluster.applied = len(requests) == 3
        return await Uninstalled.answer(cluster, request)

    monkeypatch.setattr(cluster, "answer", answer)
    cluster.uninstall()
    assert len(requests) == 3
    assert not cluster.stopped


def test_an_uninstall_that_leaves_finalizers_fails_and_names_one() -> None:
    with pytest.raises(KubeRefused, match=r"2 VideoJobs still have the .* anb\.video/cancel, such as video/a"):
        Uninstalled(stubborn=True).uninstall()


def test_an_uninstall_beside_a_pod_that_does_not_stop_fails_and_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anb_operator.uninstall.PATIENCE_SECONDS", 0.0)
    cluster = Uninstalled(pods=["anb-operator-1"])
    with pytest.raises(KubeRefused, match=r"pod anb-operator-1 has not stopped .* Delete the pod"):
        cluster.uninstall()
    assert cluster.finalizers() == [["other", FINALIZER]] * 2


def test_an_uninstall_after_the_definition_was_deleted_has_nothing_to_do() -> None:
    cluster = Uninstalled()
    cluster.crd_exists = False
    cluster.uninstall()
