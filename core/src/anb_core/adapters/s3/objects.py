"""The objects of one bucket: implements `anb_core.ports.objects.Objects`."""

import re
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from os.path import commonprefix
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import boto3
import structlog
from botocore.config import Config
from botocore.handlers import add_expect_header

from anb_core.adapters.aws import TRIES, answering, client_config
from anb_core.adapters.s3.bucket import Bucket, bare_etag
from anb_core.adapters.s3.writer import Writer
from anb_core.ports.objects import ObjectWriter, Peeked, StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

PARTS_IN_MEMORY = 20
"""Maximum number of multipart parts in memory, for all writers of a process together (160 MiB).
The API has at most 16 uploads at a time, and each upload fills one part. So at least four parts, in total, can be sent
while all uploads go on. If the bucket is slower than the clients, writers wait until a part was sent."""

PIECE_BYTES = 1024 * 1024
DELETE_BATCH = 1000
"""Maximum number of keys in one call to delete objects. S3 has the same limit."""

_log = structlog.get_logger(__name__)


class S3Objects:
    """One bucket on S3. A call and its retries end within about `patience`. The transfer of a file may take longer."""

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
        # urllib3 also limits each send by the connect timeout. The default of `client_config` (2 s) may be too short
        # to send data to a slow bucket.
        answer = patience.total_seconds() / (TRIES + 1)
        config = client_config(patience).merge(Config(signature_version="s3v4", connect_timeout=answer))
        session = boto3.session.Session()
        # botocore would wait for "100 Continue" before it sends the bytes. If the connection breaks within this answer,
        # it reads for ever (botocore 1.44, AWSConnection._consume_headers).
        session.events.unregister("before-call.s3", add_expect_header)
        s3 = session.client("s3", region_name=region, config=config)
        self._store = Bucket(s3, bucket, may_create=may_create)
        self._room = threading.Semaphore(PARTS_IN_MEMORY)
        self._signer = (
            session.client("s3", region_name=region, config=config, endpoint_url=public_endpoint)
            if public_endpoint
            else s3
        )

    @contextmanager
    def writing(self, key: str, *, content_type: str, note: str = "") -> Iterator[ObjectWriter]:
        writer = Writer(self._store, key, content_type, note, self._room)
        try:
            yield writer
        finally:
            writer.close()

    def fetch(
        self,
        key: str,
        path: Path,
        *,
        on_size: Callable[[int], object] | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> StoredObject:
        def copy() -> StoredObject:
            answer = self._store.get(key)
            # The body's own context manager would return urllib3's stream, whose errors `ask` can't translate.
            with closing(answer["Body"]) as body:
                if on_size:
                    on_size(answer["ContentLength"])
                with path.open("wb") as file:
                    while piece := body.read(PIECE_BYTES):
                        file.write(piece)
                        if on_bytes:
                            on_bytes(len(piece))
            return StoredObject(key, answer["ContentLength"], bare_etag(answer["ETag"]))

        try:
            return self._store.ask(copy)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def head(self, key: str) -> StoredObject | None:
        return self._store.head(key)

    def peek(self, key: str, most: int) -> Peeked | None:
        return self._store.peek(key, most)

    def listing(self, prefix: str, *, after: str | None = None, limit: int) -> Sequence[StoredObject]:
        answer = self._store.ask(
            lambda: self._store.s3.list_objects_v2(
                Bucket=self.bucket, Prefix=prefix, StartAfter=after or "", MaxKeys=limit
            )
        )
        contents = answer.get("Contents", [])
        return [StoredObject(found["Key"], found["Size"], bare_etag(found["ETag"])) for found in contents]

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
        """Abort the unfinished multipart uploads of the given keys.

        One listing finds the uploads of all keys. It is short, because few uploads are unfinished.
        """

        def listing() -> list[tuple[str, str]]:
            pages = self._store.s3.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket,
                Prefix=commonprefix(list(keys)),  # noqa: RUF071 - an S3 prefix ends at any character, too
            )
            return [(found["Key"], found["UploadId"]) for page in pages for found in page.get("Uploads", [])]

        for key, upload in self._store.ask(listing):
            if key in keys:
                self._store.abort(key, upload)


def _attachment(file_name: str) -> str:
    """Return a Content-Disposition header (RFC 6266). It has the full file name, and an ASCII form for old clients."""
    name = "".join(char for char in file_name if char.isprintable())
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
