"""Checks by the structure of a file that its end is not cut off. Durations in headers are often wrong."""

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from av.stream import Stream

from anb_core.domain.formats import Container
from anb_worker.render.mp4_boxes import boxes

_MOST_ELEMENTS = 2_000_000
"""Maximum number of Matroska elements that are read. An hour of video has about 300,000 blocks."""

_HOLDERS = {0x18538067, 0x1F43B675}
"""Ids of the Matroska elements Segment and Cluster. If the size of one is unknown, its inner elements are read."""

_LONGEST_ID, _LONGEST_SIZE = 4, 8
"""Maximum number of bytes of an element's id, and of an element's size."""


def is_whole(container: Container, path: Path, streams: Iterable[Stream]) -> bool:
    """Return whether the structure of a file proves that the file is complete. False means that no proof was found."""
    match container:
        case Container.MP4:
            return _has_all_samples(path, streams)
        case Container.MATROSKA:
            return _has_all_elements(path)
        case Container.AVI:
            return _has_all_chunks(path)
        case Container.MPEG_TS:
            return False


def _has_all_samples(path: Path, streams: Iterable[Stream]) -> bool:
    # A fragmented file has no index of its fragments, so a missing last fragment can't be detected.
    if any(box.kind == "moof" for box in boxes(path)):
        return False
    ends = [entry.pos + entry.size for stream in streams for entry in stream.index_entries]
    return bool(ends) and max(ends) <= path.stat().st_size


def _has_all_elements(path: Path) -> bool:
    size, at = path.stat().st_size, 0
    with path.open("rb") as file:
        for _ in range(_MOST_ELEMENTS):
            if at == size:
                return True
            file.seek(at)
            number, length = _number(file, _LONGEST_ID, marked=True), _number(file, _LONGEST_SIZE, marked=False)
            if number is None or length is None:
                return False
            begin = file.tell()
            unknown = length == (1 << (7 * (begin - at - (number.bit_length() + 7) // 8))) - 1
            if unknown and number not in _HOLDERS:
                return False
            at = begin if unknown else begin + length
            if at > size:
                return False
    return False


def _number(file: BinaryIO, longest: int, *, marked: bool) -> int | None:
    """Read a number of variable length in EBML. Returns None if the bytes are not a valid number.

    The number of zero bits at the start of the first byte is the number of further bytes.
    EBML calls the first bit that is 1 the marker. The marker comes right after the zero bits.
    If `marked` is True, the marker is part of the number, as in ids. In sizes, the marker is not part of the number.
    """
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    rest = file.read(more)
    if more >= longest or len(rest) < more:
        return None
    lead = first[0] if marked else first[0] ^ (1 << (7 - more))
    return int.from_bytes(bytes([lead]) + rest)


def _has_all_chunks(path: Path) -> bool:
    """Return whether all outermost RIFF chunks are complete. A large AVI file has several."""
    size, at = path.stat().st_size, 0
    with path.open("rb") as file:
        while at + 8 <= size:
            file.seek(at)
            length = int.from_bytes(file.read(8)[4:], "little")
            if length == 0 or at + 8 + length > size:
                return False
            at += 8 + length + length % 2
    return True
