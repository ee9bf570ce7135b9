"""Submit: a row first, then the bytes, then one transaction that promises the work.

Nothing is kept whole in memory or on disk. The API runs `upload` in a thread an upload; operator and worker
submit objects that are there already.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import Protocol
from uuid import uuid4

import structlog

from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import AnbError, Conflict, Held, Invalid, NotFound, TooLarge, Unavailable
from anb_core.domain.formats import ACCEPTED, SNIFF_BYTES, sniff_container
from anb_core.domain.keys import UPLOADS, upload_key
from anb_core.domain.model import Idempotency, NewVideo, Receipts, Record, Source
from anb_core.domain.naming import check_video_id, clean_title, safe_file_name, title_from_file_name
from anb_core.ports.objects import Objects
from anb_core.ports.store import Replay, Uploads
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


class Form(Protocol):
    """An upload as it arrives: `open_file`, then `read_file`. Both raise `Invalid` for what is wrong in it."""

    @property
    def title(self) -> str | None:
        """As sent; None if it was not sent, or comes after the file and that is not read yet."""
        ...

    @property
    def edit(self) -> EditSpec | None: ...

    def open_file(self) -> str:
        """Read up to the file's first byte; the name that came with it."""
        ...

    def read_file(self) -> Iterator[bytes]:
        """The file in pieces; it ends when all that follows the file was read too."""
        ...


@dataclass(frozen=True, slots=True)
class _Details:
    title: str
    edit: EditSpec


