"""Looks for pictures in the bytes of MPEG-TS, where libavformat reports none: of streams that it found too late."""

import re
from math import inf
from mmap import ACCESS_READ, mmap
from pathlib import Path

_PACKET_BYTES = 188
_CLOCK_RATE = 90_000

_UNNOTICED_BYTES = 8192
"""Between what is reported; less holds no recording."""

_SHORTEST_SECONDS = 0.5
"""Of a recording. What goes on beside others is never alone for so long."""

_PICTURE = re.compile(rb"\x00\x00\x01[\xe0-\xef]..[\x80-\xbf][\x80-\xff].(.{5})", re.DOTALL)
"""How a picture with a time begins; no coder of pictures or sound writes this."""


def holds_a_recording(path: Path, begin: int, end: int) -> bool:
    """Whether there are pictures of more than a moment after the packet at `begin`, and before `end` (bytes)."""
    if end - begin <= _UNNOTICED_BYTES:
        return False
    first, last = inf, -inf
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        for found in _PICTURE.finditer(data, begin + _PACKET_BYTES, end):
            at = _seconds(found[1])
            first, last = min(first, at), max(last, at)
            if last - first >= _SHORTEST_SECONDS:
                return True
    return False


def _seconds(stamp: bytes) -> float:
    """33 bits, in parts of 3, 15 and 15 with a bit after each."""
    number = int.from_bytes(stamp)
    return ((number >> 33 & 7) << 30 | (number >> 17 & 0x7FFF) << 15 | number >> 1 & 0x7FFF) / _CLOCK_RATE
