"""The store's port for uploads, up to the status `uploaded`."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from anb_core.domain.adoption import KnownSource
from anb_core.domain.edit import EditSpec
from anb_core.domain.limits import NO_LIMITS, Limits
from anb_core.domain.model import Idempotency, NewVideo, Record, Source


@dataclass(frozen=True, slots=True)
class Replay:
    """The result of `begin_upload` if the owner already has an upload with the same Idempotency-Key."""

    record: Record
    """The video and the job of the earlier upload."""
    fingerprint: str | None
    """Fingerprint of the earlier upload. None while the earlier upload is in progress."""
    held: timedelta | None = None
    """Time after which a new upload can take the key, unless the earlier upload is renewed. None if it can't."""


class Uploads(Protocol):
    """Uploads and submissions of videos, until the status is `uploaded`."""

    def check_limits(
        self, limits: Limits, *, owner: str, size: int | None = None, idempotency_key: str | None = None
    ) -> None:
        """Check whether `begin_upload` would accept an upload of the owner now. `size` is as in `begin_upload`.

        If the owner already has an upload with the same Idempotency-Key, nothing is checked.

        Raises:
            LimitReached: `backlog_full` or `quota_exceeded`.
        """
        ...

    def begin_upload(
        self,
        new: NewVideo,
        *,
        lifetime: timedelta,
        idempotency: Idempotency | None = None,
        size: int | None = None,
        limits: Limits = NO_LIMITS,
    ) -> Record | Replay:
        """Create a video and its job with the status `uploading`.

        The sweep abandons an upload that is not renewed within `lifetime`.
        An Idempotency-Key becomes free when it expires, its upload is abandoned or cancelled, or its video is deleted.
        An unfinished upload that was not renewed for `idempotency.silence` loses its key to the new upload, and is
        abandoned.
        `size` is the announced size of the upload in bytes, which counts as stored until the upload ends.
        None if the size is unknown. The limits hold even if several uploads begin at the same time.

        Raises:
            LimitReached: `backlog_full` or `quota_exceeded` if the upload would exceed a limit.
            Conflict: `video_exists` if the video's id is in use.
                `source_taken` if an upload of an earlier video with this id left an object that is not deleted yet.
        """
        ...

    def renew_upload(self, video_id: str, *, lifetime: timedelta) -> bool:
        """Extend the lifetime of an unfinished upload. Returns False if the upload was cancelled or abandoned."""
        ...

    def complete_upload(
        self,
        video_id: str,
        source: Source,
        *,
        title: str | None = None,
        edit: EditSpec | None = None,
        process_after: datetime | None = None,
        fingerprint: str | None = None,
    ) -> Record:
        """Set the status `uploaded`, and add an event and an outbox entry.

        The outbox entry is due at `process_after`, or now if this time has passed or is None.

        A repeated call with the same source changes nothing.
        If `title`, `edit` or `process_after` is given, it replaces the value that was given when the upload began.

        Raises:
            NotFound: `video_not_found` if the upload was abandoned or deleted meanwhile.
            Conflict: `wrong_status` if the upload was cancelled meanwhile.
        """
        ...

    def abandon_upload(self, video_id: str) -> None:
        """Remove the rows of an upload, unless the upload is complete or was cancelled.

        The object of the upload is deleted as soon as possible, and again 24 h later.
        The second deletion is needed because another process may still write the object after the first one.
        """
        ...

    def submit_existing(self, new: NewVideo, source: Source) -> tuple[Record, bool]:
        """Create a video with the status `uploaded` for an object that is already in the bucket.

        The outbox entry is due at `new.process_after`, or now if this time has passed or is None.

        If a video with the same id exists, the existing video is returned unchanged, even if it has another owner.
        The second returned value is True if the video is new.

        Raises:
            NotFound: `video_not_found` if a video with the same id was deleted.
            Conflict: `source_taken` if the object belongs or belonged to another video.
        """
        ...

    def known_sources(self, keys: Collection[str]) -> Sequence[KnownSource]:
        """Return which of the objects with the given keys are or were sources of videos.

        An object that several videos share is returned for each of them. Our own objects are also returned while they
        wait for their deletion.
        """
        ...
