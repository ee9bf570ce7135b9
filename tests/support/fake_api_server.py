"""A fake Kubernetes API server for the requests of the operator. Tests can make the server fail in several ways."""

import asyncio
import copy
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.kube import merged
from tests.support.tether import free_port

Json = dict[str, Any]


GROUP = "/apis/anb.video/v1alpha1"
VIDEOJOBS = f"{GROUP}/namespaces/video/videojobs"
CRDS = "apiextensions.k8s.io/v1"

LONG_AGO = "2026-01-01T00:00:00Z"


def resource(plural: str, kind: str, *, namespaced: bool) -> Json:
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    return {"name": plural, "singularName": kind.lower(), "namespaced": namespaced, "kind": kind, "verbs": verbs}


def group(name: str, version: str) -> Json:
    served = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [served], "preferredVersion": served}


GETS: dict[str, Json] = {
    "/apis/apps/v1/namespaces/video/deployments/anb-operator": {
        "metadata": {"name": "anb-operator", "uid": "uid-of-the-deployment"},
        "spec": {"selector": {}, "template": {}},
    },
    "/apis/apps/v1/namespaces/video/deployments/anb-worker": {
        "metadata": {"name": "anb-worker"},
        "spec": {"replicas": 2, "selector": {}, "template": {}},
    },
    "/apis/keda.sh/v1alpha1/namespaces/video/scaledobjects/anb-worker": {"spec": {"maxReplicaCount": 3}},
    "/api": {"versions": ["v1"]},
    "/api/v1": {"resources": [resource("namespaces", "Namespace", namespaced=False)]},
    f"/apis/{CRDS}": {
        "resources": [resource("customresourcedefinitions", "CustomResourceDefinition", namespaced=False)]
    },
    GROUP: {"resources": [resource("videojobs", "VideoJob", namespaced=True)]},
}


