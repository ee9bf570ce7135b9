"""What kind of file an upload is, by its first bytes: the API asks at the first chunk, the worker forces ffmpeg's
demuxer by it.
"""

from enum import StrEnum

SNIFF_BYTES = 1024
"""How many bytes of the beginning are enough to tell."""

ACCEPTED = "MP4, MOV, 3GP, MKV, WebM, AVI or MPEG-TS"
"""What is accepted, for sentences."""

_TS_PACKETS = (188, 192, 204)
"""How long packets of MPEG-TS are: bare, with a time before each (Blu-ray), with a checksum after each (broadcast)."""

_TS_SYNC, _ENOUGH_PACKETS = 0x47, 4
# QuickTime files from before `ftyp` begin with one of these.
_QUICKTIME_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
# Still pictures share MP4's structure; a photo is no video.
_PICTURE_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif", b"jxl ", b"crx ")


class Container(StrEnum):
    """The accepted kinds of file."""

    MP4 = "mp4"
    MATROSKA = "matroska"
    AVI = "avi"
    MPEG_TS = "mpegts"


def sniff_container(head: bytes) -> Container | None:
    """The kind of a file that begins with `head` (SNIFF_BYTES, or all of a shorter file); None for one that is not
    accepted.
    """
    if head[4:8] == b"ftyp":
        return None if head[8:12] in _PICTURE_BRANDS else Container.MP4
    if head[4:8] in _QUICKTIME_ATOMS:
        return Container.MP4
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return Container.MATROSKA
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return Container.AVI
    if any(_has_packets(head, first, step) for step in _TS_PACKETS for first in range(step)):
        return Container.MPEG_TS
    return None


def _has_packets(head: bytes, first: int, step: int) -> bool:
    """Whether packets of MPEG-TS come one after the other from `first` on: a recording may begin within one."""
    starts = range(first, len(head) - 3, step)[:_ENOUGH_PACKETS]
    # Besides the byte that all begin with, each says whether something is in it.
    return len(starts) == _ENOUGH_PACKETS and all(head[at] == _TS_SYNC and head[at + 3] & 0x30 for at in starts)
