"""Writes one object, in one call or as a multipart upload."""

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from mmap import MAP_PRIVATE, mmap
from typing import TYPE_CHECKING, BinaryIO, cast

import structlog

from anb_core.adapters.s3.bucket import NOTE, Bucket, bare_etag
from anb_core.domain.errors import Unavailable, Withheld
from anb_core.ports.objects import StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PART_BYTES = 8 * 1024 * 1024
PARTS_IN_FLIGHT = 2
"""Maximum number of multipart parts that one writer sends at the same time."""

_log = structlog.get_logger(__name__)


class Writer:
    """Writes one object. A small object takes one call. The parts of a larger object are sent by two threads."""

    def __init__(self, bucket: Bucket, key: str, content_type: str, note: str, room: threading.Semaphore) -> None:
        self._bucket = bucket
        self._key = key
        self._content_type = content_type
        self._metadata = {NOTE: note} if note else {}
        self._room = room
        self._part: mmap | None = None
        self._size = 0
        self._upload: str | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._in_flight: deque[Future[str]] = deque()
        self._etags: list[str] = []
        self._committed = False

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            if self._part is None:
                self._room.acquire()
                # Use an anonymous mmap, because its memory returns to the operating system at once, unlike heap memory.
                self._part = mmap(-1, PART_BYTES, flags=MAP_PRIVATE)
            filled = self._part.write(rest[: PART_BYTES - self._part.tell()])
            self._size += filled
            rest = rest[filled:]
            if self._part.tell() == PART_BYTES:
                self._send_part(self._part)

    def commit(self) -> StoredObject:
        if self._upload is None:
            stored = self._put(_filled(self._part))
        else:
            if self._part is not None:
                self._send_part(self._part)
            while self._in_flight:
                self._await_part()
            stored = self._complete(self._upload)
        self._committed = True
        return stored

    def close(self) -> None:
        """Free the memory. Try to abort the multipart upload if it was not committed. Never raises an error."""
        if self._threads:
            # Wait for the parts that are being sent. A part that arrived after the abort would stay in the bucket.
            self._threads.shutdown(cancel_futures=True)
        if self._part is not None:
            self._free(self._part)
        if self._upload is None or self._committed:
            return
        try:
            self._bucket.abort(self._key, self._upload)
        except Unavailable as error:
            _log.warning("an unfinished upload stays until its key is deleted", key=self._key, reason=error.message)

    def _free(self, part: mmap) -> None:
        part.close()
        self._room.release()

    def _put(self, data: bytes) -> StoredObject:
        answer = self._bucket.ask(
            lambda: self._bucket.s3.put_object(
                Bucket=self._bucket.name,
                Key=self._key,
                Body=data,
                ContentType=self._content_type,
                Metadata=self._metadata,
            )
        )
        return StoredObject(self._key, self._size, bare_etag(answer["ETag"]))

    def _send_part(self, part: mmap) -> None:
        if self._upload is None:
            self._upload = self._begin()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(PARTS_IN_FLIGHT, thread_name_prefix="s3-part")
        while len(self._in_flight) >= PARTS_IN_FLIGHT:
            self._await_part()
        number = len(self._etags) + len(self._in_flight) + 1
        self._in_flight.append(self._threads.submit(self._put_part, self._upload, number, part))
        self._part = None
        # This callback of the future frees the part's memory, even if an error or a cancel prevents the transfer.
        self._in_flight[-1].add_done_callback(lambda _: self._free(part))

    def _begin(self) -> str:
        answer = self._bucket.ask(
            lambda: self._bucket.s3.create_multipart_upload(
                Bucket=self._bucket.name, Key=self._key, ContentType=self._content_type, Metadata=self._metadata
            )
        )
        return answer["UploadId"]

    def _put_part(self, upload: str, number: int, part: mmap) -> str:
        # Pass a full part as a file object (the mmap), because botocore makes a copy of a bytes object.
        # The last part is usually shorter than the mmap. Copy its bytes, because the rest of the mmap must not be sent.
        body = cast("BinaryIO", part) if part.tell() == PART_BYTES else BytesIO(_filled(part))

        def put() -> str:
            body.seek(0)
            answer = self._bucket.s3.upload_part(
                Bucket=self._bucket.name, Key=self._key, UploadId=upload, PartNumber=number, Body=body
            )
            return answer["ETag"]

        return self._bucket.ask(put)

    def _await_part(self) -> None:
        self._etags.append(self._in_flight.popleft().result())

    def _complete(self, upload: str) -> StoredObject:
        parts: list[CompletedPartTypeDef] = [
            {"PartNumber": number, "ETag": etag} for number, etag in enumerate(self._etags, start=1)
        ]
        try:
            answer = self._bucket.ask(
                lambda: self._bucket.s3.complete_multipart_upload(
                    Bucket=self._bucket.name, Key=self._key, UploadId=upload, MultipartUpload={"Parts": parts}
                )
            )
        except Unavailable:
            # The upload may be complete: if the response is lost, botocore's retry fails with NoSuchUpload.
            with suppress(Withheld):
                stored = self._bucket.head(self._key)
                if stored is not None and stored.size == self._size:
                    return stored
            raise
        return StoredObject(self._key, self._size, bare_etag(answer["ETag"]))


def _filled(part: mmap | None) -> bytes:
    return b"" if part is None else part[: part.tell()]
