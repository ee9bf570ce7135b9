"""Makes calls to one bucket on S3. Creates the bucket if it is missing, and translates errors."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar, cast

import structlog
from botocore.exceptions import ClientError

from anb_core.adapters.aws import answering, error_code
from anb_core.domain.adoption import object_version
from anb_core.domain.errors import NotFound, Unavailable, Withheld
from anb_core.ports.objects import Peeked, StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import BucketLocationConstraintType
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

HOME_REGION = "us-east-1"
"""The default region of S3. A request to create a bucket must not contain this region."""

NOTE = "anb-note"
"""Name of the metadata of an object that has its note."""

_MISSING = {"404", "NoSuchKey"}
_REFUSALS = {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN}

_log = structlog.get_logger(__name__)

T = TypeVar("T")


class Bucket:
    """One bucket and its S3 client. If `may_create` is True, a missing bucket is created."""

    def __init__(self, s3: "S3Client", name: str, *, may_create: bool) -> None:
        self.s3 = s3
        self.name = name
        self.place = f"Bucket {name} at {s3.meta.endpoint_url}"
        self._may_create = may_create

    def ask(self, call: Callable[[], T]) -> T:
        """Make a call to S3. If the bucket is missing and may be created, create it and repeat the call.

        Emulators lose their buckets when they restart.
        """
        with answering("bucket", self.place):
            try:
                return call()
            except ClientError as error:
                if error_code(error) != "NoSuchBucket":
                    raise
            self.ensure()
            return call()

    def get(self, key: str) -> "GetObjectOutputTypeDef":
        """Open an object for reading.

        Use `ask` both to call this method and to read the body, because `ask` translates the errors.

        Raises:
            NotFound: `object_missing` if the object does not exist.
        """
        with self._existing(key):
            return self.s3.get_object(Bucket=self.name, Key=key)

    def head(self, key: str) -> StoredObject | None:
        with answering("bucket", self.place), self.reading(key):
            try:
                answer = self.s3.head_object(Bucket=self.name, Key=key)
            except ClientError as error:
                if error_code(error) not in _MISSING:
                    raise
                # A response to HEAD has no body, so it does not say whether the object or the bucket is missing.
                self.ensure()
                return None
        note = answer["Metadata"].get(NOTE, "")
        return StoredObject(key, answer["ContentLength"], bare_etag(answer["ETag"]), note)

    def peek(self, key: str, most: int) -> Peeked | None:
        def read() -> Peeked:
            with self._existing(key):
                answer = self.s3.get_object(Bucket=self.name, Key=key, Range=f"bytes=0-{most - 1}")
            with closing(answer["Body"]) as body:
                head = body.read(most)
            # The content range ends with the size of the whole object: "bytes 0-1023/5000".
            size = int(answer["ContentRange"].rpartition("/")[2])
            return Peeked(size, object_version(answer.get("VersionId"), answer["ETag"]), head)

        try:
            return self.ask(read)
        except NotFound:
            return None
        except Unavailable as error:
            # An object without bytes has no range.
            if isinstance(error.__cause__, ClientError) and error_code(error.__cause__) == "InvalidRange":
                return Peeked(0, "", b"")
            raise

    @contextmanager
    def reading(self, key: str) -> Iterator[None]:
        """Return a context manager for a block that reads the object `key`.

        If S3 denies access, it finds out whether S3 denies access to this object only, or to the whole bucket.

        Raises:
            Withheld: S3 denies access to this object only.
            Unavailable: S3 also denies HeadBucket, so it denies access to the whole bucket.
        """
        try:
            yield
        except ClientError as error:
            status, code = error.response["ResponseMetadata"]["HTTPStatusCode"], error_code(error)
            # The status 400 often means that access is denied, but it can also mean that KMS limits the request rate.
            if status not in _REFUSALS or "Throttling" in code:
                raise
            self.ensure()
            _log.warning("an object is withheld", bucket=self.name, key=key, reason=str(error))
            # S3's own message contains the names of roles, accounts and keys. Show it only in the log.
            raise Withheld(
                "object_withheld",
                f"Bucket {self.name} does not give us {key} ({error.operation_name}: {code}), though it answers "
                "otherwise. Allow s3:GetObject on it, and kms:Decrypt with its key; copy it if it is archived or has a "
                "key of the customer's (SSE-C).",
            ) from error

    @contextmanager
    def _existing(self, key: str) -> Iterator[None]:
        try:
            with self.reading(key):
                yield
        except ClientError as error:
            if error_code(error) not in _MISSING:
                raise
            raise NotFound("object_missing", f"{self.place} has no object {key}.") from error

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
            # Another process of ANB Video has just created the bucket.
            if error_code(error) != "BucketAlreadyOwnedByYou":
                raise
        else:
            _log.info("bucket created", bucket=self.name)


def bare_etag(etag: str) -> str:
    """Return an ETag without its quotation marks."""
    return etag.strip('"')
