import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from anb_api.feed import KEPT, Hub, Subscription
from anb_core.adapters.system import SystemRuntime, new_id
from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import Unavailable
from anb_core.domain.model import JobEvent, Lease, NewVideo, Source
from anb_core.domain.retry import RetryPolicy
from anb_core.domain.status import Status
from anb_core.ports.store import Claimed
from anb_core.testing.clock import ManualClock
from anb_core.testing.runtime import ManualRuntime
from anb_core.testing.store import InMemoryStore

PATIENCE = 5.0


def submit(store: InMemoryStore, video_id: str) -> None:
    new = NewVideo(
        video_id, f"task-{video_id}", "ana", "A", EditSpec(), f"uploads/{video_id}", owned=True, file_name="a"
    )
    store.submit_existing(new, Source(1))


def claim(store: InMemoryStore, video_id: str) -> Lease:
    claimed = store.claim(
        video_id, generation=1, attempt_id=new_id(), worker="w", lease=timedelta(minutes=1), policy=RetryPolicy()
    )
    assert isinstance(claimed, Claimed)
    return claimed.lease


def run(hub: Hub, scenario: Coroutine[Any, Any, None]) -> None:
    async def both() -> None:
        reader = asyncio.create_task(hub.run())
        try:
            await scenario
        finally:
            hub.close()
            await reader

    asyncio.run(both())


async def next_of(subscription: Subscription) -> JobEvent:
    event = await subscription.next(PATIENCE)
    assert event is not None
    return event


class CountingStore(InMemoryStore):
    """A store whose field `reads` counts the reads of the feed."""

    reads = 0

    def events_after(self, *args: Any, **kwargs: Any) -> Any:
        self.reads += 1
        return super().events_after(*args, **kwargs)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def hub(store: CountingStore) -> Hub:
    return Hub(store, SystemRuntime(), interval=timedelta(milliseconds=1))


def test_only_events_after_subscribing_arrive_and_in_order(store: CountingStore, hub: Hub) -> None:
    async def scenario() -> None:
        submit(store, "v1")
        submit(store, "v2")
        subscription = await hub.subscribe("v1")
        store.cancel("v2")
        lease = claim(store, "v1")
        for progress in (0.1, 0.2):
            store.report_progress(lease, progress)

        events = [await next_of(subscription) for _ in range(3)]
        assert [(event.status, event.progress) for event in events] == [
            (Status.PROCESSING, 0.0),
            (Status.PROCESSING, 0.1),
            (Status.PROCESSING, 0.2),
        ]

    run(hub, scenario())


def test_all_who_follow_a_video_get_its_events_from_one_reader(store: CountingStore, hub: Hub) -> None:
    async def scenario() -> None:
        submit(store, "v1")
        subscriptions = [await hub.subscribe("v1") for _ in range(50)]
        store.cancel("v1")

        assert {(await next_of(subscription)).status for subscription in subscriptions} == {Status.CANCELLED}
        assert store.reads < 50

    run(hub, scenario())


def test_while_nobody_follows_the_database_is_left_alone_and_later_nothing_is_missed(
    store: CountingStore, hub: Hub
) -> None:
    async def scenario() -> None:
        submit(store, "v1")
        (await hub.subscribe("v1")).close()
        assert hub.watched == 0
        for _ in range(20):
            await asyncio.sleep(0.001)
        reads = store.reads
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert store.reads == reads

        claim(store, "v1")
        subscription = await hub.subscribe("v1")
        store.cancel("v1")

        assert (await next_of(subscription)).status is Status.CANCELLED

    run(hub, scenario())


def test_a_database_that_is_away_delays_events_and_loses_none(store: CountingStore, hub: Hub) -> None:
    async def scenario() -> None:
        submit(store, "v1")
        subscription = await hub.subscribe("v1")
        with capture_logs() as logs:
            store.fault = Unavailable("database", "The database is away.")
            while not logs:  # noqa: ASYNC110 - the reader can't set an event for us
                await asyncio.sleep(0.001)
            store.fault = None
        store.cancel("v1")

        assert (await next_of(subscription)).status is Status.CANCELLED

    run(hub, scenario())


def test_an_unexpected_error_of_the_feed_is_reported_and_loses_no_event(store: CountingStore) -> None:
    runtime = ManualRuntime(ManualClock())
    hub = Hub(store, runtime, interval=timedelta(milliseconds=1))
    error = ValueError("an event that can't be read")

    async def scenario() -> None:
        submit(store, "v1")
        subscription = await hub.subscribe("v1")
        store.fault = error
        while not runtime.errors:  # noqa: ASYNC110 - the reader can't set an event for us
            await asyncio.sleep(0.001)
        store.fault = None
        store.cancel("v1")

        assert (await next_of(subscription)).status is Status.CANCELLED
        assert runtime.errors[0] == ("feed", error)

    run(hub, scenario())


def test_a_subscriber_that_does_not_read_keeps_the_newest_events_only(store: CountingStore, hub: Hub) -> None:
    async def scenario() -> None:
        submit(store, "v1")
        slow, quick = await hub.subscribe("v1"), await hub.subscribe("v1")
        received = []
        for _ in range(KEPT):
            store.cancel("v1")
            store.retry("v1", by="ada")
            received += [await next_of(quick), await next_of(quick)]

        kept = [await next_of(slow) for _ in range(KEPT)]
        assert kept == received[-KEPT:]
        assert await slow.next(0) is None

    run(hub, scenario())


def test_without_an_event_within_the_timeout_the_result_is_none(hub: Hub) -> None:
    async def scenario() -> None:
        subscription = await hub.subscribe("v1")
        assert await subscription.next(0.001) is None
        assert not subscription.ended

    run(hub, scenario())


def test_closing_ends_present_and_later_subscriptions(hub: Hub) -> None:
    async def scenario() -> None:
        early = await hub.subscribe("v1")
        waiting = asyncio.create_task(early.next(PATIENCE))
        await asyncio.sleep(0)
        hub.close()

        assert await waiting is None
        assert early.ended
        assert (await hub.subscribe("v1")).ended

    run(hub, scenario())


def test_subscribing_without_a_database_says_so(store: CountingStore, hub: Hub) -> None:
    async def scenario() -> None:
        store.fault = Unavailable("database", "The database is away.")
        with pytest.raises(Unavailable):
            await hub.subscribe("v1")

    run(hub, scenario())


def test_closing_ends_the_reader_at_once_though_its_next_read_is_far_away(store: CountingStore) -> None:
    hub = Hub(store, SystemRuntime(), interval=timedelta(hours=1))

    async def scenario() -> None:
        async with asyncio.timeout(PATIENCE):
            reader = asyncio.create_task(hub.run())
            await hub.subscribe("v1")
            # Wait for the first read. After this read, the reader pauses for an hour, and `close` must end the pause.
            while store.reads < 1:  # noqa: ASYNC110 - the reader can't set an event for us
                await asyncio.sleep(0.001)
            hub.close()
            await reader

    asyncio.run(scenario())
