"""Test that messages which a real queue moves to its dead-letter queue are recorded in PostgreSQL and announced."""

from contextlib import closing
from datetime import timedelta

import boto3
import pytest
from prometheus_client import CollectorRegistry

from anb_core.adapters.system import SystemRuntime
from anb_core.bootstrap import make_dead_letter_loops, open_dead_letter_queue
from anb_core.domain.dead_letters import DeadLetter, DeadLetterFilter, Resolution
from anb_core.domain.model import DeadLetterCause
from anb_core.ports.queue import Outgoing
from anb_core.settings.capabilities import DeadLetterQueueSettings, RetrySettings
from anb_core.settings.loading import load
from anb_core.telemetry import DeadLetterMetrics
from anb_core.testing.alerts import InMemoryAlerts
from anb_core.usecases.background import background
from anb_core.usecases.relay import Relay
from tests.support import eventually
from tests.support.aws import receive_too_often
from tests.support.given import due, record_of, uploaded
from tests.support.parts import opened_parts


@pytest.mark.parametrize("name", ["anb-dead-letters", "anb-dead-letters.fifo"], ids=["standard", "fifo"])
def test_messages_that_the_queue_moved_are_recorded_counted_and_announced(
    postgres_url: str, ministack_url: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("anb_core.usecases.announce_dead_letters.INTERVAL", timedelta(milliseconds=50))
    for variable, value in {
        "DATABASE_URL": postgres_url,
        "S3_BUCKET": "anb-dead-letters",
        "SQS_QUEUE_URL": f"{ministack_url}/000000000000/{name}",
        "AWS_ENDPOINT_URL": ministack_url,
        "AWS_REGION": "us-east-1",
        "ANB_CREATE_RESOURCES": "true",
    }.items():
        monkeypatch.setenv(variable, value)
    runtime, alerts, registry = SystemRuntime(), InMemoryAlerts(), CollectorRegistry()
    queue = open_dead_letter_queue(load(DeadLetterQueueSettings), patience=timedelta(seconds=20))
    assert queue is not None
    with opened_parts() as parts, closing(queue):
        store = parts.store
        video_id = uploaded(store)
        relay = Relay(store, parts.queue, bucket=parts.objects.bucket, runtime=runtime)
        assert relay.send_due().sent == 1
        parts.queue.send([Outgoing("nobody can read this", group="g", owner="ada", deduplication="d")])
        with closing(boto3.session.Session().client("sqs")) as sqs:
            receive_too_often(sqs, name)
        assert parts.queue.depth().empty

        metrics = DeadLetterMetrics(store, registry)
        handling = make_dead_letter_loops(load(RetrySettings), store, queue, alerts, metrics=metrics, runtime=runtime)
        with background(runtime, handling.loops, wake=lambda: None):

            def recorded() -> dict[str | None, DeadLetter] | None:
                found = store.dead_letters(DeadLetterFilter(state="all"))
                return {letter.video_id: letter for letter in found} if len(found) == 2 else None

            letters = eventually(recorded)
            eventually(lambda: alerts.published)
            eventually(lambda: queue.depth().empty)

        assert letters is not None
        moved, unreadable = letters[video_id], letters[None]
        assert (moved.resolution, moved.lost, moved.open) == (Resolution.REQUEUED, 1, False)
        assert moved.body is not None
        assert video_id in moved.body
        assert record_of(store, video_id).job.counters.lost == 1
        assert due(store) == [video_id]
        assert relay.send_due().sent == 1
        assert parts.queue.depth().visible == 1, "a FIFO queue drops a message that it has seen before"
        assert (unreadable.cause, unreadable.open) == (DeadLetterCause.UNREADABLE, True)
        assert unreadable.body == "nobody can read this"
        [(subject, text)] = alerts.published
        assert subject == "ANB Video: 1 message in the dead letters, cause unreadable"
        assert f"{unreadable.id}: message {unreadable.message_id}: the body is not JSON" in text
        counted = ("anb_dead_letters_total", "anb_dead_letters_open")
        assert [registry.get_sample_value(name, {"cause": "unreadable"}) for name in counted] == [1, 1]
        assert registry.get_sample_value("anb_dead_letter_messages_total", {"outcome": "requeued"}) == 1
