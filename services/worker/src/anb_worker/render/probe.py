"""Looks into an upload: its streams, and which part of them is really there. Prints what it found, as JSON.

`python -m anb_worker.render.probe PATH START LENGTH MAX_PIXELS`, started by `children.look`: opening a stranger's file
is the most dangerous thing that we do.
"""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.codec.context import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from anb_core.domain.color import UNSAID, Colors
from anb_core.domain.container import SNIFF_BYTES, Container, sniff_container
from anb_core.domain.render import AUDIO_CODECS, VIDEO_CODECS, AudioFacts, Look, SourceFacts, VideoFacts
from anb_worker.render.boxes import boxes
from anb_worker.render.commands import DECODERS, DEMUXERS, MOST_STREAMS, most_allocated, seek_before

_HEADERS = {
    "h264": "h264_mp4toannexb,extract_extradata",
    "hevc": "hevc_mp4toannexb,extract_extradata",
    "av1": "extract_extradata",
    "mpeg1video": "extract_extradata",
    "mpeg2video": "extract_extradata",
    "mpeg4": "extract_extradata",
}
"""What finds the headers in a key frame's packet, where FFmpeg can."""
_HEAD_BYTES = {"vp8": ((6, 10),), "vp9": ((0, 10),), "dvvideo": ((4, 5), (453, 458)), "prores": ((10, 28),)}
"""Where else a packet says how its picture is to be shown."""
_DOLBY_VISION_CODECS = {"hevc", "av1"}
_DOLBY_VISION_ONLY = {(5, 0), (10, 0)}
"""Profile, and what a picture is compatible with: with nothing."""
_FULL_RANGE = 2
_COLOR_FIELDS = {"colorspace": UNSAID, "color_primaries": UNSAID, "color_trc": UNSAID, "color_range": 0}
_SAY_NO_COLORS = {"mpegts", "avi"}
"""Containers, by FFmpeg's names, that leave this to their pictures."""


def probe(path: Path, start: float, length: float, max_pixels: int) -> SourceFacts:
    """What is in a file; of the kept part, what is really there. A picture over `max_pixels` is not opened."""
    with path.open("rb") as file:
        container = sniff_container(file.read(SNIFF_BYTES))
    if container is None:
        return SourceFacts()
    try:
        return _open(container, path, start, start + length, max_pixels)
    except Exception:  # noqa: BLE001 - the file could be opened, so whatever a library says of its bytes is its fault
        cut_off = container is Container.MP4 and _lacks_index(path)
        return SourceFacts(container=container, state="cut_off" if cut_off else "unreadable")


def _open(container: Container, path: Path, start: float, until: float, max_pixels: int) -> SourceFacts:
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": DEMUXERS[container],
        "codec_whitelist": ",".join(DECODERS),
        "max_streams": str(MOST_STREAMS),
    }
    # Tags may be in any encoding, or in none; nothing is done with their words.
    with av.open(f"file:{path}", format=DEMUXERS[container], options=options, metadata_errors="replace") as opened:
        return _describe(container, opened, start, until, max_pixels)


def _lacks_index(path: Path) -> bool:
    """Whether an MP4 that can't be opened has sound structure up to its end, only that its end came too early."""
    size, end = path.stat().st_size, 0
    for box in boxes(path):
        end = box.end
        if box.kind == "moov" and end <= size:
            return False
    return end >= size


@dataclass(slots=True)
class _Seen:
    """What was seen of one stream; times in seconds from the beginning of the file."""

    packets: int = 0
    last: float | None = None
    end: float | None = None


def _describe(container: Container, opened: InputContainer, start: float, until: float, max_pixels: int) -> SourceFacts:
    origin = (opened.start_time or 0) / av.time_base
    video, audio = _choose_video(opened), _choose_audio(opened)
    seen = {stream.index: _Seen() for stream in (video, audio) if stream is not None}
    looks: tuple[Look, ...] = ()
    # A picture that is going to be refused is not decoded either.
    if video is not None and _codec(video) in VIDEO_CODECS and video.width * video.height <= max_pixels:
        # One in mid-file may be larger than the headers say.
        video.codec_context.options = {"max_pixels": str(most_allocated(max_pixels))}
        seek = seek_before(container, start)
        if seek == 0 or _seeks(opened, origin + seek):
            looks = _scan(opened, seen, video, origin, until)
    return SourceFacts(
        container=container,
        claimed_end=opened.duration / av.time_base if opened.duration else None,
        video=_describe_video(container, video, seen[video.index], looks, origin) if video is not None else None,
        audio=AudioFacts(
            index=audio.index, codec=_codec(audio), decodable=_can_decode(audio), end=seen[audio.index].end
        )
        if audio is not None
        else None,
        has_cover=any(stream.disposition & Disposition.attached_pic for stream in opened.streams.video),
    )


