"""Tests of the limits for unfinished videos and stored bytes in the API."""

from collections.abc import Iterator

import httpx
import pytest

from tests.unit.api.conftest import VIDEO, World, code_of, process, running_api

ROOM = 5_000


@pytest.fixture
def limited() -> Iterator[World]:
    """An API in which an owner may have two unfinished videos, and store ROOM bytes."""
    with running_api(ANB_MAX_UNFINISHED_VIDEOS_PER_OWNER=2, ANB_MAX_STORED_BYTES_PER_OWNER=ROOM) as world:
        yield world


def announce(world: World, headers: dict[str, str], length: int = 100) -> httpx.Response:
    """Send an upload with an invalid body. If a limit refuses it, the API checked the limit before it read the body."""
    announced = {"Content-Length": str(length), "Content-Type": "multipart/form-data; boundary=x"}
    return world.client.post("/api/videos/upload", headers=headers | announced, content=b"no form at all")


def test_an_upload_beyond_the_backlog_gets_429_before_its_body_is_read(limited: World) -> None:
    ana, bob = limited.caller("ana"), limited.caller("bob")
    first, _ = limited.upload(ana), limited.upload(ana)

    answer = announce(limited, ana)

    assert code_of(answer) == (429, "backlog_full")
    assert answer.json()["detail"] == (
        "You have 2 unfinished videos, and one owner may have at most 2: wait until some are processed, or cancel some."
    )
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    limited.upload(bob)
    process(limited, first)
    limited.upload(ana)


def test_an_upload_beyond_the_quota_gets_429_before_its_body_is_read(limited: World) -> None:
    ana = limited.caller("ana")

    answer = announce(limited, ana, ROOM + 1)

    assert code_of(answer) == (429, "quota_exceeded")
    assert "one owner may store at most 5000" in answer.json()["detail"]
    assert answer.headers["retry-after"] == "60"
    assert code_of(announce(limited, ana, ROOM)) == (400, "form_malformed")


def test_an_upload_that_was_accepted_before_is_not_refused_when_it_is_sent_again(limited: World) -> None:
    ana = limited.caller("ana") | {"Idempotency-Key": "one"}
    first = limited.upload(ana)
    limited.upload(limited.caller("ana"))

    assert limited.upload(ana) == first
    assert code_of(announce(limited, ana | {"Idempotency-Key": "two"})) == (429, "backlog_full")


def test_refused_uploads_are_counted_by_code(limited: World) -> None:
    ana = limited.caller("ana")
    announce(limited, ana, ROOM + 1)
    for _ in range(2):
        limited.upload(ana)
    announce(limited, ana)
    announce(limited, ana)

    text = limited.client.get("/metrics").text

    assert 'anb_uploads_refused_total{code="quota_exceeded"} 1.0' in text
    assert 'anb_uploads_refused_total{code="backlog_full"} 2.0' in text


def test_an_upload_that_loses_the_race_for_the_last_place_is_refused_and_leaves_nothing(
    limited: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check before the body may be too early: uploads of other processes can take the last place meanwhile."""
    monkeypatch.setattr(type(limited.store), "check_limits", lambda *_, **__: None)
    ana = limited.caller("ana")
    for _ in range(2):
        limited.upload(ana)

    answer = limited.client.post(
        "/api/videos/upload", headers=ana, data={"title": "T"}, files={"video_file": ("a.mp4", VIDEO)}
    )

    assert code_of(answer) == (429, "backlog_full")
    assert len(limited.objects.contents) == 2
    assert len(limited.store.rows) == 2
