"""Tests of a complete operator while its database or the Kubernetes API server is unavailable."""

from datetime import timedelta

import pytest

from anb_core.domain.errors import Unavailable
from tests.integration.operator.conftest import Run, RunningOperator
from tests.support.fake_api_server import ApiServer


def test_an_outage_of_the_api_server_at_the_start_is_named_and_waited_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anb_operator.health.FEED_PATIENCE", 1.0)
    api = ApiServer()
    api.away = True

    async def scenario(operator: RunningOperator) -> None:
        await operator.until(lambda: operator.names("the kubernetes API does not answer"))
        # Wait longer than FEED_PATIENCE. The operator must stay alive, although it can't read the feed in the outage.
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


def test_a_deletion_does_not_wait_for_a_database_that_is_away_for_long(run: Run) -> None:
    api = ApiServer()

    async def scenario(operator: RunningOperator) -> None:
        operator.objects.put("mobile/clip.mp4", b"a video")
        api.create({"metadata": {"name": "clip"}, "spec": {"source": {"key": "mobile/clip.mp4"}}})
        await operator.until(lambda: api.videojobs["clip"].get("status", {}).get("phase") == "uploaded")
        operator.store.fault = Unavailable("database", "away")
        # Wait for a log line about the feed. After such a line, the operator handles only urgent VideoJobs.
        await operator.until(lambda: any(line.get("what") == "feed" for line in operator.logs))
        api.delete("clip")
        assert "clip" in api.videojobs
        await operator.until(lambda: "clip" not in api.videojobs)
        assert api.events[-1]["reason"] == "NotCancelled"

    run(api, scenario)


def test_a_forbidden_dead_letter_queue_is_named_and_everything_else_works_until_its_messages_are_handled(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anb_core.usecases.gate.plan_wait", lambda *_: timedelta(milliseconds=20))

    async def scenario(operator: RunningOperator) -> None:
        operator.dead_letter_queue.fault = Unavailable("queue", "AccessDenied")
        note = "not required: the dead-letter queue (SQS_DLQ_URL) does not answer, so its messages wait"

        async def shows(*lines: str) -> bool:
            return await operator.ready() and (await operator.get("/readyz"))[1].splitlines() == [*lines]

        await operator.until(lambda: shows("ok", note))
        assert await operator.alive()
        await operator.mirrors()
        operator.dead_letter_queue.fault = None
        operator.dead_letter_queue.put("nobody can read this")
        counted = 'anb_dead_letter_messages_total{outcome="unreadable"} 1.0'
        await operator.until(lambda: operator.counts(counted))
        await operator.until(lambda: shows("ok"))

    run(ApiServer(), scenario)
