"""An upload is a session: begin, append, complete, abandon. Whoever has the bytes drives it.

First a row is written, then the bytes, then one transaction promises the work. Nothing is kept whole in memory or on
disk. A session belongs to one thread.
"""

import hashlib
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self

import structlog

from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import AnbError, Conflict, Held, Invalid, NotFound, Unavailable
from anb_core.domain.fingerprint import fingerprint_of
from anb_core.domain.formats import SNIFF_BYTES
from anb_core.domain.intake import check_first_bytes, check_size
from anb_core.domain.keys import upload_key
from anb_core.domain.model import Idempotency, NewVideo, Record, Source
from anb_core.domain.naming import clean_title, safe_file_name, title_from_file_name
from anb_core.ports.objects import Objects, ObjectWriter
from anb_core.ports.runtime import Runtime
from anb_core.ports.store import Replay, Uploads
from anb_core.usecases.patience import patiently
from anb_core.usecases.visibility import Caller

UPLOAD_LIFETIME = timedelta(minutes=3)
"""After so long without a renewal the sweep abandons an upload; the bucket's client gives up on a part before."""

RENEWAL_INTERVAL = timedelta(seconds=5)
"""How often an upload is renewed while bytes arrive, and so how soon it notices that it was cancelled."""

SILENCE = timedelta(seconds=20)
"""An upload that was not renewed for so long gives its Idempotency-Key up to the next one: who sends the same upload
again has lost the connection of the first, though this side of it may not know yet."""

COMPLETION_PAUSES = (0.2, 1.0, 3.0)
"""Seconds between the tries to complete an upload: after a whole upload it is worth waiting for the database."""

