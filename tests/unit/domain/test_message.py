import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anb_core.domain.message import MAX_BODY_BYTES, Message, UnreadableMessage, decode, encode
from anb_core.domain.naming import VIDEO_ID_PATTERN

CREATED = datetime(2026, 1, 1, 12, tzinfo=UTC)


def body(**fields: Any) -> str:
    return json.dumps({"video_id": "v"} | fields)


def test_what_we_encode_has_every_field_of_both_older_consumers() -> None:
    fields = json.loads(
        encode(video_id="v", task_id="t", generation=2, bucket="bucket", key="uploads/v.mp4", created_at=CREATED)
    )
    assert fields == {
        "video_id": "v",
        "task_id": "t",
        "generation": 2,
        "video_path": "s3://bucket/uploads/v.mp4",
        "file_path": "uploads/v.mp4",
        "status": "pending",
        "created_at": "2026-01-01T12:00:00+00:00",
        "timestamp": "2026-01-01T12:00:00+00:00",
    }


texts = st.text(min_size=1)
ids = st.from_regex(VIDEO_ID_PATTERN, fullmatch=True)


@given(ids, texts, st.integers(1), texts)
def test_what_we_encode_we_read(video_id: str, task_id: str, generation: int, key: str) -> None:
    wire = encode(
        video_id=video_id, task_id=task_id, generation=generation, bucket="bucket", key=key, created_at=CREATED
    )
    assert decode(wire) == Message(video_id, generation, key, "bucket")


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (
            body(video_path="s3://bucket/uploads/v.mp4", task_id="t", created_at="2026-01-01T12:00:00Z"),
            Message("v", None, "uploads/v.mp4", "bucket"),
        ),
        (
            body(file_path="uploads/v.mp4", status="pending", timestamp="2026-01-01T12:00:00"),
            Message("v", None, "uploads/v.mp4", None),
        ),
        (
            body(file_path="uploads/v.mp4", timestamp=1767268800),
            Message("v", None, "uploads/v.mp4", None),
        ),
        (body(), Message("v", None, None, None)),
        (body(video_path="uploads/v.mp4"), Message("v", None, "uploads/v.mp4", None)),
        (body(video_path="s3://bucket", file_path="k"), Message("v", None, "k", None)),
        (body(task_id=None, generation=None, file_path=None), Message("v", None, None, None)),
        (body(priority=7, tags=["a"]), Message("v", None, None, None)),
    ],
    ids=[
        "first producer",
        "second producer",
        "seconds",
        "least",
        "bare path",
        "no key in path",
        "nulls",
        "more fields",
    ],
)
def test_every_form_that_exists_is_read(wire: str, message: Message) -> None:
    assert decode(wire) == message


@pytest.mark.parametrize("time", ["yesterday", "", 1e300, float("nan"), -1e18, [], {"a": 1}, True])
def test_an_older_producers_clock_is_its_own_affair(time: object) -> None:
    assert decode(body(created_at=time)).video_id == "v"


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("1" * 5_000, "not JSON"),
        ("[]", "a JSON list, not an object"),
        ("null", "a JSON NoneType, not an object"),
        ("{}", "no video_id"),
        ('{"video_id": ""}', "no video_id"),
        ('{"Type": "Notification", "Message": "{}"}', "an SNS notification that is not about an object of S3"),
        ('{"video_id": null}', "no video_id"),
        ('{"video_id": 7}', "video_id is 7, not text"),
        (body(video_id="../v"), "video_id is '../v', which is not a valid id"),
        (body(video_id="v\n"), r"video_id is 'v\\n', which"),
        (body(video_id="v" * 129), "video_id is 'v+[.]{3}v+', which"),
        (body(video_path=1), "video_path is 1, not text"),
        (body(file_path=1), "file_path is 1, not text"),
        (body(generation="1"), "generation is '1', not a whole number"),
        (body(generation=1.5), "generation is 1.5, not a whole number"),
        (body(generation=True), "generation is True, not a whole number"),
        (body(padding="x" * MAX_BODY_BYTES), "more than 262144 bytes"),
        (body(padding="é" * (MAX_BODY_BYTES // 2)).replace("\\u00e9", "é"), "more than 262144 bytes"),
    ],
)
def test_a_body_nobody_can_read_is_refused_with_the_reason(wire: str, reason: str) -> None:
    with pytest.raises(UnreadableMessage, match=reason):
        decode(wire)


@pytest.mark.parametrize("fields", [{"file_path": ["x" * 1000] * 100}, {"video_id": "x" * 200_000}], ids=["key", "id"])
def test_the_reason_is_short_however_long_the_value(fields: dict[str, Any]) -> None:
    with pytest.raises(UnreadableMessage) as unreadable:
        decode(body(**fields))
    assert len(str(unreadable.value)) < 500


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["video_id", "task_id", "generation", "video_path", "file_path", "created_at", "timestamp"])


@given(st.text() | json_values.map(json.dumps) | st.dictionaries(names, json_values).map(json.dumps))
def test_whatever_arrives_is_read_or_refused(wire: str) -> None:
    with suppress(UnreadableMessage):
        assert decode(wire).video_id
