"""Damages files like networks, disks and attackers. The same seed always gives the same damage."""

import random
import re
from collections.abc import Callable

PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=128x72:r=25:d=0.6")
TONE = ("-f", "lavfi", "-i", "sine=d=0.6")
TAGS = ("-metadata", "title=Some words", "-metadata", "comment=Some more words")
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "5")
X265 = ("-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p10le")
WEBM = ("-deadline", "realtime", "-cpu-used", "8")
HDR = ("-vf", "setparams=color_primaries=bt2020:color_trc=arib-std-b67:colorspace=bt2020nc")
FIELDS = ("-vf", "tinterlace=interleave_top", "-flags", "+ilme+ildct")
PRORES = ("-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le")
ALPHA = ("-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0")

SEEDS: dict[str, tuple[str, ...]] = {
    "plain.mp4": (*X264, "-c:a", "aac", "-movflags", "+faststart", *TAGS),
    "index-last.mp4": (*X264, "-pix_fmt", "yuv420p", "-c:a", "aac", *TAGS),
    "fragments.mp4": (*X264, "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov+default_base_moof"),
    "edited.mov": ("-output_ts_offset", "0.2", *PRORES, "-c:a", "pcm_s16be"),
    "phone.3gp": ("-vf", "scale=176:144", "-c:v", "h263", "-c:a", "aac", "-ac", "1"),
    "recorder.mkv": (*X264, "-bf", "2", "-c:a", "libopus", *TAGS),
    "hdr.mkv": (*HDR, *X265, "-c:a", "flac"),
    "browser.webm": ("-c:v", "libvpx", *WEBM, "-c:a", "libvorbis", *TAGS),
    "see-through.webm": (*ALPHA, *WEBM, "-c:a", "libopus"),
    "divx.avi": ("-c:v", "mpeg4", "-bf", "2", "-c:a", "libmp3lame", *TAGS),
    "camera.avi": ("-c:v", "mjpeg", "-pix_fmt", "yuvj422p", "-c:a", "pcm_s16le", *TAGS),
    "broadcast.ts": (*X264, "-bf", "2", "-c:a", "aac", *TAGS),
    "dvd.ts": (*FIELDS, "-c:v", "mpeg2video", "-c:a", "mp2"),
    "camcorder.m2ts": (*X264, "-c:a", "ac3"),
}
"""How to make small clips in different formats: maps the name of each clip to ffmpeg's output arguments.
ffmpeg's inputs are PICTURE and TONE."""

_NAMES = re.compile(
    rb"moov|trak|mdia|minf|stbl|stsd|stts|ctts|stsc|stsz|stco|stss|elst|edts|mdat|moof|traf|trun|tfhd|tfdt|avcC|esds|colr"
    rb"|LIST|hdrl|strl|strh|strf|movi|idx1|00dc|01wb|\x1aE\xdf\xa3|\x18S\x80g|\x16T\xaek|\x1fC\xb6u|\x1cS\xbbk|\xae|\xa3"
)
"""Names of file structures with a size field, which is before the name in MP4 and after the name in other formats."""
_EXTREMES = (b"\0\0\0\0", b"\0\0\0\1", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\0\0\0")


def mutate(data: bytes, other: bytes, seed: int) -> bytes:
    """Return `data` with one to three random faults. A fault may insert bytes of the file `other`."""
    chance = random.Random(seed)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        data = chance.choice(_DAMAGES)(bytearray(data), other, chance)
    return data


def _cut(data: bytearray, _: bytes, chance: random.Random) -> bytes:
    return bytes(data[: chance.randrange(len(data) + 1)])


def _lose(data: bytearray, _: bytes, chance: random.Random) -> bytes:
    begin, end = _span(data, chance)
    return bytes(data[:begin] + data[end:])


def _repeat(data: bytearray, _: bytes, chance: random.Random) -> bytes:
    begin, end = _span(data, chance)
    return bytes(data[:end] + data[begin:])


def _swap(data: bytearray, _: bytes, chance: random.Random) -> bytes:
    begin, middle, end = sorted(chance.randrange(len(data) + 1) for _ in range(3))
    return bytes(data[:begin] + data[middle:end] + data[begin:middle] + data[end:])


def _flip(data: bytearray, _: bytes, chance: random.Random) -> bytes:
    for _bit in range(chance.choice((1, 4, 30, 300)) if data else 0):
        data[_place(data, chance)] ^= 1 << chance.randrange(8)
    return bytes(data)


def _overwrite(data: bytearray, _: bytes, chance: random.Random) -> bytes:
    begin, end = _span(data, chance)
    noise = chance.randbytes(end - begin)
    data[begin:end] = chance.choice((noise, b"\0" * len(noise), b"\xff" * len(noise), b"G" * len(noise)))
    return bytes(data)


def _lie(data: bytearray, _: bytes, chance: random.Random) -> bytes:
    """Overwrite four bytes near a structure's name. Bytes at these places usually contain a size or a count."""
    places = [found.span() for found in _NAMES.finditer(data)]
    if places:
        begin, end = chance.choice(places)
        at = max(0, chance.choice((begin - 4, end, end + 4, end + 8)))
        data[at : at + 4] = chance.choice((*_EXTREMES, chance.randbytes(4)))
    return bytes(data)


def _rename(data: bytearray, _: bytes, chance: random.Random) -> bytes:
    places = [found.span() for found in _NAMES.finditer(data)]
    if places:
        begin, end = chance.choice(places)
        data[begin:end] = chance.choice((b"free", b"\0\0\0\0", chance.randbytes(end - begin)))[: end - begin]
    return bytes(data)


def _garble_words(data: bytearray, _: bytes, chance: random.Random) -> bytes:
    return bytes(data).replace(b"Some", chance.choice((b"\xff\xfe\xe4\x80", b"S\0me", b"\xed\xa0\x80!")))


def _splice(data: bytearray, other: bytes, chance: random.Random) -> bytes:
    return bytes(data[: chance.randrange(len(data) + 1)]) + other[chance.randrange(len(other)) :]


def _append(data: bytearray, other: bytes, chance: random.Random) -> bytes:
    return bytes(data) + chance.choice((other, bytes(data), chance.randbytes(5000)))


_DAMAGES: tuple[Callable[[bytearray, bytes, random.Random], bytes], ...] = (
    *(_cut, _lose, _repeat, _swap, _flip, _flip, _overwrite, _lie, _lie, _lie, _rename, _garble_words, _splice),
    _append,
)


def _place(data: bytearray, chance: random.Random) -> int:
    """Return a random offset. Offsets in the first 3000 bytes are more probable, because most structures are there."""
    return chance.randrange(chance.choice((len(data), min(len(data), 3000))))


def _span(data: bytearray, chance: random.Random) -> tuple[int, int]:
    if not data:
        return 0, 0
    begin = _place(data, chance)
    return begin, min(len(data), begin + chance.choice((1, 16, 188, 1000, len(data) // 4)))
