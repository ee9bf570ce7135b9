import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anb_core.domain.message import MAX_BODY_BYTES, UnreadableMessage
from anb_core.domain.s3_notifications import CreatedObject, created_objects
from tests.support.s3_notifications import ETAG, TEST_EVENT, envelope, notification, record

VERSION = "096fKKXTRTtl3on89fVO.nfljtsv6qko"
DOOR = CreatedObject("anb-videos", "camera/door.mp4", ETAG)


@pytest.mark.parametrize(
    ("written", "created"),
    [
        (record(), DOOR),
        (record(name="s3:ObjectCreated:CompleteMultipartUpload"), DOOR),
        (record(source="minio:s3", versionId=None), DOOR),
        (record(source="ceph:s3", versionId="", size="1024"), DOOR),
        (record(eTag=f'"{ETAG}"'), DOOR),
        (record(versionId="null"), DOOR),
        (record(versionId=VERSION), CreatedObject("anb-videos", "camera/door.mp4", VERSION)),
        (record(eTag=7, versionId=[]), CreatedObject("anb-videos", "camera/door.mp4", "")),
        (record("camera/red+flower.mp4"), CreatedObject("anb-videos", "camera/red flower.mp4", ETAG)),
        (record("camera%2F1%2B1+%C3%A9.mp4"), CreatedObject("anb-videos", "camera/1+1 é.mp4", ETAG)),
        (record("camera/"), CreatedObject("anb-videos", "camera/", ETAG)),
        (record(size=0), CreatedObject("anb-videos", "camera/door.mp4", ETAG, empty=True)),
        (record(size="0"), CreatedObject("anb-videos", "camera/door.mp4", ETAG, empty=True)),
        (record(size=None), DOOR),
        (record("a" * 1024), CreatedObject("anb-videos", "a" * 1024, ETAG)),
    ],
    ids=[
        "S3",
        "with a prefix",
        "MinIO",
        "Ceph",
        "quoted ETag",
        "versions suspended",
        "version",
        "neither version nor ETag",
        "space",
        "encoded",
        "folder",
        "empty",
        "empty on Ceph",
        "no size",
        "longest key",
    ],
)
def test_every_documented_form_of_a_creation_is_read(written: dict[str, Any], created: CreatedObject) -> None:
    assert created_objects(notification(written)) == (created,)
    assert created_objects(envelope(notification(written))) == (created,)


def test_each_record_of_a_message_is_read_and_only_creations_are_kept() -> None:
    body = notification(
        record("camera/a.mp4"),
        record("camera/b.mp4", name="ObjectRemoved:Delete"),
        {"eventSource": "aws:s3", "eventName": "ObjectTagging:Put"},
        {"eventSource": "aws:s3", "eventName": 7},
        record("camera/c.mp4"),
    )
    assert [created.key for created in created_objects(body) or ()] == ["camera/a.mp4", "camera/c.mp4"]


@pytest.mark.parametrize("body", [TEST_EVENT, envelope(TEST_EVENT), notification()], ids=["alone", "SNS", "no record"])
def test_a_notification_about_no_object_is_empty(body: str) -> None:
    assert created_objects(body) == ()


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"video_id": "v", "Records": [record()]}),
        json.dumps({"video": 1}),
        json.dumps({"Records": 1}),
        json.dumps({"Records": [1]}),
        notification(record(source="aws:sqs")),
        notification(record(source=["s3"])),
        envelope("{}"),
        envelope(None),
        json.dumps({"Type": "SubscriptionConfirmation", "Message": TEST_EVENT}),
    ],
)
def test_everything_else_is_no_notification(body: str) -> None:
    assert created_objects(body) is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{", "the body is not JSON"),
        ("[]", "the body is a JSON list"),
        (envelope("Hello world!"), "Message of the SNS notification: the body is not JSON"),
        (envelope("[" * 100_000), "Message of the SNS notification: the body is not JSON"),
        (notification(record(), record(bucket=7)), "record 2 has no bucket name of 1 to 255 bytes"),
        (notification(record(bucket="x" * 256)), "record 1 has no bucket name of 1 to 255 bytes"),
        (notification({"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}), "record 1 has no bucket name"),
        (notification(record(None)), "record 1 has no key of 1 to 1024 bytes"),
        (notification(record("")), "record 1 has no key of 1 to 1024 bytes"),
        (notification(record("é" * 513)), "record 1 has no key of 1 to 1024 bytes"),
        (notification(record("\ud800")), "record 1 has no key of 1 to 1024 bytes"),
        (notification(record("x" * MAX_BODY_BYTES)), "more than 262144 bytes"),
    ],
)
def test_a_notification_that_can_not_be_read_is_refused_with_the_reason(body: str, reason: str) -> None:
    with pytest.raises(UnreadableMessage, match=reason):
        created_objects(body)


def test_the_id_of_a_video_is_the_same_for_ever_and_differs_by_bucket_key_and_version() -> None:
    assert DOOR.video_id == "9431d106-cf0b-5ab0-92ef-6f502f5fdfee"
    ids = [
        CreatedObject(*names).video_id
        for names in [
            ("b", "k", "v"),
            ("b", "k", "w"),
            ("b", "l", "v"),
            ("c", "k", "v"),
            ("b", "kv", ""),
            ("bk", "", "v"),
        ]
    ]
    assert len(set(ids)) == len(ids)
    assert CreatedObject("b", "k", "v", empty=True).video_id == ids[0]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("ObjectCreated:Put"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
s3_objects = json_values | st.fixed_dictionaries(
    {"key": json_values}, optional={"size": json_values, "eTag": json_values, "versionId": json_values}
)
records = json_values | st.fixed_dictionaries(
    {
        "eventSource": st.just("aws:s3") | json_values,
        "eventName": st.just("ObjectCreated:Put") | json_values,
        "s3": json_values
        | st.fixed_dictionaries({"bucket": json_values | st.just({"name": "b"}), "object": s3_objects}),
    }
)
bodies = st.text() | st.fixed_dictionaries(
    {}, optional={"Records": json_values | st.lists(records, max_size=3), "Event": json_values, "Type": json_values}
).map(json.dumps)


@given(bodies | bodies.map(envelope) | json_values.map(envelope))
def test_whatever_arrives_is_read_refused_or_no_notification(body: str) -> None:
    with suppress(UnreadableMessage):
        for created in created_objects(body) or ():
            assert created.key.encode()
            assert created.bucket
            assert created.video_id
