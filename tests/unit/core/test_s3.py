"""What S3 may answer and no emulator does."""

from datetime import timedelta
from pathlib import Path

import pytest
from botocore.stub import ANY, Stubber
from structlog.testing import capture_logs

from anb_core.adapters.s3 import PART_BYTES, S3Objects
from anb_core.domain.errors import Unavailable, Withheld

KEY = "uploads/0197.mp4"


@pytest.fixture
def objects() -> S3Objects:
    return S3Objects("anb-videos", region="us-east-1", patience=timedelta(seconds=20))


def test_deleting_does_not_mind_an_unfinished_upload_that_ends_at_that_moment(objects: S3Objects) -> None:
    with Stubber(objects._store.s3) as stub:
        stub.add_response("list_multipart_uploads", {"Uploads": [{"Key": KEY, "UploadId": "u-1"}]})
        stub.add_client_error("abort_multipart_upload", "NoSuchUpload")
        stub.add_response("delete_objects", {})

        objects.delete([KEY])
        stub.assert_no_pending_responses()


def test_an_object_that_could_not_be_deleted_is_named_with_the_reason(objects: S3Objects) -> None:
    with Stubber(objects._store.s3) as stub, capture_logs() as logs:
        stub.add_response("list_multipart_uploads", {})
        stub.add_response(
            "delete_objects", {"Errors": [{"Key": KEY, "Code": "AccessDenied", "Message": "a legal hold"}]}
        )

        assert objects.delete([KEY, "uploads/other.mp4"]) == {KEY}
    assert [(line["count"], line["first"]) for line in logs] == [(1, f"{KEY}: AccessDenied, a legal hold")]


def test_more_objects_than_one_call_takes_are_deleted_in_several(objects: S3Objects) -> None:
    keys = [f"uploads/{number}.mp4" for number in range(1001)]
    with Stubber(objects._store.s3) as stub:
        stub.add_response("list_multipart_uploads", {}, {"Bucket": "anb-videos", "Prefix": "uploads/"})
        for batch in (keys[:1000], keys[1000:]):
            told = {"Objects": [{"Key": key} for key in batch], "Quiet": True}
            stub.add_response("delete_objects", {}, {"Bucket": ANY, "Delete": told})

        objects.delete(keys)
        stub.assert_no_pending_responses()


def test_a_refusal_is_told_with_the_words_of_s3(objects: S3Objects) -> None:
    with Stubber(objects._store.s3) as stub:
        stub.add_client_error("head_bucket", "403", "Forbidden", http_status_code=403)

        with pytest.raises(Unavailable) as error:
            objects.ping()

    assert error.value.message == ("Bucket anb-videos at http://127.0.0.1:9 refuses HeadBucket: 403, Forbidden.")


@pytest.mark.parametrize(("status", "code"), [(403, "403"), (400, "400")])
def test_an_object_that_is_refused_by_a_bucket_that_answers_is_named_with_what_to_do(
    objects: S3Objects, status: int, code: str
) -> None:
    with Stubber(objects._store.s3) as stub:
        stub.add_client_error("head_object", code, "Forbidden", http_status_code=status)
        stub.add_response("head_bucket", {})

        with pytest.raises(Withheld, match=rf"anb-videos does not give us {KEY}.*: {code}, Forbidden.*s3:GetObject"):
            objects.head(KEY)


def test_a_key_service_that_is_asked_too_often_withholds_nothing(objects: S3Objects, tmp_path: Path) -> None:
    with Stubber(objects._store.s3) as stub:
        stub.add_client_error("get_object", "KMS.ThrottlingException", "Rate exceeded", http_status_code=400)

        with pytest.raises(Unavailable, match="Rate exceeded"):
            objects.fetch(KEY, tmp_path / "source")


@pytest.mark.parametrize("call", ["head", "fetch"])
def test_credentials_that_are_refused_everything_are_an_outage_and_no_objects_fault(
    objects: S3Objects, tmp_path: Path, call: str
) -> None:
    with Stubber(objects._store.s3) as stub:
        stub.add_client_error(f"{call}_object".replace("fetch", "get"), "InvalidAccessKeyId", http_status_code=403)
        stub.add_client_error("head_bucket", "403", "Forbidden", http_status_code=403)

        with pytest.raises(Unavailable, match="refuses HeadBucket: 403") as error:
            objects.head(KEY) if call == "head" else objects.fetch(KEY, tmp_path / "source")
    assert error.value.part == "bucket"


def test_an_upload_whose_end_is_refused_like_a_look_at_it_says_that_the_bucket_is_away(objects: S3Objects) -> None:
    with Stubber(objects._store.s3) as stub:
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