def _describe_video(
    container: Container, video: VideoStream, seen: _Seen, looks: tuple[Look, ...], origin: float
) -> VideoFacts:
    return VideoFacts(
        index=video.index,
        codec=_codec(video),
        width=getattr(video, "width", 0),
        height=getattr(video, "height", 0),
        claimed_end=_claimed_end(container, video, origin),
        packets=seen.packets,
        last=seen.last,
        end=seen.end,
        looks=looks,
    )


def _claimed_end(container: Container, video: VideoStream, origin: float) -> float | None:
    if container is Container.AVI and video.average_rate:
        # FFmpeg shortens the duration of a file that was cut off; the count of frames stays what the file says.
        return float(video.frames / video.average_rate)
    if video.duration is None or video.time_base is None:
        return None
    return float((video.duration + (video.start_time or 0)) * video.time_base) - origin


def _choose_video(opened: InputContainer) -> VideoStream | None:
    """The one that the file prefers, of these the first; never a cover picture."""
    moving = [stream for stream in opened.streams.video if not stream.disposition & Disposition.attached_pic]
    return min(moving, key=lambda stream: not stream.disposition & Disposition.default, default=None)


def _choose_audio(opened: InputContainer) -> AudioStream | None:
    """The one that the file prefers, of those that can be decoded if there are any: a phone may add one in a format of
    its own.
    """
    return min(
        opened.streams.audio,
        key=lambda stream: (not _can_decode(stream), not stream.disposition & Disposition.default),
        default=None,
    )


def _can_decode(audio: AudioStream) -> bool:
    """Whether there is a decoder that takes the stream's headers. Nothing is decoded: of some layouts PyAV dies."""
    if _codec(audio) not in AUDIO_CODECS:
        return False
    try:
        audio.codec_context.open(strict=False)
    except Exception:  # noqa: BLE001 - as in probe
        return False
    return True


def _codec(stream: Stream) -> str:
    # PyAV's types do not say that it is None where there is no decoder.
    context: CodecContext | None = getattr(stream, "codec_context", None)
    return "an unknown format" if context is None else context.codec.canonical_name


def _seeks(opened: InputContainer, at: float) -> bool:
    """Go to the key frame before `at` (seconds of the file's own clock); False where there is nothing so late."""
    try:
        opened.seek(round(at * av.time_base))
    except Exception:  # noqa: BLE001 - as in probe
        return False
    return True


def _scan(
    opened: InputContainer, seen: dict[int, _Seen], video: VideoStream, origin: float, until: float
) -> tuple[Look, ...]:
    """Read the packets up to `until`, and decode a picture at the beginning and wherever it may look different."""
    video.codec_context.thread_count = 1  # one picture is wanted; threads cost memory
    looks = _Looks(video)
    for packet in _packets(opened, set(seen), origin, until):
        stream = seen[packet.stream_index]
        at = _seconds(packet, packet.pts if packet.pts is not None else packet.dts, origin)
        if at is not None and at < until and not packet.is_discard and not packet.is_corrupt:
            stream.packets += 1
            stream.last = max(stream.last or 0.0, at)
            stream.end = max(stream.end or 0.0, at + (_seconds(packet, packet.duration, 0.0) or 0.0))
        if packet.stream_index == video.index:
            looks.take(packet, at)
    looks.take(None, None)
    return tuple(looks.found)


def _packets(opened: InputContainer, waiting: set[int], origin: float, until: float) -> Iterator["Packet[Stream]"]:
    """The packets of the named streams, until each of them has come to `until`, or the file ends or breaks."""
    try:
        for packet in opened.demux([opened.streams[index] for index in waiting]):
            yield packet
            # Pictures may come out of order, but none comes before its own decoding time.
            at = _seconds(packet, packet.dts if packet.dts is not None else packet.pts, origin)
            if at is not None and at >= until:
                waiting.discard(packet.stream_index)
            if not waiting:
                return
    except Exception:  # noqa: BLE001 - as in probe; what came before it counts
        return


def _seconds(packet: "Packet[Stream]", ticks: int | None, origin: float) -> float | None:
    return None if ticks is None else float(ticks * packet.time_base) - origin


