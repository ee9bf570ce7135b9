"""The accepted containers and codecs, and what reads them.

The API finds the container by the first bytes of an upload. The worker forces the demuxer of that container, and lets
an upload reach the decoders in these tables and no other code. Demuxers, codecs and decoders have ffmpeg's names.
"""

from collections.abc import Mapping
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
"""The accepted codecs of the picture, each with its decoders. Every codec more is one more way in for an attacker."""

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
    same: (same,)
    for same in (
        *("adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8", "pcm_s16le"),
        *("pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_bluray"),
        "pcm_dvd",
    )
}
"""The accepted codecs of the sound, each with its decoders."""

DECODERS = tuple(name for names in (*VIDEO_CODECS.values(), *AUDIO_CODECS.values()) for name in names)
"""Every decoder that an upload may reach, apart from ALPHA_DECODERS where a plan names one."""

ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""By codec: the decoder that also gives the transparency, where ffmpeg's own decoder leaves it out."""

INTERLACED_CODECS = frozenset({"h264", "hevc", "mpeg2video", "mpeg4", "mjpeg", "prores", "dnxhd", "dvvideo"})
"""The codecs whose pictures may be interlaced, any of them. To look whether one is costs nothing."""


MOST_STREAMS = 64
"""How many streams a file may have. Each one costs memory before anything is known about it."""


def ffmpeg_max_pixels(max_pixels: int) -> int:
    """The value of ffmpeg's option `max_pixels` that lets pictures of so many pixels pass. ffmpeg counts what a decoder
    allocates, which is the picture and margins around it.
    """
    return max_pixels * 3 // 2 + 100_000


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
