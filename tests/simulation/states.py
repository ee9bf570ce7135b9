"""The state of a run at one moment, in a form that is equal for states from which the same can follow.

It has the tables, the queues, the bucket, and the place in the code where each thread stands. Times count from now, and
ids are numbered anew. What only reports read is left out, such as versions and events.
"""

import re
import sys
from collections.abc import Hashable
from datetime import datetime
from types import FrameType
from typing import Any

from anb_core.domain.message import decode
from tests.simulation.world import World

_NUMBERED = re.compile(r"(row|attempt|size|handle|message)-\d+")


def state_of(world: World) -> Hashable:
    """Return the state of a run in which a thread is about to make a call. Equal states have the same hash."""
    names: dict[str, str] = {}

    def plain(value: Any) -> Hashable:
        if isinstance(value, datetime):
            return round((value - world.true_now()).total_seconds(), 3)
        if isinstance(value, str):
            return _NUMBERED.sub(lambda found: names.setdefault(found[0], str(len(names))), value)
        if isinstance(value, dict):
            return tuple((plain(key), plain(one)) for key, one in value.items())
        if isinstance(value, list | tuple | set):
            return tuple(plain(one) for one in value)
        return value if isinstance(value, int | float | None) else repr(value)

    return hash((plain(_rows(world)), plain(_outside(world)), plain(_threads(world))))


def _rows(world: World) -> Any:
    store = world.store
    jobs = [
        (
            row.job.status.value,
            row.job.generation,
            repr(row.job.counters),
            (row.job.lease_owner, row.job.lease_expires_at, row.job.not_before),
            (row.job.enqueued_at, row.job.updated_at, row.upload_expires_at, row.deleted_at is None),
            row.job.result and row.job.result.key,
            [(one.id, one.fence, one.generation, str(one.ending)) for one in row.attempts],
        )
        for row in store.rows.values()
    ]
    outbox = [(entry.send_after, entry.token, entry.tries) for entry in store.outbox.values()]
    keys = [(key.video_id, key.fingerprint) for key in store.keys.values()]
    deletions = [(one.scheduled.key, one.due) for one in store.deletions]
    letters = [(one.message_id, one.generation, one.cause.value, one.open) for one in store.letters]
    return jobs, outbox, keys, deletions, letters, store.locks


def _outside(world: World) -> Any:
    queues = [
        (entry.message_id, decode(entry.body).generation, entry.visible_at, entry.receives, entry.handle)
        for queue in (world.queue, world.queue.dead_letters)
        for entry in queue.entries
    ]
    return queues, list(world.objects.contents), world.objects.unfinished, len(world.forgotten), world.answered


def _threads(world: World) -> Any:
    scheduler = world.scheduler
    return [
        (
            thread.name,
            _places(thread.body.gr_frame or sys._getframe(2)),  # noqa: SLF001 - the frames of the current thread
            round(thread.until - scheduler.now, 3),
            round(max(0.0, thread.process.frozen_until - scheduler.now), 3),
            (thread.process.stopping, round(max(0.0, thread.process.lease_until - scheduler.now), 3)),
        )
        for thread in scheduler.threads
        if not thread.body.dead
    ]


def _places(frame: FrameType | None) -> Any:
    """Return for each function that a thread is in the place where it stands, and the whole numbers that it holds."""
    found = []
    while frame:
        held = [value for value in frame.f_locals.values() if isinstance(value, int)]
        found.append((frame.f_code.co_qualname, frame.f_lasti, held))
        frame = frame.f_back
    return found
