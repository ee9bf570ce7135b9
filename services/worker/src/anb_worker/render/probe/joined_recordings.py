"""Searches an MPEG-TS file for a second recording. libavformat reports no streams that begin late in the file."""

import re
from math import inf
from mmap import ACCESS_READ, mmap
from pathlib import Path

_PACKET_BYTES = 188
_CLOCK_RATE = 90_000

_UNNOTICED_BYTES = 8192
"""If at most this many bytes are between two packets that libavformat reports, these bytes are not searched."""

_SHORTEST_SECONDS = 0.5
"""Minimum duration of a recording that the search finds, in seconds."""

_PICTURE = re.compile(rb"\x00\x00\x01[\xe0-\xef]..[\x80-\xbf][\x80-\xff].(.{5})", re.DOTALL)
"""The header of a video PES packet with a timestamp. Such bytes never occur within encoded video or audio."""


def holds_a_recording(path: Path, begin: int, end: int) -> bool:
    """Return whether at least _SHORTEST_SECONDS of video lie between the offsets `begin` and `end`, in bytes.

    The packet at `begin` is skipped.
    """
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
    """Convert a timestamp of 33 bits to seconds. Its groups of 3, 15 and 15 bits are each followed by a marker bit."""
    number = int.from_bytes(stamp)
    return ((number >> 33 & 7) << 30 | (number >> 17 & 0x7FFF) << 15 | number >> 1 & 0x7FFF) / _CLOCK_RATE
