"""Functions that create a video in the state that a test needs."""

from datetime import timedelta
from itertools import count
from uuid import uuid4

from anb_core.adapters.system import new_id
from anb_core.domain.edit import EditSpec
from anb_core.domain.keys import upload_key
from anb_core.domain.model import Idempotency, Lease, NewVideo, Problem, Record, Result, Source
from anb_core.domain.retry import RetryPolicy, plan_failure, plan_interruption, plan_rejection
from anb_core.ports.store import Claimed, OutboxEntry, Store
from anb_core.testing.store import InMemoryStore

POLICY = RetryPolicy()
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
LEASE = MINUTE
SOURCE = Source(1234, "ab" * 32)
PROBLEM = Problem("verification_failed", "The renderer stopped with status 1.")
BAD_INPUT = Problem("corrupt", "Half of the frames can't be decoded.")


def new_video(video_id: str | None = None, *, owner: str = "ada", owned: bool = True) -> NewVideo:
    video_id = video_id or str(uuid4())
    return NewVideo(
        id=video_id,
        task_id=str(uuid4()),
        owner=owner,
        title="Holidays",
        edit=EditSpec(),
        source_key=upload_key(video_id),
        owned=owned,
        file_name="holidays.mov",
    )


def uploading(store: Store, *, owner: str = "ada", idempotency: Idempotency | None = None) -> Record:
    record = store.begin_upload(new_video(owner=owner), lifetime=MINUTE, idempotency=idempotency)
    assert isinstance(record, Record)
    return record


def uploaded(store: Store, *, owner: str = "ada") -> str:
    """Create an uploaded video, with its message in the outbox. Returns the video's id."""
    video_id = uploading(store, owner=owner).video.id
    store.complete_upload(video_id, SOURCE)
    return video_id


def sent(store: Store, video_id: str, *, broker: str = "queue") -> OutboxEntry:
    """Mark a video's due message as sent."""
    held = store.hold_outbox(limit=100, hold=timedelta(0))
    [entry] = [entry for entry in held if entry.video_id == video_id]
    store.mark_sent(entry, broker=broker)
    return entry


def claim(store: Store, video_id: str, *, worker: str = "worker-1", lease: timedelta = LEASE) -> Lease:
    """Claim a video and return the lease. The test fails if the claim is refused."""
    claimed = store.claim(video_id, generation=None, attempt_id=new_id(), worker=worker, lease=lease, policy=POLICY)
    assert isinstance(claimed, Claimed), claimed
    return claimed.lease


def processing(store: Store, *, owner: str = "ada") -> Lease:
    """Create a video that is being processed. Returns the lease."""
    return claim(store, uploaded(store, owner=owner))


def result(lease: Lease) -> Result:
    return Result(
        key=lease.result_key, size=9876, sha256="cd" * 32, width=1280, height=720, duration=35.25, frames=1057
    )


def processed(store: Store, *, owner: str = "ada") -> str:
    lease = processing(store, owner=owner)
    assert store.publish(lease, result(lease))
    return lease.video_id


def fail(store: Store, lease: Lease) -> bool:
    return store.settle(lease, plan_failure(lease.counters, PROBLEM, POLICY, jitter=0.5))


def reject(store: Store, lease: Lease) -> bool:
    return store.settle(lease, plan_rejection(lease.counters, BAD_INPUT))


def interrupt(store: Store, lease: Lease) -> bool:
    return store.settle(lease, plan_interruption(lease.counters))


def failed(store: Store) -> str:
    lease = processing(store)
    assert reject(store, lease)
    return lease.video_id


FFMPEG_FAILED = Problem("verification_failed", "The result is not as planned.", "frame=12\nConversion failed!")


def dead_lettered(store: Store, *, owner: str = "ada", worker: str = "worker-1", version: str = "1.0") -> str:
    """Create a video whose job has reached its limit of failures, with FFMPEG_FAILED as its error. Returns its id."""
    video_id = uploaded(store, owner=owner)
    claimed = store.claim(
        video_id, generation=1, attempt_id=new_id(), worker=worker, version=version, lease=LEASE, policy=POLICY
    )
    assert isinstance(claimed, Claimed), claimed
    last = plan_failure(claimed.lease.counters, FFMPEG_FAILED, RetryPolicy(max_failures=1), jitter=0)
    assert store.settle(claimed.lease, last)
    return video_id


def record_of(store: Store, video_id: str) -> Record:
    record = store.get(video_id)
    assert record is not None
    return record


def due(store: Store) -> list[str]:
    """Return the ids of videos with a due outbox entry. The entries stay due, because the call holds them for 0 s."""
    return [entry.video_id for entry in store.hold_outbox(limit=100, hold=timedelta(0))]


def restore_feed(store: InMemoryStore, *, last: int, reader: str) -> None:
    """Remove the events after the event `last`, and set a reader's cursor to `last`, like a restore of the database."""
    del store.events[last:]
    store.event_ids = count(last + 1)
    store.cursors[reader] = last
