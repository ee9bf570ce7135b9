"""The boxes that an MP4 file consists of."""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MOST_BOXES = 100_000
"""A long fragmented file has some ten thousand."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box of the outermost level."""

    kind: str
    """Its four letters, such as `moov`."""
    start: int
    """Where it begins, in bytes from the beginning of the file."""
    end: int
    """Where it says that it ends, in bytes. That may be beyond the end of the file."""


def boxes(path: Path) -> Iterator[Box]:
    """The outermost boxes of a file, up to its end or to the first bytes that are no box."""
    start = 0
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        for _ in range(_MOST_BOXES):
            if start >= size:  # no place to go to: a box may say that it ends beyond what a file can be
                return
            file.seek(start)
            head = file.read(16)
            if len(head) < 8 or not head[4:8].isascii() or not head[4:8].decode().isprintable():  # noqa: PLR2004
                return
            length, header = int.from_bytes(head[:4]), 8
            if length == 1 and len(head) == 16:  # noqa: PLR2004 - the length did not fit, and follows
                (length,), header = struct.unpack(">Q", head[8:]), 16
            elif length == 0:  # up to the end of the file
                length = size - start
            if length < header:
                return
            yield Box(head[4:8].decode(), start, start + length)
            start += length
