"""The store's port for uploads, up to the status `uploaded`."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from anb_core.domain.edit import EditSpec
from anb_core.domain.model import Idempotency, NewVideo, Record, Source


@dataclass(frozen=True, slots=True)
class Replay:
    """The result of `begin_upload` if the owner already has an upload with the same Idempotency-Key."""

    record: Record
    """The video and the job of the earlier upload."""
    fingerprint: str | None
    """Fingerprint of the earlier upload. None while the earlier upload is in progress."""
    held: timedelta | None = None
    """Time until the earlier upload loses the key unless the upload is renewed. None if the key stays in use."""


class Uploads(Protocol):
    """Uploads and submissions of videos, until the status is `uploaded`."""

    def begin_upload(
        self, new: NewVideo, *, lifetime: timedelta, idempotency: Idempotency | None = None
    ) -> Record | Replay:
        """Create a video and its job with the status `uploading`.

        The sweep abandons an upload that is not renewed within `lifetime`.
        The Idempotency-Key becomes free when it expires, its upload is abandoned or cancelled, or its video is deleted.
        If an earlier upload with the same key was not renewed for `idempotency.silence`, that upload is abandoned.

        Raises:
            Conflict: `video_exists` if the id is in use, or `source_taken` if an earlier upload left its object.
        """
        ...

    def renew_upload(self, video_id: str, *, lifetime: timedelta) -> bool:
        """Extend the lifetime of an upload in progress. False if the upload was cancelled or abandoned meanwhile."""
        ...

    def complete_upload(
        self,
        video_id: str,
        source: Source,
        *,
        title: str | None = None,
        edit: EditSpec | None = None,
        fingerprint: str | None = None,
    ) -> Record:
        """Set the status `uploaded`, and add an event and an outbox entry.

        A second call with the same source changes nothing.
        If `title` or `edit` is given, the new value replaces the value from the beginning of the upload.

        Raises:
            NotFound: `video_not_found` if the upload was abandoned or deleted meanwhile.
            Conflict: `wrong_status` if the upload was cancelled meanwhile.
        """
        ...

    def abandon_upload(self, video_id: str) -> None:
        """Remove the rows of an unfinished upload. A video with any other status is not changed.

        The upload's object is deleted at once, and again 24 h later because another process may still write the object.
        """
        ...

    def submit_existing(self, new: NewVideo, source: Source) -> tuple[Record, bool]:
        """Create a video with the status `uploaded` for an object that is already in the bucket.

        If a video with the same id exists, that video is returned unchanged, even if it has another owner.
        The second returned value is True if the video is new.

        Raises:
            NotFound: `video_not_found` if a video with the same id was deleted.
            Conflict: `source_taken` if the object is, or was, the upload of another video.
        """
        ...
