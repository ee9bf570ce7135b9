"""Upload sessions: begin, append, complete or abandon. The caller reads the bytes and calls these methods.

A session first creates the rows of the video and its job, then streams the bytes to the bucket.
Finally, one transaction schedules the job.
The session never holds the whole file in memory or on disk. Two threads must not use a session at the same time.
"""

import hashlib
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Protocol, Self

import structlog

from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import AnbError, Conflict, Held, Invalid, NotFound, Unavailable
from anb_core.domain.fingerprint import fingerprint_of
from anb_core.domain.formats import SNIFF_BYTES
from anb_core.domain.intake import check_first_bytes, check_size
from anb_core.domain.keys import upload_key
from anb_core.domain.limits import NO_LIMITS, Limits
from anb_core.domain.model import Idempotency, NewVideo, Record, Source
from anb_core.domain.naming import clean_title, safe_file_name, title_from_file_name
from anb_core.domain.object_notes import note_of_upload
from anb_core.domain.schedule import parse_process_after
from anb_core.ports.objects import Objects, ObjectWriter
from anb_core.ports.runtime import Runtime
from anb_core.ports.store import Clock, Replay, Uploads
from anb_core.usecases.patience import patiently
from anb_core.usecases.visibility import Caller

UPLOAD_LIFETIME = timedelta(minutes=3)
"""The sweep abandons an upload that was not renewed for this time. No call to the bucket takes this long."""

RENEWAL_INTERVAL = timedelta(seconds=5)
"""Time between two renewals while bytes arrive. A renewal also detects that the upload was cancelled."""

SILENCE = timedelta(seconds=20)
"""If an upload was not renewed for this time, the next upload with the same Idempotency-Key may take the key.

A client whose connection breaks may repeat the upload before the server detects the break.
"""

COMPLETION_PAUSES = (0.2, 1.0, 3.0)
"""Pauses between the tries to complete an upload, in seconds.
If all tries fail, the client must send the file again."""

CONTENT_TYPE = "video/mp4"

_log = structlog.get_logger(__name__)


