"""A whole operator whose database is away, or whose API server is, refuses to watch, or forgets what VideoJobs are."""

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
    """As much of one as the operator asks for. `away`: it can't serve.

    `known`: whether VideoJobs are by their own path; `discovered`: whether they are among what the server has.
    `watchable`: whether the operator's role lets it watch them. `mute`: its watches show nothing.
    `told`: the reasons of all Events.
    """

    def __init__(self) -> None:
        self.away = False
        self.known = True
        self.discovered = True
        self.watchable = True
        self.mute = False
        self.told: list[str] = []
        self.asked: Counter[str] = Counter()
        self.kept: dict[str, Json] = {}
        self._version = 10
        self._changes: list[Json] = []
        self.watching: set[asyncio.Queue[Json | None]] = set()

    def end_watches(self) -> None:
        for watch in self.watching:
            watch.put_nowait(None)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        watching = "watch" in request.query
        self.asked["WATCH" if watching else request.method] += 1
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
                return {"metadata": {"resourceVersion": str(self._version)}, "items": list(self.kept.values())}
            case "POST", path if path == VIDEOJOBS:
                return self.create(json.loads(body))
            case "PATCH", path:
                name = path.removeprefix(f"{VIDEOJOBS}/").removesuffix("/status")
                return self._changed(merged(self.kept[name], json.loads(body)), "MODIFIED")
            case "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":
                asked = json.loads(body)["spec"]["resourceAttributes"]
                assert asked == {"group": "anb.video", "resource": "videojobs", "verb": "watch", "namespace": "video"}
                return {"spec": {}, "status": {"allowed": self.watchable}}
        if method == "POST":
            # What else is posted are Events.
            self.told.append(json.loads(body)["reason"])
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
        """As a person does with `kubectl patch`."""
        generation = self.kept[name]["metadata"]["generation"] + 1
        self._changed(merged(self.kept[name], {"spec": spec, "metadata": {"generation": generation}}), "MODIFIED")

    def delete(self, name: str) -> None:
        """As `kubectl delete` did long ago; a finalizer holds it."""
        self._changed(merged(self.kept[name], {"metadata": {"deletionTimestamp": LONG_AGO}}), "MODIFIED")

    def _changed(self, kept: Json, kind: str) -> Json:
        # Of its own: what is still on its way to a watch must stay as it was.
        kept = copy.deepcopy(kept)
        metadata = kept["metadata"]
        self._version += 1
        metadata["resourceVersion"] = str(self._version)
        self.kept[metadata["name"]] = kept
        if "deletionTimestamp" in metadata and not metadata.get("finalizers"):
            kind = "DELETED"
            del self.kept[metadata["name"]]
        change = {"type": kind, "object": kept}
        self._changes.append(change)
        for watch in () if self.mute else self.watching:
            watch.put_nowait(change)
        return kept

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        changes: asyncio.Queue[Json | None] = asyncio.Queue()
        # What has happened since the list belongs to the watch, too.
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


class Beside:
    """An operator that runs, what it works with, and the lines of its log."""

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
        """Wait for it, as long as the operator runs."""
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
        """Whether readiness, or what else is at this path, fails for this reason."""
        try:
            status, text = await self.get(path)
        except aiohttp.ClientError:
            return False
        return status == 503 and sentence in text

    async def counts(self, line: str) -> bool:
        """Whether this is a line of the metrics."""
        return line in (await self.get("/metrics"))[1].splitlines()

    async def alive(self) -> bool:
        return (await self.get("/healthz"))[0] == 200

    async def mirrors(self) -> None:
        """A video that is uploaded now gets a VideoJob with a status; what a person asks for in one is done."""
        video_id = uploaded(self.store)
        await self.until(lambda: "status" in self.api.kept.get(video_id, {}))
        self.api.ask(video_id, {"cancel": True})
        await self.until(lambda: self.api.kept[video_id]["status"]["phase"] == "cancelled")


