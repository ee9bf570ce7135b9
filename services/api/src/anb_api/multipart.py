"""Parses an upload's form as a stream. Only the small fields are kept in memory, not the file.

Memory use is bounded, because a chunk is read only when the thread that stores the file asks for one.
The format is RFC 7578. The module refuses encodings that change bytes, and line ends other than CR LF.
The module's error messages are for users. The parser's own error messages are not used.
"""

import codecs
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message

from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from anb_api.problems import Malformed, UnsupportedMedia
from anb_core.domain import validation
from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import Invalid, TooLarge
from anb_core.domain.intake import check_size
from anb_core.domain.model import Record
from anb_core.usecases.upload_session import UploadSessions
from anb_core.usecases.visibility import Caller

FILE = "video_file"

MAX_FIELD_BYTES = 64 * 1024
"""Maximum size of a field other than the file, in bytes. The limit is far above a valid title's length."""

OVERHEAD_BYTES = 1024 * 1024
"""Maximum total size, in bytes, of a request's fields, headers and boundaries: everything except the file."""

MAX_BOUNDARY_BYTES = 256
MAX_PREAMBLE_BYTES = 64 * 1024
"""Maximum number of bytes before the first boundary. RFC 2046 allows text there, and the parser ignores this text."""

MAX_PART_HEADERS = 8
MAX_PART_HEADER_BYTES = 4096
"""Maximum size of one header in a part of the form, including the header's name, in bytes."""

CHARSET = "_charset_"
"""Name of the field that gives the charset of the other fields (RFC 7578)."""

FIELDS = frozenset({FILE, "title", "edit", "process_after", CHARSET})

IDENTITY_ENCODINGS = frozenset({"", "7bit", "8bit", "binary", "identity"})
"""Encodings that leave all bytes unchanged."""

_CHARSETS = frozenset({"utf-8", "ascii", "iso8859-1", "cp1252"})
"""Python's names of the supported charsets. Some Java clients declare Latin-1 by default."""


def boundary_of(content_type: str | None) -> bytes:
    """Return the boundary of the form from the Content-Type header.

    Raises:
        UnsupportedMedia: the type is not multipart/form-data.
        Malformed: the boundary is missing or too long.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise UnsupportedMedia("not_a_form", f"The body must be multipart/form-data, not {content_type or 'untyped'}.")
    boundary = options.get(b"boundary")
    if not boundary:
        raise Malformed("form_malformed", "The Content-Type has no boundary; let your HTTP library write this header.")
    if len(boundary) > MAX_BOUNDARY_BYTES:
        message = (
            f"The boundary in the Content-Type has {len(boundary)} bytes; at most {MAX_BOUNDARY_BYTES} are allowed."
        )
        raise Malformed("form_malformed", message)
    return boundary


def check_length(body_bytes: int, max_file_bytes: int) -> None:
    """Check the Content-Length of a body, in bytes.

    Raises:
        TooLarge: the body is so long that its file must exceed the size limit (`file_too_large`).
    """
    if body_bytes > OVERHEAD_BYTES:
        check_size(body_bytes - OVERHEAD_BYTES, max_file_bytes)


def check_encoding(what: str, *encodings: str) -> None:
    """Check the encodings of a body, or of a part of the form. `what` is the name of the body or part in the error.

    Raises:
        UnsupportedMedia: one of the encodings changes the bytes, such as gzip (`encoding_unsupported`).
    """
    for encoding in encodings:
        if encoding.strip().lower() not in IDENTITY_ENCODINGS:
            message = f"{what} is encoded as {encoding.strip()}; send it without that encoding."
            raise UnsupportedMedia("encoding_unsupported", message)


@dataclass(frozen=True, slots=True)
class _Part:
    """The start of a part of the form, with the part's name, file name and charset."""

    name: str
    file_name: str | None
    charset: str | None


@dataclass(frozen=True, slots=True)
class _PartEnd:
    """Marks the end of a part of the form."""


_Event = _Part | _PartEnd | bytes


def store_form(
    sessions: UploadSessions, caller: Caller, form: "UploadForm", *, size: int | None, idempotency_key: str | None
) -> Record:
    """Run an upload session with the data of a form, and return the video's record.

    `size` is the announced size of the body in bytes, or None if the client did not announce the size.

    Raises:
        Invalid: the form, a field or the file is not valid.
        AnbError: any other error that the upload session raises.
    """
    file_name = form.open_file()
    with sessions.begin(
        caller,
        file_name=file_name,
        size=size,
        title=form.title,
        edit=form.edit,
        process_after=form.process_after,
        idempotency_key=idempotency_key,
    ) as session:
        for piece in form.read_file():
            session.append(piece)
        return session.complete(form.title, form.edit, form.process_after)


