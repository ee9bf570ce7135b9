"""Reads the boxes of an MP4 file: the sections that the file consists of."""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MOST_BOXES = 100_000
"""Maximum number of boxes that are read. A long fragmented file has about ten thousand boxes."""


@dataclass(frozen=True, slots=True)
class Box:
    """An outermost box: no other box contains it."""

    kind: str
    """The type of the box, four characters such as `moov`."""
    start: int
    """The offset of the box, in bytes from the beginning of the file."""
    end: int
    """The offset of the box's end in bytes, according to the header. This offset may be beyond the end of the file."""


def boxes(path: Path) -> Iterator[Box]:
    """Yield the outermost boxes of a file, up to its end or to the first bytes that are not a valid box."""
    start = 0
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        for _ in range(_MOST_BOXES):
            if start >= size:  # without this check, seek would fail for a huge offset
                return
            file.seek(start)
            head = file.read(16)
            if len(head) < 8 or not head[4:8].isascii() or not head[4:8].decode().isprintable():  # noqa: PLR2004
                return
            length, header = int.from_bytes(head[:4]), 8
            if length == 1 and len(head) == 16:  # noqa: PLR2004 - length 1 means that a 64-bit length follows
                (length,), header = struct.unpack(">Q", head[8:]), 16
            elif length == 0:  # the box extends to the end of the file
                length = size - start
            if length < header:
                return
            yield Box(head[4:8].decode(), start, start + length)
            start += length