class Submit:
    """Takes videos in. `wake_relay` is called once work is promised; it is never waited for."""

    def __init__(
        self,
        store: Uploads,
        objects: Objects,
        *,
        max_bytes: int,
        source_prefixes: Iterable[str],
        idempotency_lifetime: timedelta,
        wake_relay: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._objects = objects
        self._max_bytes = max_bytes
        self._prefixes = (UPLOADS, *source_prefixes)
        self._idempotency_lifetime = idempotency_lifetime
        self._wake_relay = wake_relay
        self._monotonic = monotonic
        self._sleep = sleep

    def upload(self, caller: Caller, form: Form, *, idempotency_key: str | None = None) -> Record:
        """Take an upload in, from its first byte to the promise to process it.

        Whatever ends it early, an error of `form` too, leaves neither row nor object behind; only when the database
        does not answer at that moment, the sweep clears up `UPLOAD_LIFETIME` later.

        Raises:
            Invalid: the form, a field or the file is wrong.
            Held: `upload_in_progress` with the same key, which is not silent for long enough to be taken over.
            Conflict: `upload_ended` by somebody meanwhile.
        """
        sent_name = form.open_file()
        title = clean_title(form.title) if form.title is not None else None
        pieces = _with_known_container(form.read_file())
        video_id = str(uuid4())
        new = NewVideo(
            id=video_id,
            task_id=str(uuid4()),
            owner=caller.owner,
            title=title or title_from_file_name(sent_name),
            edit=form.edit or EditSpec(),
            source_key=upload_key(video_id),
            owned=True,
            file_name=safe_file_name(sent_name),
        )
        idempotency = Idempotency(idempotency_key, self._idempotency_lifetime, SILENCE) if idempotency_key else None
        try:
            begun = self._store.begin_upload(new, lifetime=UPLOAD_LIFETIME, idempotency=idempotency)
            if isinstance(begun, Replay):
                return self._replay(begun, form, pieces)
            source, details = self._receive(new, form, pieces)
        except BaseException:
            self._abandon(new)
            raise
        return self._complete(new, source, details)

    def submit_existing(
        self,
        key: str,
        video_id: str,
        *,
        owner: str,
        title: str | None = None,
        edit: EditSpec | None = None,
        receipts: Receipts | None = None,
    ) -> tuple[Record, bool]:
        """Promise to process an object that somebody else put into the bucket, once by `video_id`. We never delete it.

        The second value tells whether it is new.

        Raises:
            Invalid: `key_not_allowed`, `video_id_invalid`, a title or size that is against the rules.
            NotFound: `source_missing`; or the video was deleted.
            Conflict: `video_exists`, with another object or owner; `source_taken`, the object is another video's;
                `object_withheld`, the bucket does not give us the object.
        """
        check_video_id(video_id)
        if not key.startswith(self._prefixes) or key.endswith("/"):
            allowed = ", ".join(self._prefixes)
            raise Invalid("key_not_allowed", f"{key!r} can't be submitted: only objects under {allowed} can.")
        stored = self._objects.head(key)
        if stored is None:
            raise NotFound("source_missing", f"There is no object {key} in bucket {self._objects.bucket}.")
        _check_size(stored.size, self._max_bytes)
        new = NewVideo(
            id=video_id,
            task_id=str(uuid4()),
            owner=owner,
            title=clean_title(title) if title is not None else title_from_file_name(key),
            edit=edit or EditSpec(),
            source_key=key,
            owned=False,
            file_name=safe_file_name(key),
            receipts=receipts or {},
        )
        record, created = self._store.submit_existing(new, Source(stored.size))
        if (record.video.source_key, record.video.owner) != (key, owner):
            raise Conflict("video_exists", f"Video {video_id} exists with another object or owner; choose another id.")
        if created:
            self._wake_relay()
            _log.info("object taken in", video_id=video_id, owner=owner, key=key)
        return record, created

    def _receive(self, new: NewVideo, form: Form, pieces: Iterator[bytes]) -> tuple[Source, _Details]:
        digest, size = hashlib.sha256(), 0
        renewed = self._monotonic()
        with self._objects.writing(new.source_key, content_type=CONTENT_TYPE) as writer:
            for piece in pieces:
                size += len(piece)
                _check_size(size, self._max_bytes)
                digest.update(piece)
                writer.write(piece)
                if self._monotonic() - renewed >= RENEWAL_INTERVAL.total_seconds():
                    self._renew(new.id)
                    renewed = self._monotonic()
            details = _details(form)
            self._renew(new.id)
            writer.commit()
        return Source(size, digest.hexdigest()), details

    def _renew(self, video_id: str) -> None:
        try:
            ours = self._store.renew_upload(video_id, lifetime=UPLOAD_LIFETIME)
        except Unavailable as error:
            # The lifetime outlasts a short outage, and completing the upload will tell.
            _log.warning("upload not renewed", video_id=video_id, reason=error.message)
            return
        if not ours:
            raise _ended(video_id)

    def _complete(self, new: NewVideo, source: Source, details: _Details) -> Record:
        fingerprint = _fingerprint(details, source)
        for pause in (*COMPLETION_PAUSES, None):
            try:
                record = self._store.complete_upload(
                    new.id, source, title=details.title, edit=details.edit, fingerprint=fingerprint
                )
            except Unavailable as error:
                # The answer to a commit may be lost, so nothing is deleted: asking again tells what became of it.
                if pause is None:
                    raise
                _log.warning("upload not completed, tried again", video_id=new.id, reason=error.message)
                self._sleep(pause)
            except (NotFound, Conflict):
                self._remove(new)
                raise _ended(new.id) from None
            else:
                self._wake_relay()
                _log.info("video taken in", video_id=new.id, owner=new.owner, size=source.size)
                return record
        raise AssertionError  # the loop above always returns or raises

    def _replay(self, replay: Replay, form: Form, pieces: Iterator[bytes]) -> Record:
        if replay.fingerprint is None:
            raise _in_progress(replay)
        digest, size = hashlib.sha256(), 0
        for piece in pieces:
            size += len(piece)
            _check_size(size, self._max_bytes)
            digest.update(piece)
        if _fingerprint(_details(form), Source(size, digest.hexdigest())) != replay.fingerprint:
            raise Invalid(
                "idempotency_key_reused",
                f"Video {replay.record.video.id} has this key with another title, edit or file: use a new key.",
            )
        return replay.record

    def _abandon(self, new: NewVideo) -> None:
        try:
            self._store.abandon_upload(new.id)
        except AnbError as error:
            _log.warning("upload left to the sweep", video_id=new.id, reason=error.message)

    def _remove(self, new: NewVideo) -> None:
        """The row went before the object was whole, so the object goes now; the sweep looks again a day later."""
        try:
            self._objects.delete([new.source_key])
        except Unavailable as error:
            _log.warning("object left to the sweep", video_id=new.id, key=new.source_key, reason=error.message)


def _with_known_container(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Judge the first bytes, then give all of them.

    Raises:
        Invalid: `file_empty`, `not_a_video`.
    """
    first = b""
    for piece in pieces:
        first += piece
        if len(first) >= SNIFF_BYTES:
            break
    if not first:
        raise Invalid("file_empty", "The file is empty.")
    if sniff_container(first) is None:
        raise Invalid("not_a_video", f"The file is no video, whatever its name says; {ACCEPTED} are accepted.")
    return chain([first], pieces)


def _check_size(size: int, most: int) -> None:
    if size == 0:
        raise Invalid("file_empty", "The file is empty.")
    if size > most:
        raise TooLarge("file_too_large", f"The file has more than the {most} bytes that are allowed.")


def _details(form: Form) -> _Details:
    if form.title is None:
        raise Invalid("title_missing", "The form has no field 'title'.")
    return _Details(clean_title(form.title), form.edit or EditSpec())


def _fingerprint(details: _Details, source: Source) -> str:
    told = [details.title, details.edit.model_dump(mode="json"), source.sha256]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _in_progress(replay: Replay) -> Held:
    wait = replay.held or SILENCE
    told = f"An upload with this Idempotency-Key is under way; ask again in {math.ceil(wait.total_seconds())} s."
    return Held("upload_in_progress", told, wait)


def _ended(video_id: str) -> Conflict:
    return Conflict("upload_ended", f"Upload {video_id} was cancelled, deleted or given up meanwhile.")