class UploadForm:
    """Parses a form from the chunks of a request body. Call `open_file`, then `read_file`.

    `title`, `edit` and `process_after` are None until the parser has read these fields.
    They stay None if the client does not send them.
    """

    def __init__(self, pieces: Iterator[bytes], boundary: bytes, *, max_file_bytes: int) -> None:
        self.title: str | None = None
        self.edit: EditSpec | None = None
        self.process_after: str | None = None
        self._pieces = _from_first_boundary(pieces, boundary)
        self._max_file_bytes = max_file_bytes
        self._queue: deque[_Event] = deque()
        self._header = (b"", b"")
        self._headers: dict[bytes, bytes] = {}
        self._header_count = 0
        self._charset = "utf-8"
        self._seen: set[str] = set()
        self._whole = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_begin": self._on_header_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
            # The parser's limits are higher than the limits of this class, because the class has better error messages.
            max_header_count=MAX_PART_HEADERS + 1,
            max_header_size=OVERHEAD_BYTES,
        )
        self._events = self._parse()

    def open_file(self) -> str:
        """Read up to the first byte of the file, and return the file's name.

        Raises:
            Invalid: the form has no file, or the file has no name (`file_missing`).
        """
        for event in self._events:
            match event:
                case _Part(name=name, file_name=file_name) if name == FILE:
                    if not file_name:
                        message = f"The part '{FILE}' is not a file: it has no file name (`filename`)."
                        raise Invalid("file_missing", message)
                    return file_name
                case _Part() as part:
                    self._read_field(part)
        raise Invalid("file_missing", f"The form has no file '{FILE}'.")

    def read_file(self) -> Iterator[bytes]:
        """Yield the file in chunks. After the last chunk, read the fields that follow the file."""
        for event in self._events:
            if isinstance(event, bytes):
                yield event
            else:
                break
        for event in self._events:
            if isinstance(event, _Part):
                self._read_field(event)

    def _read_field(self, part: _Part) -> None:
        name, value = part.name, bytearray()
        for event in self._events:
            if not isinstance(event, bytes):
                break
            value += event
            if len(value) > MAX_FIELD_BYTES:
                raise TooLarge("field_too_large", f"The field '{name}' has more than {MAX_FIELD_BYTES} bytes.")
        text = _utf8(bytes(value), name, part.charset or self._charset)
        match name:
            case "title":
                self.title = _title(text)
            # Browsers also send the fields that the user left empty, so treat an empty optional field as missing.
            case "edit":
                self.edit = _edit(text) if text.strip() else None
            case "process_after":
                self.process_after = text.decode(errors="replace").strip(" ") or None
            case _:
                self._charset = text.decode(errors="replace").strip()

    def _parse(self) -> Iterator[_Event]:
        read = 0
        for piece in self._pieces:
            read += len(piece)
            if read > self._max_file_bytes + OVERHEAD_BYTES:
                # This limit also covers the bytes after the file. The upload session limits the file itself.
                raise TooLarge(
                    "request_too_large", f"The request has more than {OVERHEAD_BYTES} bytes besides its file."
                )
            try:
                self._parser.write(piece)
            except FormParserError as error:
                raise Malformed(
                    "form_malformed",
                    "The form can't be parsed: each boundary must be followed by the headers of a part, one per line "
                    "as 'Name: value' with CR LF at the end, and then by an empty line.",
                ) from error
            while self._queue:
                yield self._queue.popleft()
        if not self._whole:
            raise Malformed("form_truncated", "The form ends before its last boundary: the request was cut off.")

    # --- callbacks that the parser calls ------------------------------------------------------------------------------

    def _on_part_begin(self) -> None:
        self._headers.clear()
        self._header_count = 0

    def _on_header_begin(self) -> None:
        self._header = (b"", b"")
        self._header_count += 1
        if self._header_count > MAX_PART_HEADERS:
            message = f"A part of the form has more than {MAX_PART_HEADERS} headers; Content-Disposition is enough."
            raise Malformed("form_malformed", message)

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._on_header(self._header[0] + data[start:end], b"")

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._on_header(self._header[0], self._header[1] + data[start:end])

    def _on_header(self, name: bytes, value: bytes) -> None:
        if len(name) + len(value) > MAX_PART_HEADER_BYTES:
            message = (
                f"A part of the form has a header of more than {MAX_PART_HEADER_BYTES} bytes; shorten the file's name."
            )
            raise Malformed("form_malformed", message)
        self._header = (name, value)

    def _on_header_end(self) -> None:
        name, value = self._header
        if b"\n" in value:
            raise _line_ends()
        self._headers[name.lower()] = value

    def _on_headers_finished(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        kind, options = parse_options_header(disposition)
        raw_name = options.get(b"name")
        if kind != b"form-data" or raw_name is None:
            raise Malformed("form_malformed", "A part of the form has no Content-Disposition with a name.")
        name = raw_name.decode(errors="replace")
        if name not in FIELDS:
            allowed = f"title, {FILE}, edit and process_after"
            raise Invalid("field_unknown", f"The form has a field {name!r}; only {allowed} are allowed.")
        if name in self._seen:
            raise Invalid("field_repeated", f"The form has more than one '{name}'; send one video per request.")
        self._seen.add(name)
        encodings = (self._headers.get(b"content-transfer-encoding", b""), self._headers.get(b"content-encoding", b""))
        check_encoding(f"The part '{name}'", *(encoding.decode(errors="replace") for encoding in encodings))
        _, content = parse_options_header(self._headers.get(b"content-type", b""))
        charset = content.get(b"charset")
        file_name = options.get(b"filename", b"").decode(errors="replace") or _extended_file_name(disposition)
        self._queue.append(_Part(name, file_name, charset.decode(errors="replace") if charset else None))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._queue.append(data[start:end])

    def _on_part_end(self) -> None:
        self._queue.append(_PartEnd())

    def _on_end(self) -> None:
        self._whole = True


def _from_first_boundary(pieces: Iterator[bytes], boundary: bytes) -> Iterator[bytes]:
    """Yield the body from its first boundary on. Drop spaces after the boundary, because the parser refuses them."""
    delimiter = b"--" + boundary
    line = re.compile(b"\n" + re.escape(delimiter) + rb"(?:--|[ \t]*(\r?\n))")
    kept = b"\n"
    for piece in pieces:
        kept += piece
        if found := line.search(kept):
            if found[1] == b"\n":
                raise _line_ends()
            yield delimiter + b"\r\n" + kept[found.end() :] if found[1] else kept[found.start() + 1 :]
            yield from pieces
            return
        if len(kept) > MAX_PREAMBLE_BYTES + len(b"\n" + delimiter + b"\r\n"):
            message = f"The first boundary must be within the first {MAX_PREAMBLE_BYTES} bytes of the body."
            raise Malformed("form_malformed", message)
    if not (delimiter + b"\r\n").startswith(kept[1:]):
        message = (
            f"The body has no line '{delimiter.decode(errors='replace')}', the boundary that the Content-Type gives."
        )
        raise Malformed("form_malformed", message)


def _line_ends() -> Malformed:
    return Malformed(
        "form_malformed", "Lines of the form end in LF; lines of boundaries and headers must end in CR LF."
    )


def _extended_file_name(disposition: bytes) -> str | None:
    """Return the file name from `filename*`, or None. Some clients send `filename*`, although RFC 7578 forbids it."""
    header = Message()
    header["Content-Disposition"] = disposition.decode("latin-1")
    try:
        return header.get_filename()
    except (TypeError, ValueError) as error:
        # The file name has an unknown charset, or is split into numbered parts (RFC 2231) that do not fit together.
        message = "The file's name (`filename*`) can't be read; send it as `filename`, in UTF-8."
        raise Malformed("form_malformed", message) from error


def _utf8(value: bytes, name: str, charset: str) -> bytes:
    """Return a field's value converted from its charset to UTF-8.

    Raises:
        UnsupportedMedia: the charset is not supported (`charset_unsupported`).
    """
    try:
        codec = codecs.lookup(charset).name
    except (LookupError, ValueError):
        codec = ""
    if codec not in _CHARSETS:
        message = f"The field '{name}' has the charset {charset!r}, which is not supported; send it in UTF-8."
        raise UnsupportedMedia("charset_unsupported", message)
    # Leave UTF-8 unchanged. The code that reads the field reports invalid bytes.
    return value if codec in {"utf-8", "ascii"} else value.decode(codec, errors="replace").encode()


def _title(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Invalid("title_not_text", f"The title is not UTF-8 (byte {error.start}).") from error


def _edit(raw: bytes) -> EditSpec:
    try:
        # In lax mode, pydantic would accept `true` as one second, and the string "5" as five seconds.
        return EditSpec.model_validate_json(raw, strict=True)
    except ValidationError as error:
        raise Invalid("edit_invalid", validation.describe(error.errors(), "edit")) from error
