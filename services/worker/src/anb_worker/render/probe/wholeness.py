"""Whether nothing was cut off from a file, by its structure alone: what it claims of its length is often wrong."""

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from av.stream import Stream

from anb_core.domain.formats import Container
from anb_worker.render.mp4_boxes import boxes

_MOST_ELEMENTS = 2_000_000
"""An hour has some 300,000 blocks."""

_HOLDERS = {0x18538067, 0x1F43B675}
"""Matroska's Segment and Cluster: where their size is unknown, they are looked into."""

_LONGEST_ID, _LONGEST_SIZE = 4, 8


def is_whole(container: Container, path: Path, streams: Iterable[Stream]) -> bool:
    """Whether all is there that the structure tells of; False also where it does not tell."""
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
    # The index of a file in fragments tells of those that are there.
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
    """A number of EBML: as many bytes more as the first has leading zeros. `marked`: with the bit that tells that."""
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
    """RIFF's outermost chunks: a large AVI has several."""
    size, at = path.stat().st_size, 0
    with path.open("rb") as file:
        while at + 8 <= size:
            file.seek(at)
            length = int.from_bytes(file.read(8)[4:], "little")
            if length == 0 or at + 8 + length > size:
                return False
            at += 8 + length + length % 2
    return True
