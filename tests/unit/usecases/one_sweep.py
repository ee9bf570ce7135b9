"""A sweep and a relay that use fakes."""

from datetime import timedelta

from anb_core.domain.edit import EditSpec
from anb_core.domain.keys import upload_key
from anb_core.domain.model import NewVideo, Record, Source
from anb_core.domain.retry import RetryPolicy
from anb_core.testing.clock import ManualClock
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.queue import InMemoryQueue
from anb_core.testing.runtime import ManualRuntime
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.relay import Relay
from anb_core.usecases.sweep import EMPTY_READINGS, EMPTY_WINDOW, Sweep

INTERVAL = timedelta(seconds=10)
HIDDEN = timedelta(minutes=10)
LEASE = timedelta(seconds=60)
POLICY = RetryPolicy()


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.runtime = ManualRuntime(self.clock)
        self.store = InMemoryStore(self.clock.now)
        self.objects = InMemoryObjects("anb-videos")
        self.queue = InMemoryQueue(now=self.clock.now)
        self.relay = Relay(self.store, self.queue, bucket="anb-videos", runtime=self.runtime, jitter=lambda: 0.0)
        self.wakes = 0
        self.sweep = self.another_sweep()

    def another_sweep(
        self, queue: InMemoryQueue | None = None, hidden: timedelta = HIDDEN, *, old: InMemoryQueue | None = None
    ) -> Sweep:
        return Sweep(
            self.store,
            self.objects,
            [queue or self.queue, *([old] if old else [])],
            policy=POLICY,
            interval=INTERVAL,
            hidden=hidden,
            wake_relay=self._wake,
            runtime=self.runtime,
        )

    def _wake(self) -> None:
        self.wakes += 1

    def upload(self, video_id: str) -> None:
        self.objects.put(upload_key(video_id), b"video")
        self.store.submit_existing(new_video(video_id), Source(5))

    def record(self, video_id: str) -> Record:
        record = self.store.get(video_id)
        assert record is not None
        return record

    def forget_all_messages(self) -> None:
        self.queue = InMemoryQueue(now=self.clock.now)
        self.relay = Relay(self.store, self.queue, bucket="anb-videos", runtime=self.runtime, jitter=lambda: 0.0)

    def watch_the_queue(self, sweep: Sweep) -> int:
        """Sweep EMPTY_READINGS times. After that many readings, the sweep knows whether the queue is empty.

        Returns the number of requeued jobs.
        """
        requeued = 0
        for _ in range(EMPTY_READINGS):
            swept = sweep.sweep()
            assert swept is not None
            requeued += swept.requeued
            self.clock.advance(EMPTY_WINDOW / (EMPTY_READINGS - 1))
        return requeued


def new_video(video_id: str) -> NewVideo:
    key = upload_key(video_id)
    return NewVideo(video_id, f"task-{video_id}", "ana", "A title", EditSpec(), key, owned=True, file_name="a.mp4")
