"""Tests of a whole operator that lacks its database, the API server, the right to watch, or the CRD."""

import asyncio
import copy
import json
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import kopf
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from anb_core.domain.errors import Unavailable
from anb_core.settings.loading import load
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.store import InMemoryStore
from anb_operator import app
from anb_operator.settings import OperatorSettings
from anb_operator.watch import Backoffs
from tests.support.given import uploaded
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


DISCOVERY: dict[str, Json] = {
    "/api": {"versions": ["v1"]},
    "/api/v1": {"resources": [resource("namespaces", "Namespace", namespaced=False)]},
    f"/apis/{CRDS}": {
        "resources": [resource("customresourcedefinitions", "CustomResourceDefinition", namespaced=False)]
    },
    GROUP: {"resources": [resource("videojobs", "VideoJob", namespaced=True)]},
}


class ApiServer:
    """A fake of the part of an API server that the operator uses.

    If `away`, the server answers every request with 503. If `known`, VideoJobs can be read by their path.
    If `discovered`, API discovery lists VideoJobs. If `watchable`, the operator's role allows watching VideoJobs.
    If `mute`, watches send no changes. `event_reasons` lists the reasons of all posted Events.
    `requests` counts the requests by method. A watch counts as the method WATCH. `videojobs` has the VideoJobs by name.
    """

    def __init__(self) -> None:
        self.away = False
        self.known = True
        self.discovered = True
        self.watchable = True
        self.mute = False
        self.event_reasons: list[str] = []
        self.requests: Counter[str] = Counter()
        self.videojobs: dict[str, Json] = {}
        self._version = 10
        self._changes: list[Json] = []
        self.watching: set[asyncio.Queue[Json | None]] = set()

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
            # All POST requests that were not matched above create an Event.
            self.event_reasons.append(json.loads(body)["reason"])
        answer: Json = DISCOVERY[path] if method == "GET" else json.loads(body)
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
        """Request a VideoJob's deletion, as `kubectl delete` does. The VideoJob exists until it has no finalizers."""
        self._changed(merged(self.videojobs[name], {"metadata": {"deletionTimestamp": LONG_AGO}}), "MODIFIED")

    def _changed(self, videojob: Json, kind: str) -> Json:
        # Copy the VideoJob, because an object that is queued for a watch must not change later.
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
        # Send the changes that are newer than the resource version in the client's request.
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


class RunningOperator:
    """A running operator, its fake database and API server, and the lines of its log."""

    def __init__(
        self,
        api: ApiServer,
        *,
        store: InMemoryStore,
        objects: InMemoryObjects,
        logs: list[Any],
        url: str,
        running: asyncio.Task[None],
    ) -> None:
        self.api = api
        self.store = store
        self.objects = objects
        self.logs = logs
        self._url = url
        self._running = running

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"{self._url}{path}") as answer:
            return answer.status, await answer.text()

    async def until(self, condition: Callable[[], Awaitable[object] | object]) -> None:
        """Wait until the condition is true. Fails if the operator ends, or after 60 s."""
        async with asyncio.timeout(60):
            while True:
                if self._running.done():
                    self._running.result()
                    raise AssertionError("the operator ended")
                value = condition()
                if await value if isinstance(value, Awaitable) else value:
                    return
                await asyncio.sleep(0.02)

    async def ready(self) -> bool:
        try:
            return (await self.get("/readyz"))[0] == 200
        except aiohttp.ClientError:
            return False

    async def names(self, sentence: str, path: str = "/readyz") -> bool:
        """Return whether the check at `path`, by default the readiness check, fails with the given sentence."""
        try:
            status, text = await self.get(path)
        except aiohttp.ClientError:
            return False
        return status == 503 and sentence in text

    async def counts(self, line: str) -> bool:
        """Return whether the metrics contain the given line."""
        return line in (await self.get("/metrics"))[1].splitlines()

    async def alive(self) -> bool:
        return (await self.get("/healthz"))[0] == 200

    async def mirrors(self) -> None:
        """Check that a new video gets a VideoJob with a status, and that `cancel` in its spec cancels the video."""
        video_id = uploaded(self.store)
        await self.until(lambda: "status" in self.api.videojobs.get(video_id, {}))
        self.api.ask(video_id, {"cancel": True})
        await self.until(lambda: self.api.videojobs[video_id]["status"]["phase"] == "cancelled")


