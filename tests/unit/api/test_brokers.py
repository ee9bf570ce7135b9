"""Tests of the route /api/brokers."""

from anb_api.brokers import Broker
from anb_core.domain.errors import Unavailable
from anb_core.domain.model import Scope
from anb_core.ports.queue import Depth
from anb_core.ports.store import QueueJobs
from anb_core.usecases.brokers import BrokerState, Role
from tests.unit.api.conftest import World, code_of

PATH = "/api/brokers"


def test_an_operator_sees_the_queues_and_the_jobs_whose_message_is_there(world: World) -> None:
    ops = world.caller("olga", Scope.OPS)
    world.queue.put("one")

    assert world.client.get(PATH, headers=ops).json() == {
        "brokers": [
            {
                "name": world.queue.name,
                "kind": "sqs",
                "role": "current",
                "waiting": 1,
                "in_flight": 0,
                "delayed": 0,
                "consumers": None,
                "outage": None,
                "jobs_waiting": 0,
                "jobs_running": 0,
                "oldest_seconds": None,
                "may_be_switched_off": False,
                "reasons": ["New work goes to this queue."],
            }
        ],
        "unsent": 0,
    }


def test_a_queue_that_does_not_answer_is_shown_with_the_reason(world: World) -> None:
    world.queue.fault = Unavailable("queue", "The queue is away.")
    [broker] = world.client.get(PATH, headers=world.caller("olga", Scope.OPS)).json()["brokers"]
    assert (broker["waiting"], broker["in_flight"], broker["delayed"]) == (None, None, None)
    assert broker["outage"] == "The queue is away."


def test_others_see_no_queues(world: World) -> None:
    assert code_of(world.client.get(PATH)) == (401, "token_missing")
    assert code_of(world.client.get(PATH, headers=world.caller("ana"))) == (403, "scope_missing")


def test_a_number_that_the_broker_tells_only_in_part_is_not_shown() -> None:
    depth = Depth(2, 1, 0, consumers=3, in_flight_complete=False)
    shown = Broker.of(BrokerState("amqp://rabbitmq:5672/#celery", Role.OLD, depth, None, QueueJobs(0, 0, None)))
    assert (shown.waiting, shown.in_flight, shown.consumers, shown.kind) == (2, None, 3, "celery")
