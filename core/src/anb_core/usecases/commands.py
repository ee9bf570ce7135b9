"""The commands that a person may give for a video: cancel, retry, delete.

The store writes the given `receipts` in the same transaction as the effects of the command.

All commands raise the errors NotFound and Conflict:
    NotFound: `video_not_found` if the video does not exist, was deleted or has another owner.
    Conflict: `wrong_status` if the job's status does not allow the command.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

import structlog

from anb_core.domain.errors import Conflict
from anb_core.domain.model import Receipts, Record
from anb_core.domain.status import Change, next_status
from anb_core.ports.objects import Objects
from anb_core.ports.store import Commands, Reading
from anb_core.usecases.visibility import Caller, find

DELETION_GRACE = timedelta(hours=24)
"""Time from the deletion of a video to the deletion of its objects.
During this time, a person can restore the objects by hand, and a worker that still uses an object can finish.
"""

_log = structlog.get_logger(__name__)


class CommandStore(Commands, Reading, Protocol):
    """The protocols of the store that the commands use."""


def cancel(store: CommandStore, caller: Caller, video_id: str, *, receipts: Receipts | None = None) -> Record:
    """Cancel a job whose status is not terminal."""
    find(store, caller, video_id)
    record = store.cancel(video_id, receipts=receipts)
    _log.info("video cancelled", video_id=video_id, by=caller.owner)
    return record


def retry(
    store: CommandStore,
    objects: Objects,
    caller: Caller,
    video_id: str,
    *,
    wake_relay: Callable[[], None],
    receipts: Receipts | None = None,
) -> Record:
    """Begin a new generation of a job, with all counters at 0.

    Raises:
        Conflict: `wrong_status`, `object_withheld`, or `source_missing` if the uploaded file no longer exists.
    """
    check_retry(objects, find(store, caller, video_id))
    retried = store.retry(video_id, by=caller.owner, receipts=receipts)
    wake_relay()
    _log.info("video retried", video_id=video_id, by=caller.owner, generation=retried.job.generation)
    return retried


def check_retry(objects: Objects, record: Record) -> None:
    """Check that the job's status allows a retry, and that the uploaded file still exists.

    Raises:
        Conflict: `wrong_status`, `object_withheld` or `source_missing`.
    """
    next_status(record.job.status, Change.RETRY)
    if objects.head(record.video.source_key) is None:
        raise Conflict(
            "source_missing", f"The uploaded file of video {record.video.id} is gone: upload it again as a new video."
        )


def delete(store: CommandStore, caller: Caller, video_id: str) -> None:
    """Cancel the job and hide the video from people. The video's objects are deleted after DELETION_GRACE."""
    find(store, caller, video_id)
    store.delete(video_id, by=caller.owner, grace=DELETION_GRACE)
    _log.info("video deleted", video_id=video_id, by=caller.owner)
