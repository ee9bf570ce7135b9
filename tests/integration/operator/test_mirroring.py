"""Tests of mirrors, Events and metrics with a complete operator."""

import pytest

from anb_core.domain.model import DeadLetterCause
from tests.integration.operator.conftest import Run, RunningOperator
from tests.support.fake_api_server import ApiServer
from tests.support.given import SECOND, uploaded


def test_a_deleted_mirror_comes_back_and_a_message_without_a_video_is_an_event_on_the_deployment(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anb_core.usecases.announce_dead_letters.INTERVAL", 0.05 * SECOND)
    api = ApiServer()

    async def scenario(operator: RunningOperator) -> None:
        await operator.until(lambda: api.requests["WATCH"])
        video_id = uploaded(operator.store)
        await operator.until(lambda: "status" in api.videojobs.get(video_id, {}))
        api.delete(video_id)
        await operator.until(lambda: "status" in api.videojobs.get(video_id, {}))
        operator.store.record_dead_letter(
            cause=DeadLetterCause.UNREADABLE, message_id="m", body="?", detail="the body is not JSON"
        )
        await operator.until(lambda: api.events)
        [event] = api.events
        assert event["involvedObject"]["kind"] == "Deployment"
        assert event["involvedObject"]["uid"] == "uid-of-the-deployment"
        assert (event["type"], event["reason"]) == ("Warning", "UnreadableMessage")

    run(api, scenario)


def test_metrics_count_mirrors_commands_and_requests(run: Run) -> None:
    shown: dict[str, str] = {}

    async def scenario(operator: RunningOperator) -> None:
        await operator.mirrors()
        # Wait for the metric, because the operator updates the metric only after the write to Kubernetes.
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