Scenario = Callable[[Beside], Awaitable[None]]
Run = Callable[[ApiServer, Scenario], list[Any]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the scenario beside an operator, end that by SIGTERM, and give the lines of its log."""
    # What is waited for in an outage is short here, and endless all the same.
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
            await scenario(Beside(api, store=store, objects=objects, logs=logs, url=url, running=running))
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


def test_an_api_server_that_is_away_at_the_start_is_named_and_waited_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anb_operator.health.FEED_PATIENCE", 1.0)
    api = ApiServer()
    api.away = True

    async def scenario(operator: Beside) -> None:
        await operator.until(lambda: operator.names("the kubernetes API does not answer"))
        # Twice as long as the feed may stay unread.
        await operator.until(lambda: api.asked["GET"] > 40)
        await operator.until(operator.alive)
        api.away = False
        await operator.until(operator.ready)
        await operator.mirrors()

    run(api, scenario)


def test_a_stop_is_obeyed_before_the_api_server_has_answered(run: Run) -> None:
    api = ApiServer()
    api.away = True

    async def scenario(operator: Beside) -> None:
        await operator.until(lambda: api.asked["GET"] > 2)

    run(api, scenario)


def test_however_often_the_watch_is_refused_it_is_asked_for_again(run: Run) -> None:
    api = ApiServer()

    async def scenario(operator: Beside) -> None:
        await operator.until(lambda: api.asked["WATCH"])
        api.away = True
        api.end_watches()
        await operator.until(lambda: api.asked["WATCH"] > 30)
        assert await operator.alive()
        api.away = False
        await operator.until(operator.ready)
        await operator.mirrors()

    logs = run(api, scenario)
    assert [line for line in logs if "watch" in line["event"]] == []


def test_whoever_may_not_watch_is_told_so_and_begins_once_he_may(run: Run) -> None:
    api = ApiServer()
    api.watchable = False

    async def scenario(operator: Beside) -> None:
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


def test_a_watch_that_fails_otherwise_is_begun_anew(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    api = ApiServer()
    killed: list[object] = []
    monkeypatch.setattr("signal.pthread_kill", lambda *told: killed.append(told))

    def impatient() -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.process.ultimate_exiting_timeout = 0.0
        return settings

    monkeypatch.setattr("anb_operator.watch.kopf", SimpleNamespace(**vars(kopf) | {"OperatorSettings": impatient}))

    async def scenario(operator: Beside) -> None:
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

    async def scenario(operator: Beside) -> None:
        await operator.until(lambda: operator.names("This cluster knows no VideoJobs: install the chart with"))
        await operator.until(lambda: api.asked["GET"] > 10)
        assert await operator.alive()
        # By its own path a new definition is known a little earlier than kopf finds it.
        api.known = True
        await operator.until(lambda: api.asked["GET"] > 30)
        assert api.asked["WATCH"] == 0
        api.discovered = True
        await operator.until(operator.ready)
        await operator.mirrors()

    logs = run(api, scenario)
    assert [line["reason"][:30] for line in logs if line["event"] == "waiting for VideoJobs"] == [
        "This cluster knows no VideoJob"
    ]


def test_videojobs_that_are_forgotten_under_the_operator_are_waited_for_and_made_again(run: Run) -> None:
    api = ApiServer()

    async def scenario(operator: Beside) -> None:
        await operator.mirrors()
        video_id = uploaded(operator.store)
        await operator.until(lambda: "status" in api.kept.get(video_id, {}))
        api.known = False
        api.kept.clear()
        api.end_watches()
        await operator.until(lambda: operator.names("This cluster knows no VideoJobs"))
        assert await operator.alive()
        api.known = True
        await operator.until(operator.ready)
        await operator.until(lambda: "status" in api.kept.get(video_id, {}))
        await operator.mirrors()

    logs = run(api, scenario)
    assert not any("exc_info" in line for line in logs)


def test_a_mirror_that_is_deleted_while_its_video_is_unfinished_comes_back(run: Run) -> None:
    api = ApiServer()

    async def scenario(operator: Beside) -> None:
        await operator.until(lambda: api.asked["WATCH"])
        video_id = uploaded(operator.store)
        await operator.until(lambda: "status" in api.kept.get(video_id, {}))
        api.delete(video_id)
        await operator.until(lambda: "status" in api.kept.get(video_id, {}))

    run(api, scenario)


def test_what_was_written_has_to_be_shown_by_the_watch_but_not_while_the_api_server_is_away(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anb_operator.health.WATCH_PATIENCE", 0.5)
    api = ApiServer()

    async def scenario(operator: Beside) -> None:
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

    async def scenario(operator: Beside) -> None:
        operator.objects.put("mobile/clip.mp4", b"a video")
        api.create({"metadata": {"name": "clip"}, "spec": {"source": {"key": "mobile/clip.mp4"}}})
        await operator.until(lambda: api.kept["clip"].get("status", {}).get("phase") == "uploaded")
        operator.store.fault = Unavailable("database", "away")
        # From here on nothing is looked at but what is urgent.
        await operator.until(lambda: any(line.get("what") == "feed" for line in operator.logs))
        api.delete("clip")
        assert "clip" in api.kept
        await operator.until(lambda: "clip" not in api.kept)
        assert api.told[-1] == "NotCancelled"

    run(api, scenario)


def test_metrics_show_what_was_done(run: Run) -> None:
    shown: dict[str, str] = {}

    async def scenario(operator: Beside) -> None:
        await operator.mirrors()
        # Its turn is counted after what it has written.
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


def test_the_pauses_between_requests_never_end_and_begin_anew_for_each() -> None:
    backoffs = Backoffs()
    for _ in range(2):
        pauses = [pause for pause, _ in zip(backoffs, range(100), strict=False)]
        assert pauses[:3] == [1.0, 1.0, 2.0]
        assert pauses[-1] == max(pauses) == 10.0
