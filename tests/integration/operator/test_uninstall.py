"""Tests of the uninstall command, which removes the operator's finalizer from all VideoJobs."""

from collections.abc import Sequence

import pytest
from aiohttp import web

from anb_operator.kube import KubeRefused
from anb_operator.settings import UninstallSettings
from anb_operator.uninstall import uninstall
from anb_operator.videojob import FINALIZER
from tests.integration.operator.asking import ask, unreadable


class Uninstalled:
    """A fake API server with two VideoJobs. `pods` has the names of the operator's pods.

    If `stubborn` is true, requests to remove a finalizer change nothing.
    """

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
