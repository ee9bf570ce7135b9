"""Tests of the S3 adapter with responses that no emulator sends."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.client import BaseClient
from botocore.exceptions import EndpointConnectionError
from botocore.stub import ANY, Stubber
from structlog.testing import capture_logs

from anb_core.adapters.s3 import PART_BYTES, S3Objects
from anb_core.adapters.s3 import objects as s3_objects
from anb_core.adapters.s3 import writer as s3_writer
from anb_core.domain.errors import Unavailable, Withheld
from tests.support import eventually
from tests.support.aws import recorded_clients

KEY = "uploads/0197.mp4"


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[BaseClient]:
    return recorded_clients(monkeypatch)


@pytest.fixture
def objects(clients: list[BaseClient]) -> S3Objects:  # noqa: ARG001 - the fixture records the new client
    return S3Objects("anb-videos", region="us-east-1", patience=timedelta(seconds=20))


@pytest.fixture
def stub(objects: S3Objects, clients: list[BaseClient]) -> Iterator[Stubber]:  # noqa: ARG001
    """Prepared responses of S3. The test fails if a response is not used."""
    with Stubber(clients[0]) as stub:
        yield stub
        stub.assert_no_pending_responses()


def test_deleting_does_not_mind_an_unfinished_upload_that_ends_at_that_moment(
    objects: S3Objects, stub: Stubber
) -> None:
    stub.add_response("list_multipart_uploads", {"Uploads": [{"Key": KEY, "UploadId": "u-1"}]})
    stub.add_client_error("abort_multipart_upload", "NoSuchUpload")
    stub.add_response("delete_objects", {})

    assert objects.delete([KEY]) == frozenset()


def test_an_object_that_could_not_be_deleted_is_named_with_the_reason(objects: S3Objects, stub: Stubber) -> None:
    with capture_logs() as logs:
        stub.add_response("list_multipart_uploads", {})
        stub.add_response(
            "delete_objects", {"Errors": [{"Key": KEY, "Code": "AccessDenied", "Message": "a legal hold"}]}
        )

        assert objects.delete([KEY, "uploads/other.mp4"]) == {KEY}
    assert [(line["count"], line["first"]) for line in logs] == [(1, f"{KEY}: AccessDenied, a legal hold")]


def test_more_objects_than_one_call_takes_are_deleted_in_several(objects: S3Objects, stub: Stubber) -> None:
    keys = [f"uploads/{number}.mp4" for number in range(1001)]
    stub.add_response("list_multipart_uploads", {}, {"Bucket": "anb-videos", "Prefix": "uploads/"})
    for batch in (keys[:1000], keys[1000:]):
        deletion = {"Objects": [{"Key": key} for key in batch], "Quiet": True}
        stub.add_response("delete_objects", {}, {"Bucket": ANY, "Delete": deletion})

    assert objects.delete(keys) == frozenset()


def test_a_refusal_is_told_with_the_words_of_s3(objects: S3Objects, stub: Stubber) -> None:
    stub.add_client_error("head_bucket", "403", "Forbidden", http_status_code=403)

    with pytest.raises(Unavailable) as error:
        objects.ping()

    assert error.value.message == ("Bucket anb-videos at http://127.0.0.1:9 refuses HeadBucket: 403, Forbidden.")


ARN = "User: arn:aws:iam::123456789012:role/anb is not authorized"


@pytest.mark.parametrize(("status", "code"), [(403, "403"), (400, "400")])
def test_an_object_that_is_refused_by_a_bucket_that_answers_is_named_with_what_to_do(
    objects: S3Objects, stub: Stubber, status: int, code: str
) -> None:
    with capture_logs() as logs:
        stub.add_client_error("head_object", code, ARN, http_status_code=status)
        stub.add_response("head_bucket", {})

        with pytest.raises(Withheld, match=rf"anb-videos does not give us {KEY}.*: {code}\).*s3:GetObject") as withheld:
            objects.head(KEY)

    # Only the log may name the account and the role, because the video's owner may read the error message.
    assert "arn:" not in withheld.value.message
    assert ARN in logs[0]["reason"]
    assert ARN in str(withheld.value.__cause__)


def test_a_key_service_that_is_asked_too_often_withholds_nothing(
    objects: S3Objects, stub: Stubber, tmp_path: Path
) -> None:
    stub.add_client_error("get_object", "KMS.ThrottlingException", "Rate exceeded", http_status_code=400)

    with pytest.raises(Unavailable, match="Rate exceeded"):
        objects.fetch(KEY, tmp_path / "source")


@pytest.mark.parametrize("call", ["head", "fetch"])
def test_credentials_that_are_refused_everything_are_an_outage_and_no_objects_fault(
    objects: S3Objects, stub: Stubber, tmp_path: Path, call: str
) -> None:
    stub.add_client_error(f"{call}_object".replace("fetch", "get"), "InvalidAccessKeyId", http_status_code=403)
    stub.add_client_error("head_bucket", "403", "Forbidden", http_status_code=403)

    with pytest.raises(Unavailable, match="refuses HeadBucket: 403") as error:
        objects.head(KEY) if call == "head" else objects.fetch(KEY, tmp_path / "source")
    assert error.value.part == "bucket"


def test_an_upload_whose_end_is_refused_like_a_look_at_it_says_that_the_bucket_is_away(
    objects: S3Objects, stub: Stubber
) -> None:
    stub.add_response("create_multipart_upload", {"UploadId": "u-1"})
    stub.add_response("upload_part", {"ETag": "e-1"})
    stub.add_client_error("complete_multipart_upload", "AccessDenied", http_status_code=403)
    stub.add_client_error("head_object", "403", http_status_code=403)
    stub.add_response("head_bucket", {})
    stub.add_response("abort_multipart_upload", {})

    with objects.writing(KEY, content_type="video/mp4") as writer:
        writer.write(bytes(PART_BYTES))
        with pytest.raises(Unavailable, match="refuses CompleteMultipartUpload"):
            writer.commit()


class Held:
    """A fake S3 client whose method `upload_part` waits until the test sets `go`."""

    meta = SimpleNamespace(endpoint_url="http://127.0.0.1:9")

    def __init__(self) -> None:
        self.go = threading.Event()
        self.parts: list[bytes] = []
        self.completed = 0

    def create_multipart_upload(self, **_: object) -> dict[str, str]:
        return {"UploadId": "u-1"}

    def upload_part(self, *, Body: BinaryIO, **_: object) -> dict[str, str]:  # noqa: N803 - S3's name
        self.parts.append(Body.read())
        assert self.go.wait(30)
        return {"ETag": "e"}

    def complete_multipart_upload(self, **_: object) -> dict[str, str]:
        self.completed += 1
        return {"ETag": "e"}


def test_all_writers_together_hold_a_bounded_number_of_parts_and_wait_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_writer, "PART_BYTES", 4096)
    monkeypatch.setattr(s3_objects, "PARTS_IN_MEMORY", 5)
    held = Held()
    monkeypatch.setattr(boto3.session.Session, "client", lambda *_args, **_options: held)
    objects = S3Objects("anb-videos", region="us-east-1", patience=timedelta(seconds=20))

    def write(number: int) -> None:
        with objects.writing(f"uploads/{number}", content_type="video/mp4") as writer:
            for _ in range(4):
                writer.write(bytes([number]) * 4096)
            writer.write(b"the rest")
            writer.commit()

    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(write, number) for number in range(4)]
        # No writer may send a sixth part before `go` is set, because at most five parts may be in memory.
        eventually(lambda: len(held.parts) >= 4)
        with pytest.raises(AssertionError):
            eventually(lambda: len(held.parts) > 5, within=0.3)
        held.go.set()
        for one in writing:
            one.result(30)

    assert held.completed == 4
    assert Counter(held.parts) == {**{bytes([number]) * 4096: 4 for number in range(4)}, b"the rest": 4}
    # All part buffers must be free again, because a later writer would wait forever for a leaked buffer.
    for number in range(4, 10):
        write(number)
    assert held.completed == 10


def test_a_writer_that_ends_early_gives_its_room_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_objects, "PARTS_IN_MEMORY", 1)
    objects = S3Objects("anb-videos", region="us-east-1", patience=timedelta(seconds=20))

    def begin_and_break() -> None:
        with objects.writing(KEY, content_type="video/mp4") as writer:
            writer.write(b"some")
            raise ConnectionError

    for _ in range(3):
        with pytest.raises(ConnectionError):
            begin_and_break()


def test_an_upload_is_sent_without_waiting_for_the_bucket_to_say_continue(
    objects: S3Objects, clients: list[BaseClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    # botocore reads for ever if the connection breaks within this answer.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    heads = list[AWSPreparedRequest]()

    def note(request: AWSPreparedRequest, **_: object) -> None:
        heads.append(request)
        raise EndpointConnectionError(endpoint_url=request.url)

    clients[0].meta.events.register("before-send.s3.PutObject", note)
    with objects.writing(KEY, content_type="video/mp4") as writer:
        writer.write(b"bytes")
        with pytest.raises(Unavailable):
            writer.commit()
    assert heads
    assert not any("Expect" in head.headers for head in heads)
