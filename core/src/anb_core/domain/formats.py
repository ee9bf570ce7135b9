"""The accepted containers and codecs, with the demuxers and decoders that read them.

The API detects the container from the first bytes of an upload.
The worker makes ffmpeg use the demuxer of the detected container, and allows only the decoders in this module.
Demuxers, codecs and decoders have the names that ffmpeg uses.
"""

from collections.abc import Mapping
from enum import StrEnum

SNIFF_BYTES = 1024
"""Number of bytes at the beginning of a file that are enough to detect its container."""

ACCEPTED = "MP4, MOV, 3GP, MKV, WebM, AVI or MPEG-TS"
"""The accepted containers, as text for error messages."""

_TS_PACKETS = (188, 192, 204)
"""Sizes of MPEG-TS packets in bytes.
Blu-ray adds a timestamp before each packet. Broadcast recordings add a checksum after each packet.
"""

_TS_SYNC, _ENOUGH_PACKETS = 0x47, 4
# Old QuickTime files do not begin with a box `ftyp`, but with another type of box.
_QUICKTIME_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
# Still images such as HEIC have the structure of MP4, but are not accepted.
_PICTURE_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif", b"jxl ", b"crx ")


class Container(StrEnum):
    """The accepted containers."""

    MP4 = "mp4"
    MATROSKA = "matroska"
    AVI = "avi"
    MPEG_TS = "mpegts"


DEMUXERS = {Container.MP4: "mov", Container.MATROSKA: "matroska", Container.AVI: "avi", Container.MPEG_TS: "mpegts"}

VIDEO_CODECS: Mapping[str, tuple[str, ...]] = {
    "h264": ("h264",),
    "hevc": ("hevc",),
    "av1": ("libdav1d", "av1"),
    "vp8": ("vp8",),
    "vp9": ("vp9",),
    "mpeg4": ("mpeg4",),
    "msmpeg4v3": ("msmpeg4",),
    "mpeg2video": ("mpeg2video",),
    "mpeg1video": ("mpeg1video",),
    "h263": ("h263",),
    "mjpeg": ("mjpeg",),
    "prores": ("prores",),
    "dnxhd": ("dnxhd",),
    "dvvideo": ("dvvideo",),
}
"""The accepted video codecs, each with its decoders. Rare codecs are left out: each decoder may have security holes."""

AUDIO_CODECS: Mapping[str, tuple[str, ...]] = {
    "aac": ("aac",),
    "aac_latm": ("aac_latm",),
    "mp3": ("mp3float", "mp3"),
    "mp2": ("mp2float", "mp2"),
    "ac3": ("ac3",),
    "eac3": ("eac3",),
    "opus": ("opus", "libopus"),
    "vorbis": ("vorbis",),
    "flac": ("flac",),
    "alac": ("alac",),
    "amr_nb": ("amrnb",),
    "amr_wb": ("amrwb",),
} | {
    codec: (codec,)
    for codec in (
        *("adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8", "pcm_s16le"),
        *("pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_bluray"),
        "pcm_dvd",
    )
}
"""The accepted audio codecs, each with its decoders."""

DECODERS = tuple(name for names in (*VIDEO_CODECS.values(), *AUDIO_CODECS.values()) for name in names)
"""All decoders that are allowed for uploads. A render plan may also use a decoder from ALPHA_DECODERS."""

ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Maps each codec whose default decoder ignores the alpha channel to a decoder that decodes the alpha channel."""

INTERLACED_CODECS = frozenset({"h264", "hevc", "mpeg2video", "mpeg4", "mjpeg", "prores", "dnxhd", "dvvideo"})
"""The codecs whose frames may be interlaced. A deinterlacing filter costs little for frames that are progressive."""


MOST_STREAMS = 64
"""Maximum number of streams in a file. ffmpeg allocates memory for each stream before we can check the streams."""


def ffmpeg_max_pixels(max_pixels: int) -> int:
    """Convert our limit `max_pixels` to the value of ffmpeg's option `-max_pixels`.

    The returned value is larger than `max_pixels`, because ffmpeg also counts the padding of a frame in memory.
    """
    return max_pixels * 3 // 2 + 100_000


def sniff_container(head: bytes) -> Container | None:
    """Detect the container of a file from its first bytes. Returns None if the file is not accepted.

    `head` has the first SNIFF_BYTES bytes, or all bytes of a shorter file.
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
    """Return whether `head` has several consecutive MPEG-TS packets of `step` bytes, the first at the offset `first`.

    `first` is more than 0 if a recording begins in the middle of a packet.
    """
    starts = range(first, len(head) - 3, step)[:_ENOUGH_PACKETS]
    # Each packet begins with the sync byte. At least one of the two bits that describe its content is 1.
    return len(starts) == _ENOUGH_PACKETS and all(
        head[start] == _TS_SYNC and head[start + 3] & 0x30 for start in starts
    )
