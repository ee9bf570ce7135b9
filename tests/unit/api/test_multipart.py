import gzip
import re
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anb_api.multipart import (
    MAX_BOUNDARY_BYTES,
    MAX_FIELD_BYTES,
    MAX_PREAMBLE_BYTES,
    OVERHEAD_BYTES,
    UploadForm,
    boundary_of,
)
from anb_api.problems import Malformed, UnsupportedMedia
from anb_core.domain.edit import EditSpec, Switch, Trim
from anb_core.domain.errors import AnbError, Invalid, TooLarge

BOUNDARY = b"----anb-42"


def part(name: str, value: bytes, *, file_name: str | None = None, headers: bytes = b"") -> bytes:
    parameter = f'; filename="{file_name}"' if file_name is not None else ""
    disposition = f'Content-Disposition: form-data; name="{name}"{parameter}\r\n'.encode()
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
        ([b"--another-boundary\r\nContent-Disposition: form-data; name=title\r\n\r\nx"], "form_malformed"),
        ([b"--" + BOUNDARY + b"x\r\n"], "form_malformed"),
        ([b"x--" + BOUNDARY + b"\r\n"], "form_malformed"),
        ([gzip.compress(body(TITLE, FILE))], "form_malformed"),
        ([b"x" * (MAX_PREAMBLE_BYTES + 100), body(TITLE, FILE)], "form_malformed"),
        ([body(TITLE, FILE).replace(b"\r\n", b"\n")], "form_malformed"),
        ([TITLE.replace(b'title"\r\n\r\n', b'title"\n\n')], "form_malformed"),
        ([body(part("title", b"x", headers=b"X-Folded: a\r\n b\r\n"), FILE)], "form_malformed"),
        ([body(TITLE).replace(BOUNDARY + b"--", BOUNDARY + b" x"), body(FILE)], "form_malformed"),
        ([body(part("_charset_", b"klingon"), TITLE, FILE)], "charset_unsupported"),
        ([body(part("_charset_", b"\0"), TITLE, FILE)], "charset_unsupported"),
        ([body(part("_charset_", b"utf-8"), part("_charset_", b"utf-8"), TITLE, FILE)], "field_repeated"),
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


def read(*pieces: bytes) -> tuple[str, str | None, EditSpec | None, bytes]:
    """Parse a form and return the file's name, the title, the edit and the file's bytes."""
    upload = form(*pieces)
    name = upload.open_file()
    data = b"".join(upload.read_file())
    return name, upload.title, upload.edit, data


AS_EVER = ("clip.mp4", "Mi día", None, b"first\r\n--second\r\n")
DELIMITER = b"--" + BOUNDARY


