"""Tests of the route /api/adoptions."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from anb_core.domain.errors import Unavailable
from anb_core.domain.keys import MAX_KEY_BYTES
from anb_core.domain.model import Scope
from tests.unit.api.conftest import VIDEO, World, code_of, running_api


@pytest.fixture
def bucket() -> Iterator[World]:
    """An API whose bucket has videos of other programs. One owner may have three unfinished videos."""
    with running_api(ANB_SOURCE_PREFIXES="camera/", ANB_MAX_UNFINISHED_VIDEOS_PER_OWNER=3) as world:
        for key in ("camera/a.mp4", "camera/b.mp4", "camera/c.mp4"):
            world.objects.put(key, VIDEO)
        world.objects.put("camera/d.txt", b"text")
        world.objects.put("camera/e.mp4", VIDEO + b"\0" * 10_000)
        yield world


def adopt(world: World, headers: dict[str, str] | None = None, **order: Any) -> httpx.Response:
    headers = headers or world.caller("olga", Scope.OPS)
    return world.client.post("/api/adoptions", headers=headers, json={"prefix": "camera/"} | order)


def test_objects_become_videos_and_the_report_says_what_happened_to_each(bucket: World) -> None:
    report = adopt(bucket, dry_run=True, after="camera/b.mp4").json()
    adopted = report.pop("adopted")
    assert [one["key"] for one in adopted] == ["camera/c.mp4"]
    assert report == {
        "dry_run": True,
        "owner": "olga",
        "ignored": [
            {
                "key": "camera/d.txt",
                "code": "not_a_video",
                "message": "The file is not a video of an accepted kind, whatever its name says: "
                "MP4, MOV, 3GP, MKV, WebM, AVI or MPEG-TS.",
            }
        ],
        "refused": [
            {
                "key": "camera/e.mp4",
                "code": "file_too_large",
                "message": "The file has more than 10000 bytes, which is the limit. To allow more, raise "
                "ANB_MAX_UPLOAD_BYTES.",
            }
        ],
        "next_after": None,
    }
    assert bucket.store.listing(owner=None) == []

    assert adopt(bucket, after="camera/b.mp4").json()["adopted"] == adopted
    [record] = bucket.store.listing(owner="olga")
    assert (record.video.id, record.video.source_key) == (adopted[0]["video_id"], "camera/c.mp4")


def test_the_owner_is_the_given_one_else_that_of_the_settings_else_the_caller(bucket: World) -> None:
    assert [adopt(bucket, dry_run=True, owner=owner).json()["owner"] for owner in ("ana", None)] == ["ana", "olga"]
    with running_api(ANB_ADOPT_OWNER="cameras", ANB_SOURCE_PREFIXES="camera/") as other:
        assert adopt(other).json()["owner"] == "cameras"


def test_adoptions_leave_room_for_uploads_of_the_same_owner(bucket: World) -> None:
    report = adopt(bucket, owner="ana").json()
    assert (len(report["adopted"]), report["next_after"]) == (2, "camera/b.mp4")

    answer = adopt(bucket, owner="ana", after=report["next_after"])
    assert code_of(answer) == (429, "backlog_full")
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    bucket.upload(bucket.caller("ana"))


@pytest.mark.parametrize(
    ("order", "code"),
    [
        ({"prefix": "drone/"}, "key_not_allowed"),
        ({"prefix": ""}, "request_invalid"),
        ({"prefix": "camera/" + "é" * 600}, "request_invalid"),
        ({"prefix": "camera/" + "k" * MAX_KEY_BYTES}, "request_invalid"),
        ({"after": ""}, "request_invalid"),
        ({"owner": ""}, "request_invalid"),
        ({"owner": "a\nb"}, "request_invalid"),
        ({"cap": 0}, "request_invalid"),
        ({"cap": 101}, "request_invalid"),
        ({"limit": 3}, "request_invalid"),
    ],
    ids=str,
)
def test_an_order_that_can_not_be_carried_out_is_refused(bucket: World, order: dict[str, Any], code: str) -> None:
    assert code_of(adopt(bucket, **order)) == (422, code)


def test_a_key_that_utf_8_can_not_encode_is_refused(bucket: World) -> None:
    ops = bucket.caller("olga", Scope.OPS)
    body = rb'{"prefix": "camera/", "after": "\ud800"}'
    assert code_of(bucket.client.post("/api/adoptions", headers=ops, content=body)) == (422, "request_invalid")


def test_others_adopt_nothing_and_an_outage_of_the_bucket_is_503(bucket: World) -> None:
    assert code_of(bucket.client.post("/api/adoptions", json={"prefix": "camera/"})) == (401, "token_missing")
    assert code_of(adopt(bucket, bucket.caller("ana"))) == (403, "scope_missing")
    ops = bucket.caller("olga", Scope.OPS)
    bucket.objects.fault = Unavailable("bucket", "The bucket is away.")
    assert code_of(adopt(bucket, ops)) == (503, "bucket_unavailable")
