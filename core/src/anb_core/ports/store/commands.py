"""The store's port for the commands that people give for videos."""

from datetime import timedelta
from typing import Protocol

from anb_core.domain.model import Receipts, Record


class Commands(Protocol):
    """The commands that a person may give for a video.

    `receipts` are stored with the job. A receipt replaces the earlier receipt of the same issuer.
    `by` names the person or program that gives the command. The name is stored with the dead letters that are resolved.

    Raises:
        NotFound: `video_not_found` if the video does not exist or was deleted.
        Conflict: `wrong_status` if the job's status does not allow the command.
    """

    def cancel(self, video_id: str, *, receipts: Receipts | None = None) -> Record:
        """Cancel a job whose status is not terminal. A running attempt loses its lease and ends as superseded."""
        ...

    def retry(self, video_id: str, *, by: str, receipts: Receipts | None = None) -> Record:
        """Begin a new generation of the job: set its counters to 0, add an outbox entry, resolve its open dead letters.

        Raises:
            Conflict: `wrong_status`, or `source_missing` if the job was cancelled before its upload was complete.
        """
        ...

    def delete(self, video_id: str, *, by: str, grace: timedelta) -> None:
        """Cancel the job and hide the video from people.

        After `grace`, the sweep deletes the objects, and later the rows.
        The open dead letters of the video are resolved as deleted.
        """
        ...
