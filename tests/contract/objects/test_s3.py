"""Tests of the S3 adapter only: download URLs, and an S3 server that fails or does not respond."""

import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import httpx
import pytest

from anb_core.adapters.s3 import PART_BYTES, S3Objects
from anb_core.domain.errors import Unavailable, Withheld
from tests.contract.objects.conftest import PATIENCE, Server
from tests.contract.objects.lossy import losing_answers, swallowing
from tests.support import eventually

KEY = "uploads/0197.mp4"
MINUTE = timedelta(minutes=1)


def put(objects: S3Objects, data: bytes = b"some bytes") -> None:
    with objects.writing(KEY, content_type="video/mp4") as writer:
        writer.write(data)
        writer.commit()


@pytest.fixture
def objects(server: Server) -> S3Objects:
    objects = server.objects()
    objects.ensure()
    return objects


@pytest.fixture
def silent_url() -> Iterator[str]:
    """A server that accepts connections but never responds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_download_url_gives_the_object_under_the_name_that_was_asked_for(objects: S3Objects) -> None:
    put(objects)

    answer = httpx.get(objects.download_url(KEY, file_name='Mañana "sale" el\r\nsol.mp4', lifetime=MINUTE))

    assert answer.content == b"some bytes"
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"Ma_ana _sale_ elsol.mp4\"; filename*=UTF-8''Ma%C3%B1ana%20%22sale%22%20elsol.mp4"
    )


def test_a_download_url_names_the_endpoint_that_people_reach_and_works_there(server: Server) -> None:
    public = server.url.replace("127.0.0.1", "localhost")
    objects = server.objects(public_endpoint=public)
    objects.ensure()
    put(objects)

    url = objects.download_url(KEY, file_name="a.mp4", lifetime=MINUTE)

    assert urlsplit(url).netloc == urlsplit(public).netloc
    assert "X-Amz-Expires=60" in url
    assert httpx.get(url).content == b"some bytes"


def test_a_missing_bucket_is_named_with_its_endpoint_and_what_to_do(server: Server) -> None:
    objects = server.objects("anb-never-made", may_create=False)

    message = rf"Bucket anb-never-made at {server.url} does not exist: create it, or set S3_BUCKET"
    calls: list[Callable[[], object]] = [objects.ping, objects.ensure, lambda: objects.head(KEY), lambda: put(objects)]
    for call in calls:
        with pytest.raises(Unavailable, match=message) as error:
            call()
        assert error.value.part == "bucket"


def test_a_bucket_that_the_server_forgot_is_made_anew_by_whoever_needs_it_first(
    server: Server, objects: S3Objects
) -> None:
    needs: list[Callable[[], object]] = [
        objects.ping,
        lambda: objects.head(KEY),
        lambda: objects.delete([KEY]),
        lambda: put(objects),
    ]
    for need in needs:
        server.s3.delete_bucket(Bucket=objects.bucket)
        need()

    assert server.s3.head_object(Bucket=objects.bucket, Key=KEY)["ContentLength"] == len(b"some bytes")


def test_a_bucket_in_another_region_is_made_there(server: Server) -> None:
    objects = server.objects(region="eu-west-1")
    objects.ensure()

    place = server.s3.get_bucket_location(Bucket=objects.bucket)
    assert place["LocationConstraint"] == "eu-west-1"


def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    objects = S3Objects("anb-videos", region="us-east-1", patience=PATIENCE)

    with pytest.raises(Unavailable, match=r"Bucket anb-videos at http://127\.0\.0\.1:9 does not answer: ") as error:
        objects.fetch(KEY, tmp_path / "source")
    assert error.value.code == "bucket_unavailable"


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch, silent_url: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", silent_url)
    objects = S3Objects("anb-videos", region="us-east-1", patience=timedelta(seconds=0.4))

    with pytest.raises(Unavailable, match="does not answer: Read timeout"):
        put(objects)


@pytest.mark.parametrize("stalls", [False, True])
def test_a_download_that_breaks_off_or_stalls_says_that_the_bucket_is_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, stalls: bool
) -> None:
    path = tmp_path / "source"
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def answer_in_part() -> None:
            taken.append(server.accept()[0])
            taken[0].recv(65_536)
            taken[0].sendall(b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 100\r\n\r\nsome bytes')
            if not stalls:
                taken[0].close()

        thread = threading.Thread(target=answer_in_part)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        objects = S3Objects("anb-videos", region="us-east-1", patience=timedelta(seconds=0.4))
        with pytest.raises(Unavailable, match=r"does not answer: (10 read|Read timeout)"):
            objects.fetch(KEY, path)
        thread.join()
        taken[0].close()
    assert not path.exists()


def test_an_archived_object_is_told_from_a_bucket_that_is_away(
    monkeypatch: pytest.MonkeyPatch, moto_url: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_url)
    objects = S3Objects("anb-archive", region="us-east-1", patience=PATIENCE, may_create=True)
    objects.ensure()
    boto3.client("s3", region_name="us-east-1").put_object(
        Bucket="anb-archive", Key=KEY, Body=b"some bytes", StorageClass="GLACIER"
    )

    with pytest.raises(Withheld, match=f"does not give us {KEY}.*InvalidObjectState"):
        objects.fetch(KEY, tmp_path / "source")
    assert not (tmp_path / "source").exists()
    with pytest.raises(Withheld, match="InvalidObjectState"):
        objects.peek(KEY, 1)


def test_missing_credentials_are_said_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    objects = S3Objects("anb-videos", region="us-east-1", patience=PATIENCE)

    with pytest.raises(Unavailable, match="Unable to locate credentials"):
        objects.ping()
    with pytest.raises(Unavailable, match="Unable to locate credentials"):
        objects.download_url(KEY, file_name="a.mp4", lifetime=MINUTE)


def test_an_upload_whose_last_answer_was_lost_is_stored_all_the_same(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []
    aborted: list[str] = []

    def the_first_completion(method: str, path: str) -> bool:
        if method == "DELETE":
            aborted.append(path)
        if method == "POST" and "uploadId=" in path and not lost:
            lost.append(path)
            return True
        return False

    with losing_answers(server.url, the_first_completion) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        objects = server.objects()
        objects.ensure()
        with objects.writing(KEY, content_type="video/mp4") as writer:
            writer.write(bytes(PART_BYTES + 5))
            stored = writer.commit()

    assert lost
    assert not aborted
    assert stored.size == PART_BYTES + 5
    assert server.s3.head_object(Bucket=objects.bucket, Key=KEY)["ContentLength"] == PART_BYTES + 5


def test_an_upload_that_somebody_aborted_is_not_taken_for_stored(server: Server, objects: S3Objects) -> None:
    put(objects, b"an older, smaller object")

    with objects.writing(KEY, content_type="video/mp4") as writer:
        writer.write(bytes(PART_BYTES))
        upload = server.s3.list_multipart_uploads(Bucket=objects.bucket)["Uploads"][0]["UploadId"]
        place = {"Bucket": objects.bucket, "Key": KEY, "UploadId": upload}
        eventually(lambda: server.s3.list_parts(**place).get("Parts"))
        server.s3.abort_multipart_upload(**place)

        with pytest.raises(Unavailable, match="refuses CompleteMultipartUpload"):
            writer.commit()


def test_writing_to_a_server_that_went_away_fails_and_gives_up_cleanly(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with losing_answers(server.url, lambda method, _: method == "PUT" and bool(gone)) as url:
        gone: list[bool] = []
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        objects = server.objects()
        objects.ensure()
        gone.append(True)
        with (
            pytest.raises(Unavailable, match="does not answer"),
            objects.writing(KEY, content_type="video/mp4") as writer,
        ):
            writer.write(bytes(4 * PART_BYTES))

    assert not server.s3.list_multipart_uploads(Bucket=objects.bucket).get("Uploads")


def test_parts_in_flight_are_waited_for_before_an_upload_is_aborted(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    aborted = threading.Event()

    def slow_parts(method: str, _: str) -> bool:
        if method == "PUT":
            # Delay the upload of the part, so that the test fails if the writer aborts without waiting for the part.
            aborted.wait(0.5)
            order.append("part")
        elif method == "DELETE":
            aborted.set()
            order.append("abort")
        return False

    objects = server.objects()
    objects.ensure()
    with losing_answers(server.url, slow_parts) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with server.objects(objects.bucket).writing(KEY, content_type="video/mp4") as writer:
            writer.write(bytes(2 * PART_BYTES))

    assert order == ["part", "part", "abort"]


def test_a_writer_holds_no_more_than_four_parts_of_an_upload_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    piece = bytes(256 * 1024)
    with swallowing() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        objects = S3Objects("anb-videos", region="us-east-1", patience=PATIENCE)
        tracemalloc.start()
        try:
            with objects.writing(KEY, content_type="video/mp4") as writer:
                for _ in range(20 * PART_BYTES // len(piece)):
                    writer.write(piece)
                writer.commit()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak < 4 * PART_BYTES


def test_an_object_of_a_bucket_with_versions_is_identified_by_its_version(objects: S3Objects, server: Server) -> None:
    server.s3.put_bucket_versioning(Bucket=objects.bucket, VersioningConfiguration={"Status": "Enabled"})
    versions = [server.s3.put_object(Bucket=objects.bucket, Key=KEY, Body=b"same")["VersionId"] for _ in range(2)]

    peeked = objects.peek(KEY, 1)

    assert peeked is not None
    assert peeked.version == versions[-1] != versions[0]
