"""An upload's form, parsed while it arrives: the file's bytes pass through, only the small fields are kept.

Pulled by the thread that stores the file, so nothing is read that there is no room for.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from anb_api.problems import Malformed, UnsupportedMedia
from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import Invalid, TooLarge

FILE = "video_file"

MAX_FIELD_BYTES = 64 * 1024
"""Of `title` or `edit`: far more than either can need, so that a long title is told to be one."""

OVERHEAD_BYTES = 1024 * 1024
"""What a request may have beyond its file: fields, part headers and boundaries."""

MAX_PART_HEADERS = 8
MAX_PART_HEADER_BYTES = 4096


def boundary_of(content_type: str | None) -> bytes:
    """What separates the parts.

    Raises:
        UnsupportedMedia: it is no form with files.
        Malformed: it names no boundary.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise UnsupportedMedia("not_a_form", f"The body must be multipart/form-data, not {content_type or 'untyped'}.")
    boundary = options.get(b"boundary")
    if not boundary:
        raise Malformed(
            "form_malformed", "The Content-Type names no boundary; let your HTTP library write this header."
        )
    return boundary


@dataclass(frozen=True, slots=True)
class _Part:
    """A part begins."""

    name: str
    file_name: str | None


@dataclass(frozen=True, slots=True)
class _PartEnd:
    """The part is over."""


_Event = _Part | _PartEnd | bytes


class UploadForm:
    """The form of `anb_core.usecases.submit.Form`, out of the pieces of a request's body."""

    def __init__(self, pieces: Iterator[bytes], boundary: bytes, *, max_file_bytes: int) -> None:
        self.title: str | None = None
        self.edit: EditSpec | None = None
        self._pieces = pieces
        self._max_file_bytes = max_file_bytes
        self._queue: deque[_Event] = deque()
        self._header = (b"", b"")
        self._headers: dict[bytes, bytes] = {}
        self._seen: set[str] = set()
        self._whole = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._headers.clear,
                    "on_header_begin": self._on_header_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
                max_header_count=MAX_PART_HEADERS,
                max_header_size=MAX_PART_HEADER_BYTES,
            )
        except FormParserError as error:
            raise Malformed("form_malformed", f"The form can't be read: {error}.") from error
        self._events = self._parse()

    def open_file(self) -> str:
        """Read up to the file's first byte; the name that came with it."""
        for event in self._events:
            match event:
                case _Part(name=name, file_name=file_name) if name == FILE:
                    if not file_name:
                        raise Invalid("file_missing", f"The part '{FILE}' is no file: it has no file name.")
                    return file_name
                case _Part(name=name):
                    self._read_field(name)
        raise Invalid("file_missing", f"The form has no file '{FILE}'.")

    def read_file(self) -> Iterator[bytes]:
        """The file in pieces; it ends when all that follows the file was read too."""
        for event in self._events:
            if isinstance(event, bytes):
                yield event
            else:
                break
        for event in self._events:
            if isinstance(event, _Part):
                self._read_field(event.name)

    def _read_field(self, name: str) -> None:
        value = bytearray()
        for event in self._events:
            if not isinstance(event, bytes):
                break
            value += event
            if len(value) > MAX_FIELD_BYTES:
                raise TooLarge("field_too_large", f"The field '{name}' has more than {MAX_FIELD_BYTES} bytes.")
        if name == "title":
            self.title = _title(bytes(value))
        else:
            self.edit = _edit(bytes(value))

    def _parse(self) -> Iterator[_Event]:
        read = 0
        for piece in self._pieces:
            read += len(piece)
            if read > self._max_file_bytes + OVERHEAD_BYTES:
                # What the file alone has is counted where it is stored; this bounds what follows its end.
                raise TooLarge(
                    "request_too_large", f"Besides its file the request has more than {OVERHEAD_BYTES} bytes."
                )
            try:
                self._parser.write(piece)
            except FormParserError as error:
                raise Malformed("form_malformed", f"The form can't be read: {error}.") from error
            while self._queue:
                yield self._queue.popleft()
        if not self._whole:
            raise Malformed("form_truncated", "The form ends before its last boundary: the request was cut off.")

    # -- the parser's callbacks

    def _on_header_begin(self) -> None:
        self._header = (b"", b"")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0] + data[start:end], b"")

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0], self._header[1] + data[start:end])

    def _on_header_end(self) -> None:
        name, value = self._header
        self._headers[name.lower()] = value

    def _on_headers_finished(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        raw_name = options.get(b"name")
        if kind != b"form-data" or raw_name is None:
            raise Malformed("form_malformed", "A part of the form has no Content-Disposition that names it.")
        name = raw_name.decode(errors="replace")
        if name not in {FILE, "title", "edit"}:
            raise Invalid("field_unknown", f"The form has a field {name!r}; there are title, {FILE} and edit.")
        if name in self._seen:
            raise Invalid("field_repeated", f"The form has more than one '{name}'; send one video a request.")
        self._seen.add(name)
        file_name = options.get(b"filename")
        self._queue.append(_Part(name, file_name.decode(errors="replace") if file_name is not None else None))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._queue.append(data[start:end])

    def _on_part_end(self) -> None:
        self._queue.append(_PartEnd())

    def _on_end(self) -> None:
        self._whole = True


def _title(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Invalid("title_not_text", f"The title is not UTF-8 (byte {error.start}).") from error


def _edit(raw: bytes) -> EditSpec:
    try:
        # Strict, or a length of `true` would be one second, and "5" five.
        return EditSpec.model_validate_json(raw, strict=True)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(['edit', *map(str, wrong['loc'])])}: {wrong['msg']}" for wrong in error.errors())
        raise Invalid("edit_invalid", f"{told}.") from error
