"""What kind of file an upload is, by its first bytes: the API asks at the first chunk, the worker forces ffmpeg's
demuxer by it.
"""

from enum import StrEnum

SNIFF_BYTES = 1024
"""How many bytes of the beginning are enough to tell."""

ACCEPTED = "MP4, MOV, 3GP, MKV, WebM, AVI or MPEG-TS"
"""What is accepted, for sentences."""

_TS_PACKET, _M2TS_PACKET, _M2TS_STAMP = 188, 192, 4
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
    if _has_sync_bytes(head, 0, _TS_PACKET) or _has_sync_bytes(head, _M2TS_STAMP, _M2TS_PACKET):
        return Container.MPEG_TS
    return None


def _has_sync_bytes(head: bytes, first: int, step: int) -> bool:
    """Whether three packets of MPEG-TS begin where they should."""
    return len(head) > first + 2 * step and all(head[first + n * step] == ord("G") for n in range(3))
