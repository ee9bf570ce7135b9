"""The bucket on S3 or a compatible service: implements `anb_core.ports.objects.Objects`."""

import re
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from http import HTTPStatus
from io import BytesIO
from mmap import MAP_PRIVATE, mmap
from os.path import commonprefix
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast
from urllib.parse import quote

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import ClientError

from anb_core.adapters.aws import TRIES, answering, client_config, error_code
from anb_core.domain.errors import NotFound, Unavailable, Withheld
from anb_core.ports.objects import ObjectWriter, StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import BucketLocationConstraintType
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, ObjectIdentifierTypeDef

PART_BYTES = 8 * 1024 * 1024
PARTS_IN_FLIGHT = 2
"""Maximum number of multipart parts that one writer sends at the same time."""

PARTS_IN_MEMORY = 20
"""Maximum number of multipart parts that all writers of a process together hold in memory (160 MiB).
Each of the API's 16 uploads can fill one multipart part while other parts are being sent.
If the bucket is slower than the clients, writers wait for free memory."""

PIECE_BYTES = 1024 * 1024
DELETE_BATCH = 1000
"""Maximum number of keys that S3 deletes in one call."""

HOME_REGION = "us-east-1"
"""The default region of S3. When a bucket is created, S3 refuses this region as an explicit location."""

_MISSING = {"404", "NoSuchKey"}
_REFUSALS = {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN}

_log = structlog.get_logger(__name__)

T = TypeVar("T")


class S3Objects:
    """One bucket on S3. A call with all its retries ends within about `patience`, unless it transfers many bytes."""

    def __init__(
        self,
        bucket: str,
        *,
        region: str | None,
        patience: timedelta,
        public_endpoint: str | None = None,
        may_create: bool = False,
    ) -> None:
        self.bucket = bucket
        # urllib3 also uses the connect timeout for sending data, and a slow bucket may need more than the usual 2 s.
        answer = patience.total_seconds() / (TRIES + 1)
        config = client_config(patience).merge(Config(signature_version="s3v4", connect_timeout=answer))
        session = boto3.session.Session()
        s3 = session.client("s3", region_name=region, config=config)
        self._store = _Bucket(s3, bucket, may_create=may_create)
        self._room = threading.Semaphore(PARTS_IN_MEMORY)
        self._signer = (
            session.client("s3", region_name=region, config=config, endpoint_url=public_endpoint)
            if public_endpoint
            else s3
        )

    @contextmanager
    def writing(self, key: str, *, content_type: str) -> Iterator[ObjectWriter]:
        writer = _Writer(self._store, key, content_type, self._room)
        try:
            yield writer
        finally:
            writer.close()

    def fetch(self, key: str, path: Path, *, on_bytes: Callable[[int], None] | None = None) -> StoredObject:
        def copy() -> StoredObject:
            try:
                with self._store.reading(key):
                    answer = self._store.s3.get_object(Bucket=self.bucket, Key=key)
            except ClientError as error:
                if error_code(error) not in _MISSING:
                    raise
                raise NotFound("object_missing", f"{self._store.place} has no object {key}.") from error
            # `closing` is used because the body's own context manager returns a stream that raises urllib3's errors.
            with path.open("wb") as file, closing(answer["Body"]) as body:
                while piece := body.read(PIECE_BYTES):
                    file.write(piece)
                    if on_bytes:
                        on_bytes(len(piece))
            return StoredObject(key, answer["ContentLength"], _bare(answer["ETag"]))

        try:
            return self._store.ask(copy)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def head(self, key: str) -> StoredObject | None:
        return self._store.head(key)

    def delete(self, keys: Collection[str]) -> frozenset[str]:
        all_keys, kept = list(keys), set[str]()
        if all_keys:
            self._abort_uploads(set(all_keys))
        for start in range(0, len(all_keys), DELETE_BATCH):
            kept |= self._delete([{"Key": key} for key in all_keys[start : start + DELETE_BATCH]])
        return frozenset(kept)

    def download_url(self, key: str, *, file_name: str, lifetime: timedelta) -> str:
        with answering("bucket", self._store.place):
            return self._signer.generate_presigned_url(
                "get_object",
                Params={"Bucket": self.bucket, "Key": key, "ResponseContentDisposition": _attachment(file_name)},
                ExpiresIn=int(lifetime.total_seconds()),
            )

    def ensure(self) -> None:
        self._store.ensure()

    def ping(self) -> None:
        self._store.ensure()

    def close(self) -> None:
        self._store.s3.close()
        self._signer.close()

    def _delete(self, objects: list["ObjectIdentifierTypeDef"]) -> set[str]:
        answer = self._store.ask(
            lambda: self._store.s3.delete_objects(Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True})
        )
        errors = answer.get("Errors", [])
        if errors:
            first = errors[0]
            reason = f"{first['Key']}: {first.get('Code')}, {first.get('Message')}"
            _log.warning("objects were not deleted", bucket=self.bucket, count=len(errors), first=reason)
        return {error["Key"] for error in errors}

    def _abort_uploads(self, keys: set[str]) -> None:
        """Abort unfinished multipart uploads of these keys. Few such uploads exist, so one listing is enough."""

        def listing() -> list[tuple[str, str]]:
            pages = self._store.s3.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket,
                Prefix=commonprefix(list(keys)),  # noqa: RUF071 - an S3 prefix ends at any character, too
            )
            return [(found["Key"], found["UploadId"]) for page in pages for found in page.get("Uploads", [])]

        for key, upload in self._store.ask(listing):
            if key in keys:
                self._store.abort(key, upload)


