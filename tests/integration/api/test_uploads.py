import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest

from anb_api import middleware
from anb_core.domain.limits import Cap, Limits
from anb_core.domain.status import Status
from anb_core.usecases import upload_session
from tests.support import eventually
from tests.support.api import BOUNDARY, END, MAX_UPLOAD, VIDEO, Api, form, part


@pytest.fixture
def owner(request: pytest.FixtureRequest) -> str:
    """The name of an owner who has no videos."""
    return str(request.node.name)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def leaves_nothing(api: Api, owner: str) -> bool:
    return not (api.records(owner) or api.unfinished())


def test_a_large_file_arrives_whole(api: Api, owner: str) -> None:
    data = VIDEO + bytes(20 * 1024 * 1024)
    with api.client(owner) as client:
        answer = client.post("/api/videos/upload", data={"title": "T"}, files={"video_file": ("a.mp4", data)})

    assert answer.status_code == 202
    (record,) = api.records(owner)
    stored = api.context.objects.head(record.video.source_key)
    assert stored is not None
    assert stored.size == len(data)
    assert record.video.source is not None
    assert record.video.source.size == len(data)
    assert not api.unfinished()


@pytest.mark.parametrize(
    ("data", "file", "expected"),
    [
        ({"title": "T"}, None, (422, "file_missing")),
        ({"title": "T"}, ("a.mp4", b""), (422, "file_empty")),
        ({"title": "T"}, ("a.mp4", b"I am a text.\n" * 1000), (422, "not_a_video")),
        ({}, ("a.mp4", VIDEO), (422, "title_missing")),
        ({"title": ""}, ("a.mp4", VIDEO), (422, "title_empty")),
        ({"title": "x" * 10_000}, ("a.mp4", VIDEO), (422, "title_too_long")),
        ({"title": "a\x07b"}, ("a.mp4", VIDEO), (422, "title_unprintable")),
        ({"title": "T", "edit": '{"speed": 2}'}, ("a.mp4", VIDEO), (422, "edit_invalid")),
        ({"title": "T", "edit": '{"trim": {"length": 31}}'}, ("a.mp4", VIDEO), (422, "edit_invalid")),
        ({"title": "T", "process_after": "2h"}, ("a.mp4", VIDEO), (422, "process_after_invalid")),
        ({"title": "T", "owner": "bob"}, ("a.mp4", VIDEO), (422, "field_unknown")),
    ],
)
def test_a_fault_that_the_upload_shows_is_refused_at_upload(
    api: Api, owner: str, data: dict[str, str], file: tuple[str, bytes] | None, expected: tuple[int, str]
) -> None:
    # httpx sends multipart/form-data only if `files` is not empty. So without a video, put the field `edit` in `files`.
    files = {"video_file": file} if file else {"edit": (None, b"{}")}
    with api.client(owner) as client:
        answer = client.post("/api/videos/upload", data=data, files=files)

    assert code_of(answer) == expected
    assert leaves_nothing(api, owner)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (form()[:-20], (400, "form_truncated")),
        (b"nonsense", (400, "form_malformed")),
        (form().replace(b"\r\n\r\n", b"\r\nX-Large: " + b"x" * 20_000 + b"\r\n\r\n", 1), (400, "form_malformed")),
        (form()[: -len(END)] + part("video_file", VIDEO, "b.mp4") + END, (422, "field_repeated")),
        (part("video_file", VIDEO, "a.mp4") + part("title", b"a\nb") + END, (422, "title_unprintable")),
        (part("video_file", VIDEO, "a.mp4") + END, (422, "title_missing")),
        (part("title", b"T") + part("video_file", VIDEO) + END, (422, "file_missing")),
    ],
    ids=[
        "truncated",
        "no form",
        "part headers too large",
        "two files",
        "bad title at the end",
        "no title",
        "no file name",
    ],
)
def test_a_wrong_form_is_refused_and_leaves_nothing(
    api: Api, owner: str, parts: bytes, expected: tuple[int, str]
) -> None:
    with api.client(owner) as client:
        answer = client.post(
            "/api/videos/upload", content=parts, headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        )

    assert code_of(answer) == expected
    assert leaves_nothing(api, owner)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (None, (415, "not_a_form")),
        ("video/mp4", (415, "not_a_form")),
        ("multipart/form-data", (400, "form_malformed")),
        ("multipart/form-data; boundary=" + "x" * 300, (400, "form_malformed")),
    ],
)
def test_a_body_that_is_not_a_form_with_a_boundary_is_refused(
    api: Api, owner: str, content_type: str | None, expected: tuple[int, str]
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    with api.client(owner) as client:
        answer = client.post("/api/videos/upload", content=form(), headers=headers)

    assert code_of(answer) == expected


def test_a_file_name_with_a_path_loses_its_path(api: Api, owner: str) -> None:
    with api.client(owner) as client:
        client.post("/api/videos/upload", data={"title": "T"}, files={"video_file": ("../../../etc/a.mp4", VIDEO)})

    (record,) = api.records(owner)
    assert record.video.file_name == "a.mp4"
    assert record.video.source_key == f"uploads/{record.video.id}.mp4"


def test_title_and_edit_may_come_after_the_file(api: Api, owner: str) -> None:
    parts = part("video_file", VIDEO, "a.mp4") + part("title", b"Late") + part("edit", b'{"trim":{"start":3}}') + END
    with api.client(owner) as client:
        client.post(
            "/api/videos/upload", content=parts, headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        )

    (record,) = api.records(owner)
    assert (record.video.title, record.video.edit.trim.start) == ("Late", 3)


def test_a_body_in_chunks_without_a_length_is_taken(api: Api, owner: str) -> None:
    def pieces() -> Iterator[bytes]:
        whole = form()
        for start in range(0, len(whole), 100):
            yield whole[start : start + 100]

    with api.client(owner) as client:
        answer = client.post(
            "/api/videos/upload",
            content=pieces(),
            headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
        )

    assert answer.status_code == 202


def test_a_file_over_the_limit_is_refused_by_its_length_before_it_is_sent(api: Api, owner: str) -> None:
    with api.raw(owner) as connection:
        connection.begin(f"Content-Length: {10 * 1024**3}")
        answer = connection.answer()

        assert (answer.status, answer.headers["Connection"]) == (413, "close")
        assert b"file_too_large" in answer.read()


def test_a_client_that_expects_100_continue_does_not_get_it_when_the_upload_is_refused(
    api: Api, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With a long LINGER_SECONDS, the test hangs if the server waits for the body before closing the connection.
    monkeypatch.setattr(middleware, "LINGER_SECONDS", 3600.0)
    with api.raw(owner) as connection:
        connection.begin(f"Content-Length: {10 * 1024**3}", "Expect: 100-continue")
        answer = connection.answer()

        assert answer.status == 413  # The status is not 100, so the server did not ask for the body.
        answer.read()
        assert connection.receive() == b""


@pytest.mark.parametrize("expectation", [(), ("Expect: 100-continue",)], ids=["plain", "Expect: 100-continue"])
def test_an_upload_beyond_a_limit_is_refused_before_its_body_is_sent(
    api: Api, owner: str, monkeypatch: pytest.MonkeyPatch, expectation: tuple[str, ...]
) -> None:
    full = replace(api.context.uploads, limits=Limits(per_owner=Cap(unfinished=0)))
    # The context is frozen, so patch the class: slots are descriptors there.
    monkeypatch.setattr(type(api.context), "uploads", full)
    with api.raw(owner) as connection:
        connection.begin("Connection: keep-alive", f"Content-Length: {len(form())}", *expectation)
        answer = connection.answer()

        assert (answer.status, answer.headers["Connection"]) == (429, "close")
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert b"backlog_full" in answer.read()


def test_a_client_that_expects_100_continue_gets_it_when_the_upload_is_accepted(api: Api, owner: str) -> None:
    with api.raw(owner) as connection:
        connection.begin(f"Content-Length: {len(form())}", "Expect: 100-continue")
        assert connection.receive().startswith(b"HTTP/1.1 100 ")
        connection.send(form())

        assert connection.answer().status == 202


def test_a_file_over_the_limit_without_a_length_is_refused_while_it_arrives(api: Api, owner: str) -> None:
    with api.raw(owner) as connection:
        connection.begin("Transfer-Encoding: chunked")
        connection.send_chunk(part("title", b"T") + part("video_file", VIDEO, "a.mp4")[:-2])
        for _ in range(MAX_UPLOAD // 2**20 + 1):
            connection.send_chunk(bytes(2**20))
        answer = connection.answer()

        assert answer.status == 413
        assert b"file_too_large" in answer.read()
    assert leaves_nothing(api, owner)


def test_a_client_that_sends_all_of_it_first_still_hears_why_it_was_refused(api: Api, owner: str) -> None:
    with api.raw(owner) as connection:
        connection.begin(f"Content-Length: {16 * 2**20}", content_type="video/mp4")
        connection.send(bytes(16 * 2**20))  # `send` raises an error if the server has reset the connection.
        answer = connection.answer()

        assert answer.status == 415
        assert b"not_a_form" in answer.read()


@pytest.mark.parametrize("sent", [4, 12], ids=["in one part", "in several parts"])
def test_when_the_connection_breaks_row_and_object_are_gone_at_once(api: Api, owner: str, sent: int) -> None:
    with api.raw(owner) as connection:
        connection.begin(f"Content-Length: {20 * 2**20}")
        connection.send(part("title", b"T") + part("video_file", VIDEO, "a.mp4")[:-2])
        eventually(lambda: [record.job.status for record in api.records(owner)] == [Status.UPLOADING])
        for _ in range(sent):
            connection.send(bytes(2**20))
        eventually(lambda: bool(api.unfinished()) is (sent == 12))
        connection.reset()

    eventually(lambda: leaves_nothing(api, owner))


def test_a_slow_client_is_waited_for(api: Api, owner: str) -> None:
    with api.raw(owner) as connection:
        whole = form()
        connection.begin(f"Content-Length: {len(whole)}")
        for start in range(0, len(whole), 50):
            connection.send(whole[start : start + 50])

        assert connection.answer().status == 202


def test_other_requests_are_answered_while_uploads_stand_still(api: Api, owner: str) -> None:
    waiting = [api.raw(owner) for _ in range(12)]
    try:
        for connection in waiting:
            connection.begin(f"Content-Length: {len(form())}")
            connection.send(form()[:-10])
        eventually(lambda: len(api.records(owner)) == len(waiting))

        with api.client(owner) as client:
            assert len(client.get("/api/videos").json()["videos"]) == len(waiting)

        for connection in waiting:
            connection.send(form()[-10:])
        assert {connection.answer().status for connection in waiting} == {202}
    finally:
        for connection in waiting:
            connection.__exit__()


def test_more_uploads_than_there_is_room_for_are_asked_to_come_back(api: Api, owner: str) -> None:
    waiting = [api.raw(owner) for _ in range(12)]
    try:
        for connection in waiting:
            connection.begin(f"Content-Length: {len(form())}")
            connection.send(form()[:-10])
        eventually(lambda: len(api.records(owner)) == len(waiting))

        with api.client(owner) as client:
            answer = client.post("/api/videos/upload", data={"title": "T"}, files={"video_file": ("a.mp4", VIDEO)})
        assert code_of(answer) == (503, "uploads_unavailable")
        assert answer.headers["retry-after"] == "5"

        # Another owner can still upload, because one owner can't take all upload slots.
        with api.client(f"not-{owner}") as client:
            answer = client.post("/api/videos/upload", data={"title": "T"}, files={"video_file": ("a.mp4", VIDEO)})
        assert answer.status_code == 202
    finally:
        for connection in waiting:
            connection.reset()
    eventually(lambda: leaves_nothing(api, owner))
    with api.client(owner) as client:
        answer = client.post("/api/videos/upload", data={"title": "T"}, files={"video_file": ("a.mp4", VIDEO)})
    assert answer.status_code == 202


def test_an_upload_sent_again_with_its_key_gets_the_same_receipt(api: Api, owner: str) -> None:
    with api.client(owner) as client:
        answers = [
            client.post(
                "/api/videos/upload",
                headers={"Idempotency-Key": "k"},
                data={"title": title},
                files={"video_file": ("a.mp4", VIDEO)},
            )
            for title in ("T", " T ", "Another")
        ]

    first, again, other = answers
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert code_of(other) == (422, "idempotency_key_reused")
    assert len(api.records(owner)) == 1


def test_of_two_uploads_with_one_key_at_a_time_one_is_refused(api: Api, owner: str) -> None:
    with api.raw(owner) as first, api.client(owner) as client:
        first.begin(f"Content-Length: {len(form())}", "Idempotency-Key: k")
        first.send(form()[:-10])
        eventually(lambda: api.records(owner))

        answer = client.post(
            "/api/videos/upload",
            headers={"Idempotency-Key": "k"},
            data={"title": "A title"},
            files={"video_file": ("clip.mp4", VIDEO)},
        )
        assert code_of(answer) == (409, "upload_in_progress")
        assert 1 <= int(answer.headers["retry-after"]) <= 20

        first.send(form()[-10:])
        assert first.answer().status == 202
    assert len(api.records(owner)) == 1


def test_an_upload_whose_connection_died_in_silence_gives_its_key_to_the_same_upload_sent_again(
    api: Api, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_session, "SILENCE", timedelta(seconds=1))
    with api.raw(owner) as first, api.client(owner) as client:
        first.begin(f"Content-Length: {len(form())}", "Idempotency-Key: k")
        first.send(form()[:-10])
        eventually(lambda: api.records(owner))

        def again() -> httpx.Response:
            return client.post(
                "/api/videos/upload",
                headers={"Idempotency-Key": "k"},
                data={"title": "A title"},
                files={"video_file": ("clip.mp4", VIDEO)},
            )

        eventually(lambda: again().status_code == 202)

        first.send(form()[-10:])
        answer = first.answer()
        assert (answer.status, answer.headers["retry-after"]) == (409, None)
    (record,) = api.records(owner)
    assert record.job.status is Status.UPLOADED


def test_of_many_uploads_with_one_key_exactly_one_becomes_a_video(api: Api, owner: str) -> None:
    statuses: list[int] = []
    headers = {"Authorization": f"Bearer {api.token(owner)}", "Idempotency-Key": "k"}

    def upload() -> None:
        answer = httpx.post(
            f"{api.url}/api/videos/upload",
            headers=headers,
            data={"title": "T"},
            files={"video_file": ("a.mp4", VIDEO)},
            timeout=60,
            trust_env=False,
        )
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=upload) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(statuses) == 8
    assert set(statuses) <= {202, 409}
    assert 202 in statuses
    assert len(api.records(owner)) == 1
