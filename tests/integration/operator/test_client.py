"""Tests of the Kubernetes client with a fake API server that fails. tests/e2e/operator uses a real API server."""

import pytest
from aiohttp import web

from anb_core.domain.errors import AnbError, Unavailable
from anb_operator.client import KubeClient
from anb_operator.kube import Existing, Json, KubeRefused, Missing, Outdated, Scale
from anb_operator.videojob import FINALIZER, VideoJob
from tests.integration.operator.asking import ask, item, status, unreadable

GROUPS = [{"name": "anb.video", "versions": [{"groupVersion": "anb.video/v1alpha1", "version": "v1alpha1"}]}]


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


def test_long_lists_of_pods_are_read_page_by_page() -> None:
    asked = []

    async def paged(request: web.Request) -> web.Response:
        asked.append((request.query["limit"], request.query.get("continue")))
        name, after = ("b", {}) if "continue" in request.query else ("a", {"continue": "on"})
        return web.json_response({"metadata": after, "items": [{"metadata": {"name": name}}]})

    async def names(client: KubeClient) -> list[str]:
        return [pod.name for pod in await client.list_pods("app=worker")]

    assert ask(paged, names) == ["a", "b"]
    assert asked == [("500", None), ("500", "on")]


@pytest.mark.parametrize(
    ("scaled_object", "scale"),
    [
        ({"spec": {"maxReplicaCount": 3}}, Scale(2, 3)),
        # KEDA's default.
        ({"spec": {}}, Scale(2, 100)),
        (None, Scale(2, None)),
    ],
)
def test_the_scale_of_a_deployment_has_the_maximum_of_its_scaled_object(
    scaled_object: Json | None, scale: Scale
) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/apis/apps/v1/namespaces/video/deployments/anb-worker":
            return web.json_response({"metadata": {}, "spec": {"replicas": 2, "selector": {}, "template": {}}})
        assert request.path == "/apis/keda.sh/v1alpha1/namespaces/video/scaledobjects/anb-worker"
        if scaled_object is None:
            return web.json_response({"reason": "NotFound"}, status=404)
        return web.json_response(scaled_object)

    assert ask(answer, lambda client: client.get_scale("anb-worker")) == scale


def test_a_write_names_the_uid_of_the_object_that_was_read() -> None:
    bodies: list[Json] = []

    async def answer(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        return web.json_response(item("a"))

    async def writes(client: KubeClient) -> None:
        videojob = VideoJob.read(item("a"))
        await client.set_finalizers(videojob, [])
        await client.set_label(videojob, "mine", None)
        await client.patch_status(videojob, {})
        await client.delete_videojob(videojob)

    ask(answer, writes)
    finalizers, label, status_of_it, deletion = bodies
    assert finalizers["metadata"]["resourceVersion"] == "1"
    assert label == {"metadata": {"uid": "a", "labels": {"mine": None}}}
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
