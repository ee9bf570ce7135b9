"""Tests of the faults that tests inject into the fakes. tests/contract tests the rest of the fakes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from anb_core.domain.errors import Unavailable
from anb_core.ports.queue import Outgoing
from anb_core.testing.clock import ManualClock
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.queue import InMemoryQueue
from anb_core.testing.runtime import ManualRuntime


def outgoing(body: str) -> Outgoing:
    return Outgoing(body=body, group="video", owner="ana", deduplication=body)


def test_time_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(datetime(2026, 7, 1, tzinfo=UTC))
    assert clock.now() == clock.now() == datetime(2026, 7, 1, tzinfo=UTC)

    clock.advance(timedelta(seconds=90))

    assert clock.now() == datetime(2026, 7, 1, 0, 1, 30, tzinfo=UTC)
    assert clock.monotonic() == 90.0
    with pytest.raises(ValueError, match="time does not run backwards"):
        clock.advance(timedelta(seconds=-1))


def test_a_bucket_that_is_away_says_so_until_it_is_back(tmp_path: Path) -> None:
    objects = InMemoryObjects()
    objects.fault = Unavailable("bucket", "It is away.")
    with pytest.raises(Unavailable, match="It is away"):
        objects.head("uploads/a.mp4")
    with pytest.raises(Unavailable, match="It is away"):
        objects.fetch("uploads/a.mp4", tmp_path / "a")
    with pytest.raises(Unavailable, match="It is away"):
        objects.delete(["uploads/a.mp4"])

    objects.fault = None
    assert objects.head("uploads/a.mp4") is None


def test_a_bucket_that_goes_away_while_an_object_is_written_keeps_nothing_of_it() -> None:
    objects = InMemoryObjects()
    with objects.writing("uploads/a.mp4", content_type="video/mp4") as writer:
        writer.write(b"one")
        objects.fault = Unavailable("bucket", "It is away.")
        with pytest.raises(Unavailable):
            writer.write(b"two")
        with pytest.raises(Unavailable):
            writer.commit()

    assert objects.contents == {}


def test_a_queue_that_is_away_says_so_until_it_is_back() -> None:
    queue = InMemoryQueue(fault=Unavailable("queue", "It is away."))
    with pytest.raises(Unavailable):
        queue.send([outgoing("one")])
    with pytest.raises(Unavailable):
        queue.receive(wait=timedelta(0))

    queue.fault = None
    assert queue.depth().empty


def test_a_queue_may_refuse_single_messages() -> None:
    queue = InMemoryQueue(refuse=lambda message: "too long" if message.body == "two" else None)

    assert queue.send([outgoing("one"), outgoing("two"), outgoing("three")]) == [None, "too long", None]
    assert [message.body for message in queue.sent] == ["one", "three"]


def test_a_queue_takes_messages_of_other_producers() -> None:
    queue = InMemoryQueue()
    queue.put("not ours")

    delivery = queue.receive(wait=timedelta(0))
    assert delivery is not None
    assert delivery.body == "not ours"


def test_a_long_poll_waits_by_the_clock_it_was_given() -> None:
    clock = ManualClock()
    queue = InMemoryQueue(now=clock.now, runtime=ManualRuntime(clock), visibility=timedelta(seconds=30))
    queue.put("one")
    assert queue.receive(wait=timedelta(0)) is not None

    assert queue.receive(wait=timedelta(seconds=20)) is None
    assert clock.monotonic() == pytest.approx(20, abs=1)

    assert queue.receive(wait=timedelta(seconds=20)) is not None, "it is visible again"
    assert clock.monotonic() == pytest.approx(30, abs=1)
