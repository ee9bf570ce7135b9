"""Read access to videos: lists, explanations and download URLs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from anb_core.domain.errors import Conflict
from anb_core.domain.explanation import explain
from anb_core.domain.model import Record
from anb_core.domain.naming import result_file_name
from anb_core.domain.status import Status
from anb_core.ports.objects import Objects
from anb_core.ports.store import Page, Reading
from anb_core.usecases.visibility import Caller, check_visible, find


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a list of videos, ordered from new to old."""

    records: Sequence[Record]
    after: Page | None
    """Position of the next page. None if no next page exists."""


def browse(
    store: Reading, caller: Caller, *, statuses: Collection[Status] = (), after: Page | None = None, limit: int
) -> Listing:
    """List at most `limit` videos that the caller may see."""
    # Read one video more than requested, to find out whether a next page exists.
    found = store.listing(owner=caller.sees_owner, statuses=statuses, after=after, limit=limit + 1)
    shown = found[:limit]
    more = len(found) > limit
    return Listing(shown, Page(shown[-1].video.created_at, shown[-1].video.id) if more else None)


def why(store: Reading, caller: Caller, video_id: str) -> tuple[Record, Sequence[str]]:
    """Return a video, and texts that say where it is and what it waits for.

    Raises:
        NotFound: `video_not_found` if the video does not exist, or the caller may not see it.
    """
    history = store.history(video_id)
    record = check_visible(caller, video_id, history.record)
    surroundings = store.surroundings(video_id)
    return record, explain(record, history.attempts, dead_letter=history.dead_letter, surroundings=surroundings)


def download_url(store: Reading, objects: Objects, caller: Caller, video_id: str, *, lifetime: timedelta) -> str:
    """Return a URL from which the finished video can be downloaded for `lifetime`.

    Raises:
        NotFound: `video_not_found` if the video does not exist, or the caller may not see it.
        Conflict: `not_processed` if the video has no result.
    """
    record = find(store, caller, video_id)
    job = record.job
    if job.status is not Status.PROCESSED or job.result is None:
        raise Conflict("not_processed", f"Video {video_id} is {job.status}; it can be downloaded once it is processed.")
    return objects.download_url(job.result.key, file_name=result_file_name(record.video.file_name), lifetime=lifetime)