class ApiServer:
    """A fake Kubernetes API server for the requests of the operator.

    If `away` is true, every response has status 503. If `known` is false, requests for VideoJobs get status 404.
    If `discovered` is true, API discovery lists VideoJobs. If `watchable` is true, the operator may watch VideoJobs.
    If `behind_proxy` is true, the server's host name can't be resolved, so clients must use the `proxy-url`.
    If `mute` is true, watches send no changes. `events` lists all posted Kubernetes Events.
    `requests` counts the requests by HTTP method. Watches are counted as WATCH. `videojobs` maps names to VideoJobs.
    """

    def __init__(self) -> None:
        self.away = False
        self.known = True
        self.discovered = True
        self.watchable = True
        self.mute = False
        self.behind_proxy = False
        self.events: list[Json] = []
        self.requests: Counter[str] = Counter()
        self.videojobs: dict[str, Json] = {}
        self._version = 10
        self._changes: list[Json] = []
        self.watching: set[asyncio.Queue[Json | None]] = set()

    def cluster(self, url: str) -> Json:
        """Return the server's entry in a kubeconfig. `url` is the server's address."""
        return {"server": "http://kubernetes.invalid", "proxy-url": url} if self.behind_proxy else {"server": url}

    def end_watches(self) -> None:
        for watch in self.watching:
            watch.put_nowait(None)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        watching = "watch" in request.query
        self.requests["WATCH" if watching else request.method] += 1
        if self.away:
            return web.json_response({"message": "the server can't serve now"}, status=503)
        if request.path.startswith(GROUP) and not self.known:
            return web.Response(text="404 page not found\n", status=404)
        if watching and not self.watchable:
            return web.json_response({"kind": "Status", "message": "videojobs is forbidden"}, status=403)
        if watching:
            return await self._watch(request)
        answer = self._answered(request.method, request.path, await request.text())
        return web.json_response(answer, status=201 if request.method == "POST" else 200)

    def _answered(self, method: str, path: str, body: str) -> Json:
        match method, path:
            case "GET", "/apis" | "/apis/":
                ours = [group("anb.video", "v1alpha1")] if self.discovered else []
                return {"groups": [group(*CRDS.split("/")), *ours]}
            case "GET", path if path == VIDEOJOBS:
                return {"metadata": {"resourceVersion": str(self._version)}, "items": list(self.videojobs.values())}
            case "POST", path if path == VIDEOJOBS:
                return self.create(json.loads(body))
            case "PATCH", path:
                name = path.removeprefix(f"{VIDEOJOBS}/").removesuffix("/status")
                return self._changed(merged(self.videojobs[name], json.loads(body)), "MODIFIED")
            case "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":
                asked = json.loads(body)["spec"]["resourceAttributes"]
                assert asked == {"group": "anb.video", "resource": "videojobs", "verb": "watch", "namespace": "video"}
                return {"spec": {}, "status": {"allowed": self.watchable}}
        if method == "POST":
            # Every other POST request creates a Kubernetes Event.
            self.events.append(json.loads(body))
        answer: Json = GETS[path] if method == "GET" else json.loads(body)
        return answer

    def create(self, body: Json) -> Json:
        name = body["metadata"]["name"]
        body["metadata"] |= {
            "uid": f"uid-of-{name}",
            "namespace": "video",
            "generation": 1,
            "creationTimestamp": LONG_AGO,
        }
        return self._changed(body, "ADDED")

    def ask(self, name: str, spec: Json) -> None:
        """Change a VideoJob's spec, as `kubectl patch` does."""
        generation = self.videojobs[name]["metadata"]["generation"] + 1
        self._changed(merged(self.videojobs[name], {"spec": spec, "metadata": {"generation": generation}}), "MODIFIED")

    def delete(self, name: str) -> None:
        """Request a VideoJob's deletion, as `kubectl delete` does. A VideoJob with finalizers is not deleted yet."""
        self._changed(merged(self.videojobs[name], {"metadata": {"deletionTimestamp": LONG_AGO}}), "MODIFIED")

    def _changed(self, videojob: Json, kind: str) -> Json:
        # Copy the VideoJob, because later changes must not change an object that is queued for a watch.
        videojob = copy.deepcopy(videojob)
        metadata = videojob["metadata"]
        self._version += 1
        metadata["resourceVersion"] = str(self._version)
        self.videojobs[metadata["name"]] = videojob
        if "deletionTimestamp" in metadata and not metadata.get("finalizers"):
            kind = "DELETED"
            del self.videojobs[metadata["name"]]
        change = {"type": kind, "object": videojob}
        self._changes.append(change)
        for watch in () if self.mute else self.watching:
            watch.put_nowait(change)
        return videojob

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        changes: asyncio.Queue[Json | None] = asyncio.Queue()
        # First send the changes that are newer than the resource version in the client's request.
        for before in self._changes:
            if int(before["object"]["metadata"]["resourceVersion"]) > int(request.query["resourceVersion"]):
                changes.put_nowait(before)
        self.watching.add(changes)
        try:
            while (change := await changes.get()) is not None:
                await response.write(json.dumps(change).encode() + b"\n")
        finally:
            self.watching.remove(changes)
        return response


def kubeconfig(api: ApiServer, port: int) -> dict[str, Any]:
    """Return a kubeconfig for the fake API server."""
    return {
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": api.cluster(f"http://127.0.0.1:{port}")}],
        "users": [{"name": "test", "user": {"token": "token"}}],
    }


@asynccontextmanager
async def serving_cluster(api: ApiServer, folder: Path) -> AsyncIterator[dict[str, str]]:
    """Serve the fake API server on a free port. Yields the environment variables that an operator needs to use it."""
    served = web.Application()
    served.router.add_route("*", "/{path:.*}", api.answer)
    runner = web.AppRunner(served, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    path = folder / "kubeconfig"
    path.write_text(json.dumps(kubeconfig(api, runner.addresses[0][1])), encoding="utf-8")
    try:
        yield {"KUBECONFIG": str(path), "ANB_OPERATOR_LISTEN": f"127.0.0.1:{free_port()}"}
    finally:
        await runner.cleanup()