CONTENT_TYPE = "video/mp4"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSessions:
    """Begins uploads. `wake_relay` is called once work is promised; nobody waits for it."""

    store: Uploads
    objects: Objects
    max_bytes: int
    idempotency_lifetime: timedelta
    wake_relay: Callable[[], None]
    runtime: Runtime
    new_id: Callable[[], str]

    def begin(
        self,
        caller: Caller,
        *,
        file_name: str,
        title: str | None = None,
        edit: EditSpec | None = None,
        idempotency_key: str | None = None,
    ) -> "UploadSession":
        """Begin an upload with what is known of it so far. Use the session as a context manager.

        Raises:
            Invalid: the title is against the rules.
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
        )
        idempotency = Idempotency(idempotency_key, self.idempotency_lifetime, SILENCE) if idempotency_key else None
        return UploadSession(self, new, idempotency)


class UploadSession:
    """One upload. Leaving its context before the file is whole abandons it, whatever the reason.

    When an upload with the same Idempotency-Key is finished already, the bytes are only compared with it.
    """

    def __init__(self, sessions: UploadSessions, new: NewVideo, idempotency: Idempotency | None) -> None:
        self._sessions = sessions
        self._new = new
        self._idempotency = idempotency
        self._head: bytes | None = b""
        """The first bytes, until they are enough to judge the file by."""
        self._size = 0
        self._digest = hashlib.sha256()
        self._renewed = 0.0
        self._replay: Replay | None = None
        self._writer: ObjectWriter | None = None
        self._writing = ExitStack()
        self._unfinished = False
        """Whether there may be a row that nobody needs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()

    def append(self, piece: bytes) -> None:
        """Take the next bytes of the file. The row is written as soon as the first bytes show a video.

        Raises:
            Invalid: `not_a_video`, `file_too_large`.
            Held: `upload_in_progress` with the same key, which is not silent for long enough to be taken over.
            Conflict: `upload_ended` by somebody meanwhile.
        """
        if self._head is None:
            self._take(piece)
            return
        self._head += piece
        if len(self._head) >= SNIFF_BYTES:
            self._open(self._head)

    def complete(self, title: str | None, edit: EditSpec | None) -> Record:
        """Promise to process the file, which is whole now. `title` and `edit` replace those it began with.

        Raises:
            Invalid: `title_missing`, the title is against the rules; `file_empty`; what `append` raises;
                `idempotency_key_reused`, the upload with the same key had another title, edit or file.
            Conflict: `upload_ended` by somebody meanwhile.
        """
        if self._head is not None:
            self._open(self._head)
        if title is None:
            raise Invalid("title_missing", "The form has no field 'title'.")
        title, edit = clean_title(title), edit or EditSpec()
        source = Source(self._size, self._digest.hexdigest())
        fingerprint = fingerprint_of(title, edit, source)
        if self._replay is not None:
            return _repeated(self._replay, fingerprint)
        self._renew()
        assert self._writer is not None  # noqa: S101 - opened with the row
        self._writer.commit()
        self._writing.close()
        self._unfinished = False
        return self._promise(source, title, edit, fingerprint)

    def abandon(self) -> None:
        """Leave neither row nor object behind, if the file is not whole yet.

        When the database does not answer at this moment, the sweep clears up `UPLOAD_LIFETIME` later.
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
        # Also when the call fails: the answer to a commit may be lost.
        self._unfinished = True
        begun = parts.store.begin_upload(new, lifetime=UPLOAD_LIFETIME, idempotency=self._idempotency)
        if isinstance(begun, Replay):
            self._unfinished = False
            if begun.fingerprint is None:
                raise _in_progress(begun)
            self._replay = begun
        else:
            self._renewed = parts.runtime.monotonic()
            self._writer = self._writing.enter_context(parts.objects.writing(new.source_key, content_type=CONTENT_TYPE))
        self._take(head)

    def _take(self, piece: bytes) -> None:
        self._size += len(piece)
        check_size(self._size, self._sessions.max_bytes)
        self._digest.update(piece)
        if self._writer is None:
            return
        self._writer.write(piece)
        if self._sessions.runtime.monotonic() - self._renewed >= RENEWAL_INTERVAL.total_seconds():
            self._renew()
            self._renewed = self._sessions.runtime.monotonic()

    def _renew(self) -> None:
        try:
            ours = self._sessions.store.renew_upload(self._new.id, lifetime=UPLOAD_LIFETIME)
        except Unavailable as error:
            # The lifetime outlasts a short outage, and completing the upload will tell.
            _log.warning("upload not renewed", video_id=self._new.id, reason=error.message)
            return
        if not ours:
            raise _ended(self._new.id)

    def _promise(self, source: Source, title: str, edit: EditSpec, fingerprint: str) -> Record:
        parts, new = self._sessions, self._new
        try:
            # The answer to a commit may be lost, so nothing is deleted: asking again shows what became of it.
            record = patiently(
                lambda: parts.store.complete_upload(new.id, source, title=title, edit=edit, fingerprint=fingerprint),
                parts.runtime,
                "upload not completed, tried again",
                pauses=COMPLETION_PAUSES,
                video_id=new.id,
            )
        except (NotFound, Conflict):
            self._remove_object()
            raise _ended(new.id) from None
        parts.wake_relay()
        _log.info("video taken in", video_id=new.id, owner=new.owner, size=source.size)
        return record

    def _remove_object(self) -> None:
        """The row went before the object was whole, so the object goes now; the sweep looks again a day later."""
        key = self._new.source_key
        try:
            self._sessions.objects.delete([key])
        except Unavailable as error:
            _log.warning("object left to the sweep", video_id=self._new.id, key=key, reason=error.message)


def _repeated(replay: Replay, fingerprint: str) -> Record:
    if fingerprint != replay.fingerprint:
        raise Invalid(
            "idempotency_key_reused",
            f"Video {replay.record.video.id} has this key with another title, edit or file: use a new key.",
        )
    return replay.record


def _in_progress(replay: Replay) -> Held:
    wait = replay.held or SILENCE
    sentence = f"An upload with this Idempotency-Key is under way; ask again in {math.ceil(wait.total_seconds())} s."
    return Held("upload_in_progress", sentence, wait)


def _ended(video_id: str) -> Conflict:
    return Conflict("upload_ended", f"Upload {video_id} was cancelled, deleted or given up meanwhile.")
