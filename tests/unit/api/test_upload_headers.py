"""Tests that the API checks the headers of an upload before it reads the body."""

import pytest

from anb_api.multipart import OVERHEAD_BYTES
from tests.unit.api.conftest import VIDEO, World, code_of


@pytest.mark.parametrize("key", ["", "x" * 256, "två", "a b"])
def test_an_invalid_idempotency_key_is_refused_before_the_body_is_read(world: World, key: str) -> None:
    answer = world.client.post(
        "/api/videos/upload", headers={**world.caller("ana"), "Idempotency-Key": key.encode()}, content=b"unread"
    )

    # The body is not a form, so an API that reads the body before the header responds with another error.
    assert code_of(answer) == (422, "request_invalid")
    assert "header.idempotency-key: it has a character that is not allowed" in answer.json()["detail"].lower()


@pytest.mark.parametrize(
    ("length", "answered"),
    [(10_000 + OVERHEAD_BYTES, (400, "form_malformed")), (10_001 + OVERHEAD_BYTES, (413, "file_too_large"))],
)
def test_a_body_that_must_hold_too_large_a_file_is_refused_by_its_length(
    world: World, length: int, answered: tuple[int, str]
) -> None:
    headers = {"Content-Length": str(length), "Content-Type": "multipart/form-data; boundary=x"}

    answer = world.client.post("/api/videos/upload", headers=world.caller("ana") | headers, content=b"no form at all")

    assert code_of(answer) == answered


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "GZIP"])
def test_a_compressed_upload_is_refused_with_the_encoding_named(world: World, encoding: str) -> None:
    headers = {**world.caller("ana"), "Content-Encoding": encoding, "Content-Type": "multipart/form-data; boundary=x"}

    answer = world.client.post("/api/videos/upload", headers=headers, content=b"unread")

    assert code_of(answer) == (415, "encoding_unsupported")
    assert encoding.removeprefix("identity, ") in answer.json()["detail"]


def test_an_upload_with_the_encoding_identity_is_accepted(world: World) -> None:
    answer = world.client.post(
        "/api/videos/upload",
        headers={**world.caller("ana"), "Content-Encoding": "identity"},
        data={"title": "T", "edit": ""},
        files={"video_file": ("a.mp4", VIDEO)},
    )

    assert answer.status_code == 202