class _Looks:
    """Finds how a stream's pictures look, and when that changes: a picture is decoded wherever the headers change."""

    def __init__(self, video: VideoStream) -> None:
        self.found: list[Look] = []
        self._video = video
        self._codec = _codec(video)
        self._headers: dict[bytes, Look] = {}
        self._now: bytes | None = None
        self._wanted: float | None = 0.0
        """Since when a look holds that no picture was decoded of yet."""
        self._dolby_vision = self._codec in _DOLBY_VISION_CODECS and _is_dolby_vision(video)
        said = video.container.format.name not in _SAY_NO_COLORS
        self._said_by_file = {n: getattr(video.codec_context, n) if said else v for n, v in _COLOR_FIELDS.items()}
        self._file_aspect = _aspect(video.sample_aspect_ratio)
        self._first_aspect: float | None = None

    def take(self, packet: "Packet[Stream] | None", at: float | None) -> None:
        """The stream's next packet, which is shown at `at` (seconds); None as packet: there are no more."""
        if packet is not None and packet.is_keyframe and (headers := self._read_headers(packet)):
            if self._now is not None and headers != self._now:
                self._change(headers, at or 0.0)
            self._now = headers
        if self._wanted is not None and (frame := _decode(self._video, packet)) is not None:
            look = self._look(frame, packet, self._wanted)
            self.found.append(look)
            self._wanted = None
            if self._now is not None:
                self._headers[self._now] = look

    def _change(self, headers: bytes, at: float) -> None:
        if headers in self._headers:
            self._wanted = None
            self.found.append(replace(self._headers[headers], since=at))
        elif self.found:
            context = self._video.codec_context
            context.flush_buffers()
            # A decoder keeps what headers said before, where new ones say nothing.
            for name, value in self._said_by_file.items():
                setattr(context, name, value)
            self._wanted = at

    def _read_headers(self, packet: "Packet[Stream]") -> bytes:
        """The part of a packet that tells how its picture is to be shown; nothing where it does not say."""
        data = memoryview(packet)
        headers = b"".join(data[begin:end] for begin, end in _HEAD_BYTES.get(self._codec, ()))
        if packet.has_sidedata("new_extradata"):
            headers += bytes(packet.get_sidedata("new_extradata"))
        if self._codec in _HEADERS:
            with suppress(Exception):  # as in probe; what is damaged says nothing
                headers += self._extract(data)
        return headers

    def _extract(self, data: memoryview) -> bytes:
        """The headers in a packet, with FFmpeg's help."""
        packet = Packet(bytes(data))
        packet.is_keyframe = True
        found = BitStreamFilterContext(_HEADERS[self._codec], self._video).filter(packet)
        return b"".join(bytes(one.get_sidedata("new_extradata")) for one in found if one.has_sidedata("new_extradata"))

    def _look(self, frame: VideoFrame, packet: "Packet[Stream] | None", since: float) -> Look:
        # What does not say its aspect has square pixels.
        aspect: float | None = _aspect(self._video.codec_context.sample_aspect_ratio) or 1.0
        self._first_aspect = self._first_aspect or aspect
        turned = frame.rotation % 180 != 0
        if self._file_aspect not in {None, self._first_aspect} or aspect == self._first_aspect:
            aspect = None  # the container's word counts, and holds for the whole file
        elif turned and aspect:
            aspect = 1 / aspect
        width, height = (frame.height, frame.width) if turned else (frame.width, frame.height)
        return Look(since=since, width=width, height=height, pixel_aspect=aspect, colors=self._colors(frame, packet))

    def _colors(self, frame: VideoFrame, packet: "Packet[Stream] | None") -> Colors:
        components = frame.format.components
        return Colors(
            matrix=int(frame.colorspace),
            primaries=int(frame.color_primaries),
            transfer=int(frame.color_trc),
            full_range=int(frame.color_range) == _FULL_RANGE or frame.format.name.startswith("yuvj"),
            rgb=frame.format.is_rgb,
            # Of VP8 and VP9 it comes beside the picture.
            alpha=any(component.is_alpha for component in components)
            or (packet is not None and packet.has_sidedata("matroska_block_additional")),
            dolby_vision=self._dolby_vision,
        )


def _is_dolby_vision(video: VideoStream) -> bool:
    """Whether the colors are Dolby Vision's own. PyAV does not tell, but what it would write into an MP4 does."""
    header = BytesIO()
    how = {"strict": "unofficial", "movflags": "empty_moov"}
    with suppress(Exception), av.open(header, "w", format="mp4", options=how) as copy:
        copy.add_stream_from_template(video)
        copy.start_encoding()
    record = re.search(rb"dv[cv]C..(?P<profile>.).(?P<compatible>.)", header.getvalue(), re.DOTALL)
    if record is None:
        return False
    profile, compatible = record["profile"][0] >> 1, record["compatible"][0] >> 4
    return (profile, compatible) in _DOLBY_VISION_ONLY


def _aspect(ratio: Fraction | None) -> float | None:
    """A pixel's width by its height; None where it is not said."""
    return float(ratio) if ratio else None


def _decode(video: VideoStream, packet: "Packet[Stream] | None") -> VideoFrame | None:
    """The first picture that this packet completes, if any; None as packet: the first that is still held back."""
    try:
        return next(iter(video.decode(packet)), None)
    except Exception:  # noqa: BLE001 - as in probe
        return None  # what is broken is skipped, as ffmpeg does


if __name__ == "__main__":
    _path, _start, _length, _max_pixels = sys.argv[1:]
    _facts = probe(Path(_path), float(_start), float(_length), int(_max_pixels))
    sys.stdout.write(json.dumps(asdict(_facts), allow_nan=False))
