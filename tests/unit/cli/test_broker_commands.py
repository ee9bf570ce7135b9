from typing import Any

import pytest

from anb_api.brokers import Broker, Brokers
from anb_cli.broker_commands import describe
from anb_cli.dead_letter_answers import broker_overview_of
from anb_cli.errors import NotOurs
from tests.support.queue_states import a_queue_state


def an_old_queue(**changes: Any) -> dict[str, Any]:
    """Return the state of an empty old queue. Keyword arguments replace fields."""
    nothing: dict[str, Any] = {"waiting": 0, "in_flight": None, "consumers": 0, "jobs_waiting": 0, "jobs_running": 0}
    off: dict[str, Any] = {"oldest_seconds": None, "may_be_switched_off": True, "reasons": []}
    named = {"name": "amqp://rabbitmq:5672/#celery", "kind": "celery", "role": "old"}
    return a_queue_state(**(nothing | off | named | changes))


def test_the_example_of_the_tests_is_a_response_of_the_api() -> None:
    example = {"brokers": [a_queue_state(), an_old_queue()], "unsent": 2}
    assert Brokers.model_validate(example).model_dump(mode="json") == example
    assert Broker.model_fields.keys() == a_queue_state().keys()


def test_each_queue_is_described_with_the_reasons_why_it_is_needed() -> None:
    assert list(describe({"brokers": [a_queue_state(), an_old_queue()], "unsent": 2})) == [
        "The current queue, on SQS: https://sqs.us-east-1.amazonaws.com/123456789012/anb",
        "  messages             3 waiting, 1 in flight, 0 delayed",
        "  jobs                 4 waiting, 1 running",
        "  oldest message sent  0:02:10 ago",
        "  may be switched off  no",
        "    New work goes to this queue.",
        "",
        "The old queue, on Celery: amqp://rabbitmq:5672/#celery",
        "  messages             0 waiting, 0 delayed, 0 other receivers",
        "  jobs                 0 waiting, 0 running",
        "  may be switched off  yes",
        "",
        "Jobs whose message was not sent to a queue yet: 2",
    ]


@pytest.mark.parametrize(
    ("seconds", "age"), [(0.9, "0:00:00"), (3599, "0:59:59"), (360_061, "100:01:01"), (2**62, "1281023894007607:45:04")]
)
def test_an_age_is_shown_in_hours_minutes_and_seconds(seconds: float, age: str) -> None:
    lines = list(describe({"brokers": [a_queue_state(oldest_seconds=seconds)], "unsent": 0}))
    assert lines[3] == f"  oldest message sent  {age} ago"


def test_a_queue_that_does_not_answer_is_described_with_the_error() -> None:
    away = an_old_queue(waiting=None, delayed=None, consumers=None, outage="The broker does not answer.")
    lines = list(describe({"brokers": [away], "unsent": 0}))
    assert lines[1] == "  messages             unknown"
    assert lines[3] == "  error                The broker does not answer."


@pytest.mark.parametrize(
    "changes",
    [{"name": None}, {"waiting": -1}, {"jobs_running": None}, {"may_be_switched_off": "yes"}, {"reasons": [1]}],
    ids=lambda changes: ascii(list(changes)),
)
def test_what_is_no_state_of_a_queue_is_not_shown(changes: dict[str, Any]) -> None:
    assert broker_overview_of({"brokers": [a_queue_state()], "unsent": 0})
    with pytest.raises(NotOurs, match=r"is not an overview of the queues of ANB Video"):
        broker_overview_of({"brokers": [a_queue_state(**changes)], "unsent": 0})
