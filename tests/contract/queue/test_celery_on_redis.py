"""Tests of the queue on Redis. Redis has no acknowledgements, so kombu imitates them."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest
from kombu import Connection
from redis import Redis

from anb_core.adapters.celery_broker import KombuQueue
from anb_core.domain.errors import Unavailable
from anb_core.ports.queue import Delivery, Depth, Outgoing
from tests.contract.queue.conftest import SHORT, broker_queue
from tests.support import eventually

NOW = timedelta(0)
PATIENTLY = timedelta(seconds=10)
MINUTE = timedelta(minutes=1)
MESSAGE = Outgoing(body='{"video_id": "v"}', group="video", owner="ana", deduplication="1")


@pytest.fixture
def queue(redis_url: str) -> Iterator[KombuQueue]:
    with closing(broker_queue(redis_url, visibility=SHORT)) as queue:
        yield queue


@pytest.fixture
def other(redis_url: str, queue: KombuQueue) -> Iterator[KombuQueue]:
    """A second object for the same queue, as another process would have it."""
    with closing(broker_queue(redis_url, name=name_of(queue), visibility=SHORT)) as other:
        yield other


def name_of(queue: KombuQueue) -> str:
    return queue.name.rpartition("#")[2]


def receive(queue: KombuQueue) -> Delivery:
    delivery = queue.receive(wait=PATIENTLY)
    assert delivery is not None
    return delivery


def test_a_message_of_a_worker_that_died_comes_to_another_worker(queue: KombuQueue, other: KombuQueue) -> None:
    queue.send([MESSAGE])
    lost = receive(queue)

    found = receive(other)

    assert (found.body, found.message_id) == (lost.body, lost.message_id)
    assert found.age == timedelta(0)


def test_a_message_of_a_worker_that_died_is_seen_although_no_worker_runs(queue: KombuQueue, other: KombuQueue) -> None:
    queue.send([MESSAGE])
    receive(queue)

    assert eventually(lambda: other.depth().visible) == 1


def test_a_worker_that_ends_does_not_end_the_pause_of_a_message(queue: KombuQueue, other: KombuQueue) -> None:
    queue.send([MESSAGE])
    queue.give_back(receive(queue), pause=MINUTE)

    queue.close()

    assert other.receive(wait=NOW) is None
    assert other.depth() == Depth(visible=0, in_flight=1, delayed=0)


def test_a_pause_that_is_longer_than_the_visibility_timeout_is_kept(queue: KombuQueue, other: KombuQueue) -> None:
    queue.send([MESSAGE])
    queue.give_back(receive(queue), pause=2 * SHORT)

    assert other.receive(wait=1.5 * SHORT) is None
    assert receive(other).body == MESSAGE.body


def test_a_pause_that_is_shorter_than_the_visibility_timeout_ends_in_time(redis_url: str) -> None:
    with closing(broker_queue(redis_url, visibility=MINUTE)) as queue:
        queue.send([MESSAGE])
        queue.give_back(receive(queue), pause=SHORT)

        assert receive(queue).body == MESSAGE.body


def test_a_late_heartbeat_for_a_message_that_another_worker_deleted_changes_nothing(
    queue: KombuQueue, other: KombuQueue
) -> None:
    queue.send([MESSAGE])
    late = receive(queue)
    other.delete(receive(other))

    queue.extend(late, visibility=MINUTE)

    assert queue.depth().empty


def test_a_message_that_a_worker_of_celery_holds_is_in_flight(redis_url: str, queue: KombuQueue) -> None:
    queue.send([MESSAGE])
    with Connection(redis_url) as connection:
        # A worker of Celery receives with this class.
        celery = connection.SimpleQueue(name_of(queue))
        held = celery.get(timeout=5)

        assert queue.depth() == Depth(visible=0, in_flight=1, delayed=0)

        held.ack()
        assert queue.depth().empty
        celery.close()


def test_running_tasks_of_other_applications_are_left_alone(redis_url: str, queue: KombuQueue) -> None:
    with Connection(redis_url) as connection:
        strange = connection.SimpleQueue("their-queue")
        strange.put("their task")
        held = strange.get(timeout=5)
        with Redis.from_url(redis_url) as redis:
            redis.zadd("unacked_index", {held.delivery_tag: 0})

            assert queue.receive(wait=NOW) is None
            assert queue.depth().empty

            assert redis.zscore("unacked_index", held.delivery_tag) == 0
        held.ack()
        strange.close()


@pytest.mark.parametrize(
    ("setting", "value", "back"), [("maxmemory", "1", "0"), ("replicaof", "127.0.0.1 1", "no one")]
)
def test_a_redis_that_takes_no_writes_loses_no_message(
    redis_url: str, queue: KombuQueue, setting: str, value: str, back: str
) -> None:
    """kombu first takes the message from the queue, and then stores it as received. The second step could fail."""
    queue.send([MESSAGE])
    with Redis.from_url(redis_url) as redis:

        def change(to: str) -> None:
            redis.execute_command(
                *(["REPLICAOF"] if setting == "replicaof" else ["CONFIG", "SET", setting]), *to.split()
            )

        change(value)
        try:
            for _ in range(3):
                with pytest.raises(Unavailable):
                    queue.receive(wait=NOW)
            with pytest.raises(Unavailable):
                queue.send([MESSAGE])
        finally:
            change(back)

    assert receive(queue).body == MESSAGE.body


@pytest.mark.parametrize("value", ["odd", "1", "{}", "[]"])
def test_a_value_of_another_program_among_the_messages_that_celery_holds_is_not_counted(
    redis_url: str, queue: KombuQueue, value: str
) -> None:
    with Redis.from_url(redis_url) as redis:
        redis.hset("unacked", "odd", value)
        try:
            assert queue.depth().empty
        finally:
            redis.hdel("unacked", "odd")


def test_a_count_of_many_messages_that_workers_of_celery_hold_takes_few_calls(
    redis_url: str, queue: KombuQueue
) -> None:
    held = {str(number): json.dumps([{}, "", name_of(queue)]) for number in range(5000)}
    with Redis.from_url(redis_url) as redis:
        redis.hset("unacked", mapping=held)
        redis.config_resetstat()
        try:
            assert queue.depth().in_flight == len(held)
            assert redis.info("commandstats")["cmdstat_hscan"]["calls"] < 20
        finally:
            redis.hdel("unacked", *held)


def envelope(body: object, **changes: object) -> dict[str, object]:
    """A message as kombu stores it, with changed fields."""
    delivery_info = {"exchange": "", "routing_key": "celery"}
    properties = {"delivery_tag": "1", "delivery_info": delivery_info, "body_encoding": None, "priority": 0}
    return {
        "body": body,
        "headers": {},
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "properties": properties,
    } | changes


def properties(**changes: object) -> dict[str, object]:
    return {"delivery_tag": "1", "delivery_info": {"exchange": "", "routing_key": "celery"}} | changes


FOREIGN = {
    "no JSON": "garbage",
    "empty": "",
    "a JSON number": "1",
    "a JSON list": "[]",
    "no envelope": '{"some": "object"}',
    "nested too deeply": "[" * 100_000,
    "unknown type": '{"__type__": "datetime", "__value__": "never"}',
    "no properties": json.dumps(envelope("{}", properties=None)),
    "no delivery info": json.dumps(envelope("{}", properties={"delivery_tag": "1"})),
    "odd delivery info": json.dumps(envelope("{}", properties=properties(delivery_info=1))),
    "bad base64": json.dumps(envelope("a", properties=properties(body_encoding="base64"))),
    "unknown encoding": json.dumps(envelope("{}", properties=properties(body_encoding="odd"))),
    "odd encoding": json.dumps(envelope("{}", properties=properties(body_encoding=[1]))),
    "endless priority": json.dumps(envelope("{}", properties=properties(priority=float("inf")))),
    "no body": json.dumps(envelope(None)),
    "an object as body": json.dumps(envelope({"video_id": "v"})),
    "half a character": json.dumps(envelope("\ud800")),
    "odd headers": json.dumps(envelope("{}", headers=["odd"])),
    "unknown compression": json.dumps(envelope("{}", headers={"compression": "odd"})),
}


@pytest.mark.parametrize("entry", FOREIGN.values(), ids=FOREIGN)
def test_an_entry_that_is_no_message_of_kombu_is_received_as_it_is_until_it_is_deleted(
    redis_url: str, entry: str
) -> None:
    with closing(broker_queue(redis_url, visibility=MINUTE)) as queue, Redis.from_url(redis_url) as redis:
        redis.lpush(name_of(queue), entry)

        first = receive(queue)
        assert queue.receive(wait=NOW) is None
        queue.give_back(first)
        again = receive(queue)
        assert queue.depth() == Depth(visible=0, in_flight=1, delayed=0)
        queue.delete(again)

        assert (first.body, again.body, again.message_id) == (entry, entry, first.message_id)
        assert queue.depth().empty


def test_an_entry_that_is_no_message_of_kombu_is_hidden_for_the_visibility_timeout(
    redis_url: str, queue: KombuQueue, other: KombuQueue
) -> None:
    with Redis.from_url(redis_url) as redis:
        redis.lpush(name_of(queue), "garbage")
    lost = receive(queue)
    assert other.receive(wait=NOW) is None

    found = receive(other)
    other.extend(found, visibility=MINUTE)

    assert (found.body, found.message_id) == ("garbage", lost.message_id)
    assert queue.receive(wait=1.5 * SHORT) is None
    other.delete(found)
    assert queue.depth().empty


def test_a_deeply_nested_message_is_not_lost_at_any_depth(redis_url: str, queue: KombuQueue) -> None:
    with Redis.from_url(redis_url) as redis:
        for depth in range(850, 1000):
            nested = "[" * depth + "]" * depth
            message = json.dumps(envelope(f"depth {depth}", headers={"nested": "HERE"}))
            redis.lpush(name_of(queue), message.replace('"HERE"', nested))
            queue.give_back(receive(queue))
            delivery = receive(queue)
            queue.delete(delivery)
            assert f"depth {depth}" in delivery.body


def test_bytes_that_are_no_text_are_received_as_escapes(redis_url: str, queue: KombuQueue) -> None:
    with Redis.from_url(redis_url) as redis:
        redis.lpush(name_of(queue), b"odd \xff")

    assert receive(queue).body == r"odd \xff"


def test_a_plain_message_without_an_envelope_is_read(redis_url: str, queue: KombuQueue) -> None:
    with Redis.from_url(redis_url) as redis:
        redis.lpush(name_of(queue), MESSAGE.body)

    assert receive(queue).body == MESSAGE.body


@pytest.mark.parametrize(
    "changes",
    [
        {"headers": None},
        {"properties": properties(delivery_tag=None)},
        {"properties": properties(delivery_tag={"odd": "tag"})},
        {"properties": properties(delivery_info={"exchange": "unknown", "routing_key": "other"})},
        {"properties": properties(delivery_info={})},
    ],
)
def test_an_envelope_with_odd_fields_that_do_not_matter_is_read_and_is_not_lost_when_it_is_returned(
    redis_url: str, queue: KombuQueue, changes: dict[str, object]
) -> None:
    with Redis.from_url(redis_url) as redis:
        redis.lpush(name_of(queue), json.dumps(envelope(MESSAGE.body, **changes)))

    queue.give_back(receive(queue))

    assert receive(queue).body == MESSAGE.body


def test_two_messages_with_the_same_tag_are_both_kept(redis_url: str, queue: KombuQueue, other: KombuQueue) -> None:
    with Redis.from_url(redis_url) as redis:
        redis.lpush(name_of(queue), json.dumps(envelope('"a"')), json.dumps(envelope('"b"')))
    receive(queue)
    other.delete(receive(other))

    assert receive(other).body == '"a"'
