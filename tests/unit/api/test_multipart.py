from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anb_api.multipart import MAX_FIELD_BYTES, OVERHEAD_BYTES, UploadForm, boundary_of
from anb_api.problems import Malformed, UnsupportedMedia
from anb_core.domain.edit import EditSpec, Switch, Trim
from anb_core.domain.errors import AnbError, Invalid, TooLarge

BOUNDARY = b"----anb-42"


def part(name: str, value: bytes, *, file_name: str | None = None, headers: bytes = b"") -> bytes:
    told = f'; filename="{file_name}"' if file_name is not None else ""
    disposition = f'Content-Disposition: form-data; name="{name}"{told}\r\n'.encode()
    return b"--" + BOUNDARY + b"\r\n" + disposition + headers + b"\r\n" + value + b"\r\n"


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


TITLE = part("title", "Mi día".encode())
FILE = part("video_file", b"first\r\n--second\r\n", file_name="clip.mp4", headers=b"Content-Type: video/mp4\r\n")
EDIT = part("edit", b'{"trim": {"start": 1.5}, "intro": {"enabled": false}}')


def form(*pieces: bytes, max_file_bytes: int = 1000) -> UploadForm:
    return UploadForm(iter(pieces), BOUNDARY, max_file_bytes=max_file_bytes)


def cut(data: bytes, places: Sequence[int]) -> Iterator[bytes]:
    ends = [*sorted(place % (len(data) + 1) for place in places), len(data)]
    return (data[start:end] for start, end in zip([0, *ends], ends, strict=False))


def refusal_of(*pieces: bytes, max_file_bytes: int = 1000) -> AnbError:
    def read_all() -> None:
        upload = form(*pieces, max_file_bytes=max_file_bytes)
        upload.open_file()
        list(upload.read_file())

    with pytest.raises(AnbError) as refusal:
        read_all()
    return refusal.value


@given(st.lists(st.integers(0, 2000), max_size=30))
def test_however_a_form_is_cut_into_pieces_it_says_the_same(places: list[int]) -> None:
    upload = UploadForm(cut(body(TITLE, FILE, EDIT), places), BOUNDARY, max_file_bytes=1000)

    assert upload.open_file() == "clip.mp4"
    assert upload.title == "Mi día"
    assert upload.edit is None
    assert b"".join(upload.read_file()) == b"first\r\n--second\r\n"
    assert upload.edit == EditSpec(trim=Trim(start=1.5), intro=Switch(enabled=False))


@given(st.binary(max_size=300), st.lists(st.integers(0, 2000), max_size=30))
def test_no_byte_of_a_file_is_lost_or_changed(data: bytes, places: list[int]) -> None:
    whole = body(TITLE, part("video_file", data, file_name="a"))
    upload = UploadForm(cut(whole, places), BOUNDARY, max_file_bytes=1000)

    upload.open_file()

    if b"\r\n--" + BOUNDARY not in b"\r\n" + data:
        assert b"".join(upload.read_file()) == data


def test_nothing_is_read_that_nobody_asked_for() -> None:
    read: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number, piece in enumerate([TITLE, FILE[:-12], FILE[-12:], body()]):
            read.append(number)
            yield piece

    upload = UploadForm(pieces(), BOUNDARY, max_file_bytes=1000)

    upload.open_file()
    assert read == [0, 1]
    next(upload.read_file())
    assert read == [0, 1]


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        ([body(TITLE)], "file_missing"),
        ([body()], "file_missing"),
        ([body(TITLE, part("video_file", b"x"))], "file_missing"),
        ([body(TITLE, part("video_file", b"", file_name=""))], "file_missing"),
        ([body(TITLE, FILE, FILE)], "field_repeated"),
        ([body(TITLE, TITLE, FILE)], "field_repeated"),
        ([body(part("owner", b"bob"), FILE)], "field_unknown"),
        ([body(FILE, part("owner", b"bob"))], "field_unknown"),
        ([body(part("title", b"\xff\xfe"), FILE)], "title_not_text"),
        ([body(part("edit", b"{"), FILE)], "edit_invalid"),
        ([body(part("edit", b""), FILE)], "edit_invalid"),
        ([body(part("edit", b'{"rotate": 90}'), FILE)], "edit_invalid"),
        ([body(FILE, part("edit", b'{"trim": {"end": 3}}'))], "edit_invalid"),
        ([body(part("edit", b'{"trim": {"start": NaN}}'), FILE)], "edit_invalid"),
        ([body(part("edit", b'{"trim": {"length": true}}'), FILE)], "edit_invalid"),
        ([body(part("edit", b'{"trim": {"length": "5"}}'), FILE)], "edit_invalid"),
        ([body(part("title", b"x" * (MAX_FIELD_BYTES + 1)), FILE)], "field_too_large"),
        ([TITLE, FILE], "form_truncated"),
        ([TITLE, FILE[:-10]], "form_truncated"),
        ([TITLE[:20]], "form_truncated"),
        ([], "form_truncated"),
        ([b"what is this?"], "form_malformed"),
        ([b"--another-boundary\r\n" + TITLE], "form_malformed"),
        ([b"--" + BOUNDARY + b"\r\nno colon\r\n\r\n"], "form_malformed"),
        ([b"--" + BOUNDARY + b"\r\nContent-Type: text/plain\r\n\r\nx"], "form_malformed"),
        ([b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data\r\n\r\nx"], "form_malformed"),
        ([b"--" + BOUNDARY + b"\r\nContent-Disposition: attachment; name=title\r\n\r\nx"], "form_malformed"),
        ([part("title", b"x", headers=b"X-Long: " + b"x" * 10_000 + b"\r\n")], "form_malformed"),
        ([part("title", b"x", headers=b"X-Many: x\r\n" * 100)], "form_malformed"),
    ],
)
def test_a_form_that_is_wrong_is_refused(pieces: list[bytes], code: str) -> None:
    assert refusal_of(*pieces).code == code


def test_the_refusal_of_an_edit_says_where_it_is_wrong() -> None:
    refusal = refusal_of(body(part("edit", b'{"trim": {"length": 31}, "intro": {"enabled": "yes"}}'), FILE))

    assert "edit.trim.length: " in refusal.message
    assert "edit.intro.enabled: " in refusal.message


def test_what_comes_before_the_file_is_refused_before_the_file_is_read() -> None:
    def pieces() -> Iterator[bytes]:
        yield part("edit", b"{}") + part("title", b"x") + part("owner", b"bob")
        raise AssertionError("the rest was read")

    with pytest.raises(Invalid, match="owner"):
        UploadForm(pieces(), BOUNDARY, max_file_bytes=1000).open_file()


def test_what_follows_the_last_boundary_is_bounded_too() -> None:
    refusal = refusal_of(body(TITLE, FILE), *[b"x" * 65536] * (OVERHEAD_BYTES // 65536 + 2))

    assert isinstance(refusal, TooLarge)


def test_the_boundary_is_taken_from_the_content_type() -> None:
    assert boundary_of('multipart/form-data; boundary="a b"; charset=utf-8') == b"a b"


@pytest.mark.parametrize("content_type", [None, "", "application/json", "multipart/mixed; boundary=x"])
def test_a_body_that_is_no_form_is_refused(content_type: str | None) -> None:
    with pytest.raises(UnsupportedMedia):
        boundary_of(content_type)


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; x=1"]
)
def test_a_form_without_a_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(Malformed):
        boundary_of(content_type)


def test_a_boundary_that_is_too_long_is_refused() -> None:
    with pytest.raises(Malformed):
        UploadForm(iter([]), b"x" * 10_000, max_file_bytes=1000)
