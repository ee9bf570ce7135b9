"""Submit an object that is already in the bucket. The Kubernetes operator and the worker use this module."""

import reprlib
from collections.abc import Callable, Iterable
from datetime import datetime

import structlog

from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import Conflict, Invalid, NotFound
from anb_core.domain.intake import check_size
from anb_core.domain.keys import MAX_KEY_BYTES, UPLOADS, utf8_bytes
from anb_core.domain.model import NewVideo, Receipts, Record, Source
from anb_core.domain.naming import check_video_id, clean_title, safe_file_name, title_from_file_name
from anb_core.ports.objects import Objects
from anb_core.ports.store import Uploads

_log = structlog.get_logger(__name__)


class Submit:
    """Submits objects for processing. `wake_relay` is called after a job was scheduled, and must not block."""

    def __init__(
        self,
        store: Uploads,
        objects: Objects,
        *,
        max_bytes: int,
        source_prefixes: Iterable[str],
        wake_relay: Callable[[], None],
        new_id: Callable[[], str],
    ) -> None:
        self._store = store
        self._objects = objects
        self._max_bytes = max_bytes
        self._prefixes = (UPLOADS, *source_prefixes)
        self._wake_relay = wake_relay
        self._new_id = new_id

    def submit_existing(
        self,
        key: str,
        video_id: str,
        *,
        owner: str,
        title: str | None = None,
        edit: EditSpec | None = None,
        process_after: datetime | None = None,
        receipts: Receipts | None = None,
    ) -> tuple[Record, bool]:
        """Create a video for an object that another program put into the bucket. Our programs never delete this object.

        The work does not begin before `process_after`. None, or a time in the past, means now.
        A repeated call with the same object, id and owner returns the same video.
        The second returned value is True if the video is new.

        Raises:
            Invalid: `key_not_allowed`, `video_id_invalid`, or the title or size is not allowed.
            NotFound: `source_missing` if the object does not exist, or `video_not_found` if the video was deleted.
            Conflict: `video_exists` if the video has another object or another owner.
                `source_taken` if the object belongs to another video.
                `object_withheld` if the bucket denies us access to the object.
        """
        check_video_id(video_id)
        if not key.startswith(self._prefixes) or key.endswith("/"):
            allowed = ", ".join(self._prefixes)
            raise Invalid("key_not_allowed", f"{key!r} can't be submitted: only objects under {allowed} can.")
        # The bucket would refuse such a request, which would look like an outage of the bucket.
        if not 0 < utf8_bytes(key) <= MAX_KEY_BYTES:
            message = f"{reprlib.repr(key)} can't be submitted: a key has 1 to {MAX_KEY_BYTES} bytes in UTF-8."
            raise Invalid("key_not_allowed", message)
        stored = self._objects.head(key)
        if stored is None:
            raise NotFound("source_missing", f"There is no object {key!r} in bucket {self._objects.bucket}.")
        check_size(stored.size, self._max_bytes)
        new = NewVideo(
            id=video_id,
            task_id=self._new_id(),
            owner=owner,
            title=clean_title(title) if title is not None else title_from_file_name(key),
            edit=edit or EditSpec(),
            source_key=key,
            owned=False,
            file_name=safe_file_name(key),
            receipts=receipts or {},
            process_after=process_after,
        )
        record, created = self._store.submit_existing(new, Source(stored.size))
        if (record.video.source_key, record.video.owner) != (key, owner):
            raise Conflict("video_exists", f"Video {video_id} exists with another object or owner; choose another id.")
        if created:
            self._wake_relay()
            _log.info("object submitted", video_id=video_id, owner=owner, key=key)
        return record, created