class UploadStore(Uploads, Clock, Protocol):
    """The protocols of the store that upload sessions use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSessions:
    """Begins upload sessions. One object serves all uploads of a program."""

    store: UploadStore
    objects: Objects
    max_bytes: int
    """Maximum size of an uploaded file, in bytes."""
    limits: Limits = NO_LIMITS
    idempotency_lifetime: timedelta
    """How long an Idempotency-Key is stored."""
    wake_relay: Callable[[], None]
    """Function that is called after a job was scheduled. The function must not block."""
    runtime: Runtime
    new_id: Callable[[], str]
    """Returns a new id for a video or a job."""

    def check_limits(self, caller: Caller, *, size: int | None, idempotency_key: str | None = None) -> None:
        """Check before an upload begins whether a limit would refuse it. `size` is as in `begin`.

        Raises:
            LimitReached: `backlog_full` or `quota_exceeded`.
        """
        if self.limits != NO_LIMITS:
            self.store.check_limits(self.limits, owner=caller.owner, size=size, idempotency_key=idempotency_key)

    def begin(
        self,
        caller: Caller,
        *,
        file_name: str,
        size: int | None = None,
        title: str | None = None,
        edit: EditSpec | None = None,
        process_after: str | None = None,
        idempotency_key: str | None = None,
    ) -> "UploadSession":
        """Begin an upload. Use the returned session as a context manager.

        `size` is the announced size of the upload in bytes, or None if unknown.
        The caller may also give `title`, `edit` and `process_after` later, to `complete`.

        Raises:
            Invalid: a fault that `clean_title` or `parse_process_after` finds.
        """
        video_id = self.new_id()
        new = NewVideo(
            id=video_id,
            task_id=self.new_id(),
            owner=caller.owner,
            title=clean_title(title) if title is not None else title_from_file_name(file_name),
            edit=edit or EditSpec(),
            source_key=upload_key(video_id),
            owned=True,
            file_name=safe_file_name(file_name),
            process_after=self.time_of(process_after),
        )
        idempotency = Idempotency(idempotency_key, self.idempotency_lifetime, SILENCE) if idempotency_key else None
        return UploadSession(self, new, size, idempotency)

    def time_of(self, process_after: str | None) -> datetime | None:
        """Return the time that the text of `process_after` means by the database's clock, or None if there is no text.

        Raises:
            Invalid: `process_after_invalid`.
        """
        return None if process_after is None else parse_process_after(process_after, self.store.now())


class UploadSession:
    """One upload. The upload is abandoned if the block of the context manager ends before `complete` returns.

    If the owner already has a finished upload with the same Idempotency-Key, no video is created.
    In this case, the session only compares the received file with the finished upload.
    """

    def __init__(
        self, sessions: UploadSessions, new: NewVideo, size: int | None, idempotency: Idempotency | None
    ) -> None:
        self._sessions = sessions
        self._new = new
        self._announced_size = size
        self._idempotency = idempotency
        self._head: bytes | None = b""
        """The first bytes of the file, until the container is detected from them. None after the detection."""
        self._size = 0
        self._digest = hashlib.sha256()
        self._renewed_at = 0.0
        """Monotonic time of the last renewal of the upload, in seconds."""
        self._replay: Replay | None = None
        self._writer: ObjectWriter | None = None
        self._writing = ExitStack()
        self._unfinished = False
        """Whether the database may have rows that must be removed if the upload is abandoned."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()

    def append(self, piece: bytes) -> None:
        """Append the next bytes of the file. As soon as the first bytes show that the file is a video, create the rows.

        Raises:
            Invalid: `not_a_video` or `file_too_large`.
            LimitReached: `backlog_full` or `quota_exceeded`.
            Held: `upload_in_progress` if an unfinished upload has the same key and was renewed recently.
            Conflict: `upload_ended` if the upload was cancelled, deleted or abandoned meanwhile.
        """
        if self._head is None:
            self._take(piece)
            return
        self._head += piece
        if len(self._head) >= SNIFF_BYTES:
            self._open(self._head)

    def complete(self, title: str | None, edit: EditSpec | None, process_after: str | None = None) -> Record:
        """End the upload and schedule the job. Call this after all bytes were appended.

        `title`, `edit` and `process_after` replace the values that were given to `begin`.
        If `process_after` is a number of seconds, they count from now.

        Raises:
            Invalid: `title_missing`, `file_empty`, `process_after_invalid`, or a code of `clean_title` or `append`.
                `idempotency_key_reused` if the earlier upload with the same key had another title, edit, time or file.
            Conflict: `upload_ended` if the upload was cancelled, deleted or abandoned meanwhile.
        """
        if self._head is not None:
            self._open(self._head)
        if title is None:
            raise Invalid("title_missing", "The form has no field 'title'.")
        title, edit = clean_title(title), edit or EditSpec()
        source = Source(self._size, self._digest.hexdigest())
        fingerprint = fingerprint_of(title, edit, source, process_after)
        if self._replay is not None:
            return _check_same_upload(self._replay, fingerprint)
        at = self._sessions.time_of(process_after)
        self._renew()
        assert self._writer is not None  # noqa: S101 - opened together with the rows
        self._writer.commit()
        self._writing.close()
        self._unfinished = False
        return self._schedule(source, title, edit, at, fingerprint)

    def abandon(self) -> None:
        """Remove the rows and the object of the upload, unless the upload is complete.

        If the database does not answer now, the sweep removes the rows and the object after UPLOAD_LIFETIME.
        """
        try:
            self._writing.close()
        finally:
            if self._unfinished:
                self._unfinished = False
                try:
                    self._sessions.store.abandon_upload(self._new.id)
                except AnbError as error:
                    _log.warning("upload left to the sweep", video_id=self._new.id, reason=error.message)

    def _open(self, head: bytes) -> None:
        self._head = None
        check_first_bytes(head)
        parts, new = self._sessions, self._new
        # Set the flag before the call, because the call may be committed even if it raises an error.
        self._unfinished = True
        begun = parts.store.begin_upload(
            new,
            lifetime=UPLOAD_LIFETIME,
            idempotency=self._idempotency,
            size=self._announced_size,
            limits=parts.limits,
        )
        if isinstance(begun, Replay):
            self._unfinished = False
            if begun.fingerprint is None:
                raise _in_progress(begun)
            self._replay = begun
        else:
            self._renewed_at = parts.runtime.monotonic()
            writing = parts.objects.writing(new.source_key, content_type=CONTENT_TYPE, note=note_of_upload(new))
            self._writer = self._writing.enter_context(writing)
        self._take(head)

    def _take(self, piece: bytes) -> None:
        self._size += len(piece)
        check_size(self._size, self._sessions.max_bytes)
        self._digest.update(piece)
        if self._writer is None:
            return
        self._writer.write(piece)
        if self._sessions.runtime.monotonic() - self._renewed_at >= RENEWAL_INTERVAL.total_seconds():
            self._renew()
            self._renewed_at = self._sessions.runtime.monotonic()

    def _renew(self) -> None:
        try:
            renewed = self._sessions.store.renew_upload(self._new.id, lifetime=UPLOAD_LIFETIME)
        except Unavailable as error:
            # Ignore a short outage. If the outage lasts longer than UPLOAD_LIFETIME, `complete` fails.
            _log.warning("upload not renewed", video_id=self._new.id, reason=error.message)
            return
        if not renewed:
            raise _ended(self._new.id)

    def _schedule(
        self, source: Source, title: str, edit: EditSpec, process_after: datetime | None, fingerprint: str
    ) -> Record:
        parts, new = self._sessions, self._new
        try:
            # A failed call may have been committed, so keep the object. A repeated call then returns the same record.
            record = patiently(
                lambda: parts.store.complete_upload(
                    new.id, source, title=title, edit=edit, process_after=process_after, fingerprint=fingerprint
                ),
                parts.runtime,
                "upload not completed, tried again",
                pauses=COMPLETION_PAUSES,
                video_id=new.id,
            )
        except (NotFound, Conflict):
            self._remove_object()
            raise _ended(new.id) from None
        parts.wake_relay()
        _log.info("upload completed", video_id=new.id, owner=new.owner, size=source.size)
        return record

    def _remove_object(self) -> None:
        """Delete the object of an upload that has lost its rows. The sweep deletes the object again a day later."""
        key = self._new.source_key
        try:
            self._sessions.objects.delete([key])
        except Unavailable as error:
            _log.warning("object left to the sweep", video_id=self._new.id, key=key, reason=error.message)


def _check_same_upload(replay: Replay, fingerprint: str) -> Record:
    if fingerprint != replay.fingerprint:
        raise Invalid(
            "idempotency_key_reused",
            f"Video {replay.record.video.id} has this key with another title, edit, time or file: use a new key.",
        )
    return replay.record


def _in_progress(replay: Replay) -> Held:
    wait = replay.held or SILENCE
    sentence = f"An upload with this Idempotency-Key is running; ask again in {math.ceil(wait.total_seconds())} s."
    return Held("upload_in_progress", sentence, wait)


def _ended(video_id: str) -> Conflict:
    return Conflict("upload_ended", f"Upload {video_id} was cancelled, deleted or abandoned before it was complete.")
