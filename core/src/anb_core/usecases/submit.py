"""Submit an object that is already in the bucket."""

import reprlib
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TypeVar

import structlog

from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import Conflict, Invalid, NotFound
from anb_core.domain.formats import SNIFF_BYTES
from anb_core.domain.intake import check_first_bytes, check_size
from anb_core.domain.keys import MAX_KEY_BYTES, UPLOADS, utf8_bytes
from anb_core.domain.model import NewVideo, Receipts, Record, Source
from anb_core.domain.naming import check_video_id, clean_title, safe_file_name, title_from_file_name
from anb_core.ports.objects import Objects, Peeked, StoredObject
from anb_core.ports.store import Uploads

S = TypeVar("S", StoredObject, Peeked)

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
        self._check_key(key)
        size = self._check(key, self._objects.head(key)).size
        return self.submit_examined(
            key,
            size,
            video_id,
            owner=owner,
            title=title,
            edit=edit,
            process_after=process_after,
            receipts=receipts,
        )

    def check_prefix(self, prefix: str) -> None:
        """Check that all objects whose keys begin with `prefix` may be submitted.

        Raises:
            Invalid: `key_not_allowed`.
        """
        if not prefix.startswith(self._prefixes):
            raise self._not_allowed(prefix)
        _check_form(prefix)

    def examine(self, key: str) -> Peeked:
        """Return an object that can be submitted with `submit_examined`. Its first bytes are those of a video.

        Raises:
            Invalid: `key_not_allowed`, `not_a_video`, or the size is not allowed.
            NotFound: `source_missing` if the object does not exist.
            Withheld: `object_withheld` if the bucket denies us access to the object.
        """
        self._check_key(key)
        peeked = self._check(key, self._objects.peek(key, SNIFF_BYTES))
        check_first_bytes(peeked.head)
        return peeked

    def submit_examined(
        self,
        key: str,
        size: int,
        video_id: str,
        *,
        owner: str,
        title: str | None = None,
        edit: EditSpec | None = None,
        process_after: datetime | None = None,
        receipts: Receipts | None = None,
    ) -> tuple[Record, bool]:
        """Create a video as `submit_existing` does, for an object whose key and size were already checked."""
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
        record, created = self._store.submit_existing(new, Source(size))
        if (record.video.source_key, record.video.owner) != (key, owner):
            raise Conflict("video_exists", f"Video {video_id} exists with another object or owner; choose another id.")
        if created:
            self._wake_relay()
            _log.info("object submitted", video_id=video_id, owner=owner, key=key)
        return record, created

    def _check_key(self, key: str) -> None:
        if not key.startswith(self._prefixes) or key.endswith("/"):
            raise self._not_allowed(key)
        _check_form(key)

    def _not_allowed(self, key: str) -> Invalid:
        allowed = ", ".join(self._prefixes)
        return Invalid(
            "key_not_allowed",
            f"{key!r} can't be submitted: only objects under {allowed} can. ANB_SOURCE_PREFIXES adds others.",
        )

    def _check(self, key: str, found: S | None) -> S:
        if found is None:
            raise NotFound("source_missing", f"There is no object {key!r} in bucket {self._objects.bucket}.")
        check_size(found.size, self._max_bytes)
        return found


def _check_form(key: str) -> None:
    # The bucket would refuse such a request, which would look like an outage of the bucket.
    if not 0 < utf8_bytes(key) <= MAX_KEY_BYTES:
        message = f"{reprlib.repr(key)} can't be submitted: a key has 1 to {MAX_KEY_BYTES} bytes in UTF-8."
        raise Invalid("key_not_allowed", message)
    # A database would store another key, and the worker would not find the object.
    if "\0" in key:
        raise Invalid("key_not_allowed", f"{reprlib.repr(key)} can't be submitted: its key has the character NUL.")
