"""What S3 may answer and no emulator does."""

from datetime import timedelta

import pytest
from botocore.stub import ANY, Stubber

from anb_core.adapters.s3 import S3Objects
from anb_core.domain.errors import Unavailable

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
    with Stubber(objects._store.s3) as stub:
        stub.add_response("list_multipart_uploads", {})
        stub.add_response("delete_objects", {"Errors": [{"Key": KEY, "Code": "InternalError", "Message": "try again"}]})

        with pytest.raises(Unavailable, match=rf"did not delete {KEY}: InternalError, try again"):
            objects.delete([KEY])


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
