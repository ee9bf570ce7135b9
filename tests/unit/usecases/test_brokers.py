"""Tests of the state of the queues: what is counted, and when a broker may be switched off."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from anb_core.domain.errors import Forbidden, Unavailable
from anb_core.domain.model import Scope
from anb_core.ports.queue import Depth
from anb_core.ports.store import QueueJobs
from anb_core.testing.clock import ManualClock
from anb_core.testing.queue import InMemoryQueue
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.brokers import BrokerState, Overview, Role, overview
from anb_core.usecases.visibility import Caller
from tests.support.given import claim, sent, uploaded

EMPTY = BrokerState("redis://redis:6379/0#celery", Role.OLD, Depth(0, 0, 0), None, QueueJobs(0, 0, None))
AWAY = "The broker redis://redis:6379/0 of CELERY_BROKER_URL does not answer: Connection refused."


class World:
    """A store, and an old and a current queue, in memory."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = InMemoryStore(self.clock.now)
        self.current = InMemoryQueue("https://sqs.invalid/0/anb", now=self.clock.now)
        self.old = InMemoryQueue("redis://redis:6379/0#celery", now=self.clock.now)

    def overview(self, scope: Scope = Scope.OPS) -> Overview:
        return overview(self.store, [self.current, self.old], Caller("olga", scope))

    def sent(self, name: str) -> str:
        video_id = uploaded(self.store)
        sent(self.store, video_id, broker=name)
        return video_id


@pytest.fixture
def world() -> World:
    return World()


def test_messages_and_jobs_are_counted_by_queue_and_a_queue_that_only_rows_name_is_removed(world: World) -> None:
    world.current.put("one")
    world.sent("https://sqs.invalid/0/removed")
    world.sent("amqp://rabbitmq:5672/#celery")
    world.sent("redis://removed:6379/0#celery")
    world.clock.advance(timedelta(seconds=90))
    for _ in range(2):
        world.sent(world.old.name)
    claim(world.store, world.sent(world.current.name))
    uploaded(world.store)

    found = world.overview()

    assert found.unsent == 1
    assert [(one.role, one.kind, one.name) for one in found.brokers] == [
        (Role.CURRENT, "sqs", world.current.name),
        (Role.OLD, "celery", world.old.name),
        (Role.REMOVED, "celery", "amqp://rabbitmq:5672/#celery"),
        (Role.REMOVED, "sqs", "https://sqs.invalid/0/removed"),
        (Role.REMOVED, "celery", "redis://removed:6379/0#celery"),
    ]
    now, long_ago = timedelta(0), timedelta(seconds=90)
    assert [one.jobs for one in found.brokers] == [
        QueueJobs(0, 1, now),
        QueueJobs(2, 0, now),
        QueueJobs(1, 0, long_ago),
        QueueJobs(1, 0, long_ago),
        QueueJobs(1, 0, long_ago),
    ]
    assert [one.depth for one in found.brokers] == [Depth(1, 0, 0), Depth(0, 0, 0), None, None, None]


def test_without_an_old_queue_there_is_only_the_current_one(world: World) -> None:
    found = overview(world.store, [world.current], Caller("olga", Scope.OPS))
    assert [one.role for one in found.brokers] == [Role.CURRENT]
    assert found.brokers[0].reasons == ["New work goes to this queue."]


def test_a_queue_that_does_not_answer_keeps_nothing_else_from_being_shown(world: World) -> None:
    world.old.fault = Unavailable("queue", AWAY)
    world.current.put("one")

    current, old = world.overview().brokers

    assert current.depth == Depth(1, 0, 0)
    assert (old.depth, old.outage) == (None, AWAY)
    assert old.reasons == ["The messages in this queue can't be counted, because it does not answer."]


def test_the_queues_are_shown_only_to_operators(world: World) -> None:
    with pytest.raises(Forbidden, match="The queues need a token of scope ops; this one has scope user"):
        world.overview(Scope.USER)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda one: replace(one, depth=Depth(3, 0, 0)), "Messages that wait in this queue: 3."),
        (
            lambda one: replace(one, depth=Depth(0, 2, 0)),
            "Messages that were received from this queue and not deleted yet: 2.",
        ),
        (lambda one: replace(one, depth=Depth(0, 0, 1)), "Messages that are delayed in this queue: 1."),
        (
            lambda one: replace(one, depth=Depth(0, 0, 0, consumers=1)),
            "Other programs that receive from this queue, such as workers of Celery: 1. Stop them.",
        ),
        (
            lambda one: replace(one, jobs=QueueJobs(1, 0, timedelta(0))),
            "Unfinished jobs whose message was sent to this queue: 1.",
        ),
        (
            lambda one: replace(one, jobs=QueueJobs(0, 2, timedelta(0))),
            "Unfinished jobs whose message was sent to this queue: 2.",
        ),
    ],
    ids=["waiting", "in flight", "delayed", "consumers", "jobs that wait", "jobs in work"],
)
def test_an_old_queue_may_be_switched_off_only_when_nothing_needs_it(
    change: Callable[[BrokerState], BrokerState], reason: str
) -> None:
    assert EMPTY.reasons == []
    assert replace(EMPTY, depth=Depth(0, 0, 0, consumers=0)).reasons == []
    assert change(EMPTY).reasons == [reason]


def test_a_removed_queue_is_needed_until_the_messages_of_its_jobs_were_sent_again() -> None:
    removed = replace(EMPTY, role=Role.REMOVED, depth=None, jobs=QueueJobs(1, 0, timedelta(0)))
    assert removed.reasons == [
        "Unfinished jobs whose message was sent to this queue: 1.",
        "The sweep sends the messages of waiting jobs again, to the current queue.",
    ]