Scenario = Callable[[RunningOperator], Awaitable[None]]
Run = Callable[[ApiServer, Scenario], list[Any]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A function that runs a scenario with an operator, stops the operator by SIGTERM, and returns its log lines."""
    # Shorten the pauses between retries, to keep the tests fast. The number of retries stays unlimited.
    for module in ("resync", "watch"):
        monkeypatch.setattr(f"anb_operator.{module}.PAUSE_SECONDS", 0.05)
    monkeypatch.setattr("anb_operator.watch.Backoffs.__iter__", lambda _: repeat(0.02))

    async def both(api: ApiServer, scenario: Scenario, logs: list[Any]) -> None:
        served = web.Application()
        served.router.add_route("*", "/{path:.*}", api.answer)
        runner = web.AppRunner(served, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        kubeconfig = {
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
            "users": [{"name": "test", "user": {"token": "token"}}],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(kubeconfig), encoding="utf-8")
        environment = {
            "KUBECONFIG": str(path),
            "DATABASE_URL": "postgresql://anb@db/anb",
            "S3_BUCKET": "videos",
            "ANB_SOURCE_PREFIXES": "mobile/",
            "ANB_OPERATOR_NAMESPACE": "video",
            "ANB_OPERATOR_LISTEN": f"127.0.0.1:{free_port()}",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        settings = load(OperatorSettings)
        store, objects = InMemoryStore(lambda: datetime.now(UTC)), InMemoryObjects()
        running = asyncio.create_task(app.run(settings, store, objects))
        try:
            url = f"http://{settings.listen}"
            await scenario(RunningOperator(api, store=store, objects=objects, logs=logs, url=url, running=running))
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(60):
                await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await runner.cleanup()

    def ran(api: ApiServer, scenario: Scenario) -> list[Any]:
        with capture_logs() as logs:
            asyncio.run(both(api, scenario, logs))
        return logs

    return ran


def test_an_outage_of_the_api_server_at_the_start_is_named_and_waited_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anb_operator.health.FEED_PATIENCE", 1.0)
    api = ApiServer()
    api.away = True

    async def scenario(operator: RunningOperator) -> None:
        await operator.until(lambda: operator.names("the kubernetes API does not answer"))
        # Wait longer than FEED_PATIENCE, after which an operator that does not read the feed is unhealthy.
        await operator.until(lambda: api.requests["GET"] > 40)
        await operator.until(operator.alive)
        api.away = False
        await operator.until(operator.ready)
        await operator.mirrors()

    run(api, scenario)


def test_a_stop_is_obeyed_before_the_api_server_has_answered(run: Run) -> None:
    api = ApiServer()
    api.away = True

    async def scenario(operator: RunningOperator) -> None:
        await operator.until(lambda: api.requests["GET"] > 2)

    run(api, scenario)


def test_however_often_the_watch_is_refused_it_is_retried(run: Run) -> None:
    api = ApiServer()

    async def scenario(operator: RunningOperator) -> None:
        await operator.until(lambda: api.requests["WATCH"])
        api.away = True
        api.end_watches()
        await operator.until(lambda: api.requests["WATCH"] > 30)
        assert await operator.alive()
        api.away = False
        await operator.until(operator.ready)
        await operator.mirrors()

    logs = run(api, scenario)
    assert [line for line in logs if "watch" in line["event"]] == []


def test_an_operator_that_may_not_watch_says_so_and_starts_once_it_may(run: Run) -> None:
    api = ApiServer()
    api.watchable = False

    async def scenario(operator: RunningOperator) -> None:
        await operator.until(lambda: operator.names("may not watch videojobs.anb.video in namespace video"))
        assert await operator.alive()
        api.watchable = True
        await operator.until(operator.ready)
        await operator.mirrors()
        api.watchable = False
        api.end_watches()
        await operator.until(lambda: operator.names("may not watch videojobs.anb.video in namespace video"))
        api.watchable = True
        await operator.until(operator.ready)
        await operator.mirrors()

    logs = run(api, scenario)
    assert len([line for line in logs if line["event"] == "waiting for VideoJobs"]) == 1


def test_a_watch_that_fails_for_another_reason_is_started_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    api = ApiServer()
    killed: list[object] = []
    monkeypatch.setattr("signal.pthread_kill", lambda *arguments: killed.append(arguments))

    def impatient() -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.process.ultimate_exiting_timeout = 0.0
        return settings

    monkeypatch.setattr("anb_operator.watch.kopf", SimpleNamespace(**vars(kopf) | {"OperatorSettings": impatient}))

    async def scenario(operator: RunningOperator) -> None:
        await operator.mirrors()
        watch = next(iter(api.watching))
        watch.put_nowait({"type": "ERROR", "object": {"code": 500, "message": "etcdserver: leader changed"}})
        await operator.until(lambda: watch not in api.watching and api.watching)
        await operator.mirrors()

    logs = run(api, scenario)
    (line,) = [line for line in logs if line["event"] == "the watch ended, and begins anew"]
    assert "etcdserver: leader changed" in line["reason"]
    assert killed == []
    assert not any("exc_info" in line for line in logs)


def test_a_cluster_without_videojobs_is_waited_for(run: Run) -> None:
    api = ApiServer()
    api.known = api.discovered = False

    async def scenario(operator: RunningOperator) -> None:
        await operator.until(lambda: operator.names("This cluster knows no VideoJobs: install the chart with"))
        await operator.until(lambda: api.requests["GET"] > 10)
        assert await operator.alive()
        # A client can read a new CRD by its path a little earlier than kopf discovers the CRD.
        api.known = True
        await operator.until(lambda: api.requests["GET"] > 30)
        assert api.requests["WATCH"] == 0
        api.discovered = True
        await operator.until(operator.ready)
        await operator.mirrors()

    logs = run(api, scenario)
    assert [line["reason"][:30] for line in logs if line["event"] == "waiting for VideoJobs"] == [
        "This cluster knows no VideoJob"
    ]


def test_after_the_crd_was_deleted_the_operator_waits_for_it_and_makes_the_mirrors_again(run: Run) -> None:
    api = ApiServer()

    async def scenario(operator: RunningOperator) -> None:
        await operator.mirrors()
        video_id = uploaded(operator.store)
        await operator.until(lambda: "status" in api.videojobs.get(video_id, {}))
        api.known = False
        api.videojobs.clear()
        api.end_watches()
        await operator.until(lambda: operator.names("This cluster knows no VideoJobs"))
        assert await operator.alive()
        api.known = True
        await operator.until(operator.ready)
        await operator.until(lambda: "status" in api.videojobs.get(video_id, {}))
        await operator.mirrors()

    logs = run(api, scenario)
    assert not any("exc_info" in line for line in logs)


def test_a_mirror_that_is_deleted_while_its_video_is_unfinished_comes_back(run: Run) -> None:
    api = ApiServer()

    async def scenario(operator: RunningOperator) -> None:
        await operator.until(lambda: api.requests["WATCH"])
        video_id = uploaded(operator.store)
        await operator.until(lambda: "status" in api.videojobs.get(video_id, {}))
        api.delete(video_id)
        await operator.until(lambda: "status" in api.videojobs.get(video_id, {}))

    run(api, scenario)


def test_a_write_that_the_watch_does_not_show_fails_liveness_but_not_while_the_api_server_is_away(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anb_operator.health.WATCH_PATIENCE", 0.5)
    api = ApiServer()

    async def scenario(operator: RunningOperator) -> None:
        async def spared() -> bool:
            return await operator.names("the kubernetes API does not answer") and await operator.alive()

        await operator.mirrors()
        api.mute = True
        uploaded(operator.store)
        await operator.until(lambda: operator.names("the watch has not shown what was written", "/healthz"))
        api.away = True
        await operator.until(spared)
        api.away = api.mute = False
        api.end_watches()
        await operator.until(operator.ready)
        await operator.until(operator.alive)
        await operator.mirrors()

    run(api, scenario)


def test_a_deletion_does_not_wait_for_a_database_that_is_away_for_long(run: Run) -> None:
    api = ApiServer()

    async def scenario(operator: RunningOperator) -> None:
        operator.objects.put("mobile/clip.mp4", b"a video")
        api.create({"metadata": {"name": "clip"}, "spec": {"source": {"key": "mobile/clip.mp4"}}})
        await operator.until(lambda: api.videojobs["clip"].get("status", {}).get("phase") == "uploaded")
        operator.store.fault = Unavailable("database", "away")
        # After this log line, the operator handles only urgent VideoJobs.
        await operator.until(lambda: any(line.get("what") == "feed" for line in operator.logs))
        api.delete("clip")
        assert "clip" in api.videojobs
        await operator.until(lambda: "clip" not in api.videojobs)
        assert api.event_reasons[-1] == "NotCancelled"

    run(api, scenario)


def test_metrics_count_mirrors_commands_and_requests(run: Run) -> None:
    shown: dict[str, str] = {}

    async def scenario(operator: RunningOperator) -> None:
        await operator.mirrors()
        # Wait for the metric, because the operator updates the metric only after it has written to Kubernetes.
        await operator.until(lambda: operator.counts("anb_operator_feed_unanswered_events 0.0"))
        _, text = await operator.get("/metrics")
        for line in text.splitlines():
            name, _, value = line.rpartition(" ")
            if not line.startswith("#"):
                shown[name] = value

    run(ApiServer(), scenario)
    assert float(shown["anb_operator_mirror_seconds_count"]) > 0
    assert shown['anb_operator_commands_total{command="cancel",outcome="done"}'] == "1.0"
    assert float(shown['anb_operator_api_requests_total{code="200",verb="PATCH"}']) > 0
    assert shown["anb_operator_videojobs"] == "1.0"
    assert shown["anb_operator_videos_failing"] == "0.0"


def test_the_series_of_pauses_between_requests_never_ends_and_starts_again_for_each_request() -> None:
    backoffs = Backoffs()
    for _ in range(2):
        pauses = [pause for pause, _ in zip(backoffs, range(100), strict=False)]
        assert pauses[:3] == [1.0, 1.0, 2.0]
        assert pauses[-1] == max(pauses) == 10.0