class _Bucket:
    """The S3 client of one bucket. It creates a missing bucket if allowed, and translates errors."""

    def __init__(self, s3: "S3Client", name: str, *, may_create: bool) -> None:
        self.s3 = s3
        self.name = name
        self.place = f"Bucket {name} at {s3.meta.endpoint_url}"
        self._may_create = may_create

    def ask(self, call: Callable[[], T]) -> T:
        """Make a call. If an emulator has lost the bucket, create the bucket if allowed, and call once more."""
        with answering("bucket", self.place):
            try:
                return call()
            except ClientError as error:
                if error_code(error) != "NoSuchBucket":
                    raise
            self.ensure()
            return call()

    def head(self, key: str) -> StoredObject | None:
        with answering("bucket", self.place), self.reading(key):
            try:
                answer = self.s3.head_object(Bucket=self.name, Key=key)
            except ClientError as error:
                if error_code(error) not in _MISSING:
                    raise
                # A response to HEAD has no body, so a missing object and a missing bucket have the same code.
                self.ensure()
                return None
        return StoredObject(key, answer["ContentLength"], _bare(answer["ETag"]))

    @contextmanager
    def reading(self, key: str) -> Iterator[None]:
        """Raise `Withheld` if access is denied to this object only, or `Unavailable` if HeadBucket is denied, too."""
        try:
            yield
        except ClientError as error:
            status, code = error.response["ResponseMetadata"]["HTTPStatusCode"], error_code(error)
            # KMS also answers 400 when it throttles requests, so not every 400 means that access is denied.
            if status not in _REFUSALS or "Throttling" in code:
                raise
            self.ensure()
            _log.warning("an object is withheld", bucket=self.name, key=key, reason=str(error))
            # S3's own message names roles, accounts and keys. Only the operator's log may show such names.
            raise Withheld(
                "object_withheld",
                f"Bucket {self.name} does not give us {key} ({error.operation_name}: {code}), though it answers "
                "otherwise. Allow s3:GetObject on it, and kms:Decrypt with its key; copy it if it is archived or has a "
                "key of the customer's (SSE-C).",
            ) from error

    def ensure(self) -> None:
        if self._exists():
            return
        if not self._may_create:
            message = f"{self.place} does not exist: create it, or set S3_BUCKET and AWS_ENDPOINT_URL to one that does."
            raise Unavailable("bucket", message)
        with answering("bucket", self.place):
            self._create()

    def abort(self, key: str, upload: str) -> None:
        with answering("bucket", self.place):
            try:
                self.s3.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload)
            except ClientError as error:
                if error_code(error) != "NoSuchUpload":
                    raise

    def _exists(self) -> bool:
        with answering("bucket", self.place):
            try:
                self.s3.head_bucket(Bucket=self.name)
            except ClientError as error:
                if error_code(error) not in {"404", "NoSuchBucket"}:
                    raise
                return False
        return True

    def _create(self) -> None:
        region = self.s3.meta.region_name
        try:
            if region in {HOME_REGION, "aws-global"}:
                self.s3.create_bucket(Bucket=self.name)
            else:
                place = cast("BucketLocationConstraintType", region)
                self.s3.create_bucket(Bucket=self.name, CreateBucketConfiguration={"LocationConstraint": place})
        except ClientError as error:
            # Another process of ours has just created the bucket.
            if error_code(error) != "BucketAlreadyOwnedByYou":
                raise
        else:
            _log.info("bucket created", bucket=self.name)


class _Writer:
    """Writes one object: a small object in one call, a larger object as a multipart upload from two threads."""

    def __init__(self, bucket: _Bucket, key: str, content_type: str, room: threading.Semaphore) -> None:
        self._bucket = bucket
        self._key = key
        self._content_type = content_type
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
                # The memory of an anonymous mmap returns to the operating system at once, unlike heap memory.
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
        """Free the memory, and try to abort a multipart upload that was not committed. Never raises an error."""
        if self._threads:
            # Wait for the parts that are being sent: a part that arrives after the abort would stay in the bucket.
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
                Bucket=self._bucket.name, Key=self._key, Body=data, ContentType=self._content_type
            )
        )
        return StoredObject(self._key, self._size, _bare(answer["ETag"]))

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
        # The callback also runs if the part is not sent: because of an error, or because the task is canceled.
        self._in_flight[-1].add_done_callback(lambda _: self._free(part))

    def _begin(self) -> str:
        answer = self._bucket.ask(
            lambda: self._bucket.s3.create_multipart_upload(
                Bucket=self._bucket.name, Key=self._key, ContentType=self._content_type
            )
        )
        return answer["UploadId"]

    def _put_part(self, upload: str, number: int, part: mmap) -> str:
        # botocore does not copy a body that is a file, so a full part is sent as a file. The last part may be shorter.
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
            # If the response to the first try was lost, the retry gets NoSuchUpload.
            # Because the first try may have succeeded, check whether the object exists.
            with suppress(Withheld):
                stored = self._bucket.head(self._key)
                if stored is not None and stored.size == self._size:
                    return stored
            raise
        return StoredObject(self._key, self._size, _bare(answer["ETag"]))


def _filled(part: mmap | None) -> bytes:
    return b"" if part is None else part[: part.tell()]


def _bare(etag: str) -> str:
    return etag.strip('"')


def _attachment(file_name: str) -> str:
    """Return a Content-Disposition header with an ASCII name for old clients and the full file name (RFC 6266)."""
    name = "".join(char for char in file_name if char.isprintable())
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