@pytest.mark.parametrize(
    "whole",
    [
        body(TITLE, FILE),
        b"This is a form.\r\n" + body(TITLE, FILE),
        b"\r\n\r\n" + body(TITLE, FILE),
        b"A line\n" + DELIMITER + b"-not\r\n-- \r\n" + body(TITLE, FILE),
        b"x" * (MAX_PREAMBLE_BYTES - 2) + b"\r\n" + body(TITLE, FILE),
        body(TITLE, FILE) + b"This was a form.\r\n" + DELIMITER + b"\r\n",
        body(TITLE, FILE).replace(DELIMITER + b"\r\n", DELIMITER + b" \t \r\n"),
        body(TITLE, FILE).replace(DELIMITER + b"--\r\n", DELIMITER + b"--"),
        body(TITLE, FILE).replace(DELIMITER + b"--\r\n", DELIMITER + b"-- \t\r\n"),
        body(TITLE, FILE).replace(b'form-data; name="title"', b"Form-Data ;  NAME=title "),
        body(TITLE, FILE).replace(b"Content-Disposition", b"content-disposition"),
        body(TITLE, FILE).replace(b"video/mp4\r\n", b"video/mp4\r\nContent-Length: 17\r\nX-More: 1\r\n"),
        body(part("_charset_", b"UTF-8"), TITLE, FILE),
        body(part("_charset_", b"iso-8859-1"), part("title", "Mi día".encode("latin-1")), FILE),
        body(part("title", "Mi día".encode("latin-1"), headers=b"Content-Type: text/plain; charset=Latin1\r\n"), FILE),
        body(part("title", "Mi día".encode(), headers=b'Content-Type: text/plain; charset="utf8"\r\n'), FILE),
        body(part("title", "Mi día".encode(), headers=b"Content-Transfer-Encoding: 8BIT\r\n"), FILE),
        body(TITLE, FILE.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: binary\r\n\r\n", 1)),
        body(TITLE, part("edit", b""), FILE),
        body(TITLE, FILE, part("edit", b" \r\n")),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_form_may_have_all_that_the_standard_allows(whole: bytes, size: int) -> None:
    assert read(*(whole[start : start + size] for start in range(0, len(whole), size))) == AS_EVER


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        (b"; filename*=UTF-8''na%C3%AFve.mp4", "naïve.mp4"),
        (b"; filename*=iso-8859-1'en'na%EFve.mp4", "naïve.mp4"),
        (b"; filename=\"plain.mp4\"; filename*=UTF-8''na%C3%AFve.mp4", "plain.mp4"),
        (b"; filename*0=long; filename*1=er.mp4", "longer.mp4"),
        (b"; filename=bare.mp4", "bare.mp4"),
        ('; filename="día 👩‍👧.mp4"'.encode(), "día 👩‍👧.mp4"),
        (b'; filename="a;b=\\"c\\".mp4"', 'a;b="c".mp4'),
        (b'; filename="=?UTF-8?B?bmHDr3ZlLm1wNA==?="', "=?UTF-8?B?bmHDr3ZlLm1wNA==?="),
        (b'; filename="\xe9.mp4"', "�.mp4"),
    ],
)
def test_a_file_is_named_in_any_way_that_clients_know(disposition: bytes, name: str) -> None:
    file = FILE.replace(b'; filename="clip.mp4"', disposition)

    assert read(body(TITLE, file)) == (name, *AS_EVER[1:])


@pytest.mark.parametrize(
    "disposition",
    [
        b"; filename*=undefined''clip.mp4",
        b"; filename*=idna''clip%FF.mp4",
        b"; filename*=punycode''clip%FF.mp4",
        b"; filename*=a\0b''clip.mp4",
        b"; filename*=UTF-8''clip; filename*0=.mp4",
    ],
)
def test_a_file_name_that_cannot_be_decoded_is_refused(disposition: bytes) -> None:
    refusal = refusal_of(body(TITLE, FILE.replace(b'; filename="clip.mp4"', disposition)))

    assert (type(refusal), refusal.code) == (Malformed, "form_malformed")
    assert "`filename*`" in refusal.message


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10_000), st.integers(0, 20), st.binary(max_size=20) | st.sampled_from([b"\n", BOUNDARY])
        ),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.integers(0, 2000), max_size=5),
)
def test_however_a_form_is_damaged_it_is_read_or_refused_in_our_own_words(
    changes: list[tuple[int, int, bytes]], places: list[int]
) -> None:
    whole = body(TITLE, EDIT, FILE)
    for place, removed, added in changes:
        at = place % len(whole)
        whole = whole[:at] + added + whole[at + removed :]
    said = ""
    try:
        read(*cut(whole, places))
    except AnbError as refusal:
        said = refusal.message
    assert not re.search(r"Did not find|Expected|Found |Maximum|exceeds|at index|offset|codec", said)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (b"Content-Transfer-Encoding: base64", "encoding_unsupported"),
        (b"content-transfer-encoding:  Quoted-Printable ", "encoding_unsupported"),
        (b"Content-Transfer-Encoding: x-uuencode", "encoding_unsupported"),
        (b"Content-Encoding: gzip", "encoding_unsupported"),
        (b"Content-Type: text/plain; charset=utf-16", "charset_unsupported"),
        (b"Content-Type: text/plain; charset=base64", "charset_unsupported"),
        (b"Content-Type: text/plain; charset=klingon", "charset_unsupported"),
    ],
)
def test_a_field_that_would_have_to_be_decoded_is_refused(header: bytes, code: str) -> None:
    assert refusal_of(body(part("title", b"x", headers=header + b"\r\n"), FILE)).code == code


@pytest.mark.parametrize("header", [b"Content-Transfer-Encoding: base64", b"Content-Encoding: gzip"])
def test_a_file_that_would_have_to_be_decoded_is_refused(header: bytes) -> None:
    file = part("video_file", b"x", file_name="a.mp4", headers=header + b"\r\n")

    assert refusal_of(body(TITLE, file)).code == "encoding_unsupported"


def test_the_refusal_of_an_encoding_names_part_and_encoding() -> None:
    refusal = refusal_of(body(part("title", b"eA==", headers=b"Content-Transfer-Encoding: base64\r\n"), FILE))

    assert isinstance(refusal, UnsupportedMedia)
    assert "'title'" in refusal.message
    assert "base64" in refusal.message


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
    assert boundary_of(f"multipart/form-data; boundary={'x' * MAX_BOUNDARY_BYTES}") == b"x" * MAX_BOUNDARY_BYTES
    with pytest.raises(Malformed, match="257 bytes"):
        boundary_of(f"multipart/form-data; boundary={'x' * (MAX_BOUNDARY_BYTES + 1)}")
