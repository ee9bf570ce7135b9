"""Tests of a complete operator whose watch is refused, fails, or sends no changes."""

from types import SimpleNamespace

import kopf
import pytest
from kubernetes.aio.client import Configuration

from anb_core.domain.errors import Unavailable
from anb_operator.connection import log_in
from anb_operator.watch import Backoffs
from tests.integration.operator.conftest import Run, RunningOperator
from tests.support.fake_api_server import ApiServer
from tests.support.given import uploaded


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


def test_a_watch_through_the_proxy_of_a_kubeconfig_whose_login_fails_for_a_moment_begins_soon_after(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = ApiServer()
    api.behind_proxy = True
    failures = [Unavailable("kubernetes", "The ServiceAccount of this pod can't be read: no token")] * 2

    async def flaky() -> Configuration:
        if failures:
            raise failures.pop()
        return await log_in()

    monkeypatch.setattr("anb_operator.watch.log_in", flaky)
    logs = run(api, RunningOperator.mirrors)
    assert api.requests["WATCH"]
    assert not failures
    assert not any("exc_info" in line for line in logs)


def test_the_series_of_pauses_between_requests_never_ends_and_starts_again_for_each_request() -> None:
    backoffs = Backoffs()
    for _ in range(2):
        pauses = [pause for pause, _ in zip(backoffs, range(100), strict=False)]
        assert pauses[:3] == [1.0, 1.0, 2.0]
        assert pauses[-1] == max(pauses) == 10.0
