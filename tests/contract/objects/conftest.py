"""The buckets under test: an in-memory bucket, an S3 bucket of moto, and an S3 bucket of the embedded emulator."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import boto3
import pytest

from anb_core.adapters.s3 import S3Objects
from anb_core.ports.objects import Objects
from anb_core.testing.objects import InMemoryObjects

PATIENCE = timedelta(seconds=20)
SERVERS = ["moto_url", "ministack_url"]

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Stand:
    """A bucket under test, and functions that inspect the bucket without the adapter."""

    objects: Objects
    unfinished: Callable[[], set[str]]
    """A function that returns the keys of unfinished writes."""
    begin: Callable[[str], object]
    """A function that begins to write an object and does not finish the object, as if the process had crashed."""
    content_type: Callable[[str], str]


@dataclass(frozen=True)
class Server:
    """The URL of an S3 server, and a boto3 client with which tests inspect the server without the adapter."""

    url: str
    s3: Any

    def objects(self, bucket: str = "", **options: Any) -> S3Objects:
        """Create an adapter for a bucket (default: a new bucket). AWS_ENDPOINT_URL must be set to the server's URL."""
        chosen: dict[str, Any] = {"region": "us-east-1", "patience": PATIENCE, "may_create": True} | options
        return S3Objects(bucket or f"anb-{next(_numbers)}", **chosen)

    def stand(self, objects: S3Objects) -> Stand:
        return Stand(
            objects,
            lambda: set(self.unfinished(objects.bucket)),
            lambda key: self.s3.create_multipart_upload(Bucket=objects.bucket, Key=key),
            lambda key: str(self.s3.head_object(Bucket=objects.bucket, Key=key)["ContentType"]),
        )

    def unfinished(self, bucket: str) -> list[str]:
        return [found["Key"] for found in self.s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]

    def empty(self, bucket: str) -> None:
        for found in self.s3.list_objects_v2(Bucket=bucket).get("Contents", []):
            self.s3.delete_object(Bucket=bucket, Key=found["Key"])
        for found in self.s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
            self.s3.abort_multipart_upload(Bucket=bucket, Key=found["Key"], UploadId=found["UploadId"])


@pytest.fixture(scope="session", params=SERVERS)
def running_server(request: pytest.FixtureRequest) -> Server:
    url = request.getfixturevalue(request.param)
    return Server(url, boto3.session.Session().client("s3", endpoint_url=url))


@pytest.fixture
def server(running_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("AWS_ENDPOINT_URL", running_server.url)
    return running_server


@pytest.fixture(scope="session", params=["memory", *SERVERS])
def shared_stand(request: pytest.FixtureRequest) -> Iterator[tuple[Server, S3Objects] | None]:
    """An S3 adapter that all tests share, because creating an adapter is slow. None if the bucket is in memory."""
    if request.param == "memory":
        yield None
        return
    url = request.getfixturevalue(request.param)
    server = Server(url, boto3.session.Session().client("s3", endpoint_url=url))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        objects = server.objects()
    objects.ensure()
    yield server, objects
    objects.close()


@pytest.fixture
def stand(shared_stand: tuple[Server, S3Objects] | None) -> Iterator[Stand]:
    if shared_stand is None:
        fake = InMemoryObjects()
        yield Stand(fake, lambda: set(fake.unfinished), fake.unfinished.add, fake.content_types.__getitem__)
    else:
        server, objects = shared_stand
        yield server.stand(objects)
        server.empty(objects.bucket)
