"""The store's port for a reconciliation with the bucket, after the database was restored to an earlier state."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from anb_core.domain.model import Record, Result
from anb_core.domain.reconciliation import Known


class Restoring(Protocol):
    """Compares the rows with objects, and corrects rows whose later changes were lost."""

    def known_videos(self, video_ids: Collection[str]) -> Mapping[str, Known]:
        """Return what the database knows about the objects of these video ids.

        Ids whose rows this version can't read are left out.
        """
        ...

    def videos_after(self, video_id: str, *, limit: int) -> Sequence[Record]:
        """Return the next videos in the order of their ids. Deleted and unreadable videos are left out.

        "" begins with the first video. If fewer than `limit` videos are returned, no more videos exist.
        """
        ...

    def restore_result(self, video_id: str, result: Result, *, worker: str, by: str) -> Record:
        """Make a result current that the bucket has. `worker` made the result, and `by` resolves the dead letters.

        Raises:
            NotFound: `video_not_found` if the video does not exist or was deleted.
            Conflict: `wrong_status` if the job is processed or uploading, an attempt runs, or a later one was made.
        """
        ...

    def render_again(self, video_id: str) -> Record:
        """Begin a new generation of a processed job whose result is gone from the bucket.

        Raises:
            NotFound: `video_not_found` if the video does not exist or was deleted.
            Conflict: `wrong_status` if the job is not processed.
        """
        ...

    def discard_results(self, video_id: str, keys: Collection[str]) -> None:
        """Delete result objects of which no row knows, as soon as possible and again 24 h later."""
        ...
