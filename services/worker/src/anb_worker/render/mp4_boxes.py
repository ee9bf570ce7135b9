"""Reads the outermost boxes of an MP4 file. An MP4 file is a sequence of boxes."""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MOST_BOXES = 100_000
"""Maximum number of boxes that are read. A long fragmented file has about ten thousand boxes."""


@dataclass(frozen=True, slots=True)
class Box:
    """An outermost box: it is not inside another box."""

    kind: str
    """The type of the box, four characters such as `moov`."""
    start: int
    """Offset of the box's start, in bytes from the beginning of the file."""
    end: int
    """Offset of the box's end according to its header, in bytes. The file may end earlier."""


def boxes(path: Path) -> Iterator[Box]:
    """Yield the outermost boxes of a file, up to its end or to the first bytes that are no valid box."""
    start = 0
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        for _ in range(_MOST_BOXES):
            if start >= size:  # seek fails for a huge offset
                return
            file.seek(start)
            head = file.read(16)
            if len(head) < 8 or not head[4:8].isascii() or not head[4:8].decode().isprintable():  # noqa: PLR2004
                return
            length, header = int.from_bytes(head[:4]), 8
            if length == 1 and len(head) == 16:  # noqa: PLR2004 - length 1 means that a 64-bit length follows
                (length,), header = struct.unpack(">Q", head[8:]), 16
            elif length == 0:  # length 0 means that the box extends to the end of the file
                length = size - start
            if length < header:
                return
            yield Box(head[4:8].decode(), start, start + length)
            start += length
