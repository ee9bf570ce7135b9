"""Looks into an upload: its streams, and which part of them is really there. Prints what it found, as JSON.

`python -m anb_worker.render.probe PATH START LENGTH MAX_PIXELS MAX_SECONDS`, started by `children.look`: opening a
stranger's file is the most dangerous thing that we do.
"""

import json
import re
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from io import BytesIO
from math import inf
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
from anb_core.domain.formats import (
    AUDIO_CODECS,
    DECODERS,
    DEMUXERS,
    MOST_STREAMS,
    SNIFF_BYTES,
    VIDEO_CODECS,
    Container,
    ffmpeg_max_pixels,
    sniff_container,
)
from anb_core.domain.source_facts import AudioFacts, Look, SourceFacts, VideoFacts
from anb_worker.render.boxes import boxes
from anb_worker.render.part import Part, thinned
from anb_worker.render.scan import Scan, Seen
from anb_worker.render.wholeness import is_whole

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


_MOST_HELD_BACK = 16
"""How many pictures a decoder may hold back."""

_SEEKS = (1.0, 10.0)
"""How far before the kept part to begin reading, in seconds: sound is warmed up by then, and is often stored a little
apart from its picture. If that is not enough, farther; then from the beginning on.
"""


def probe(path: Path, start: float, length: float, max_pixels: int, max_seconds: float = inf) -> SourceFacts:
    """What is in a file; of the kept part, what is really there. A picture over `max_pixels` is not opened. Whether
    there is more than `max_seconds` is counted where the file does not say it itself.
    """
    with path.open("rb") as file:
        container = sniff_container(file.read(SNIFF_BYTES))
    if container is None:
        return SourceFacts()
    if container is Container.MP4 and _lacks_index(path):
        return SourceFacts(container=container, state="cut_off")
    window = _Window(container, path, start, start + length, max_pixels, max_seconds)
    try:
        # A seek gains little near the beginning. MPEG-TS has no index; what its clock means is known once it is read.
        for back in _SEEKS if start > _SEEKS[0] and container is not Container.MPEG_TS else ():
            facts = window.look(back)
            if facts is not None:
                return facts
        return window.look(None) or SourceFacts(container=container)
    except Exception:  # noqa: BLE001 - the file could be opened, so whatever a library says of its bytes is its fault
        return SourceFacts(container=container, state="unreadable")


def _ignore(_packet: "Packet[Stream] | None", _at: float | None) -> None:
    """Watch nothing."""


def _lacks_index(path: Path) -> bool:
    """Whether an MP4 has sound structure up to its end, only that its end came too early: of half an index libavformat
    makes a shorter video, without its sound.
    """
    size, end = path.stat().st_size, 0
    for box in boxes(path):
        end = box.end
        if box.kind == "moov" and end <= size:
            return False
    return end >= size


@dataclass(frozen=True, slots=True)
class _Window:
    """What is looked for: the part of a file from `start` to `until`, in seconds as a player counts them."""

    container: Container
    path: Path
    start: float
    until: float
    max_pixels: int
    max_seconds: float

    def look(self, back: float | None) -> SourceFacts | None:
        """Open the file and describe it, reading from `back` seconds before the kept part on, None: from the beginning
        on. None as answer: that did not show all of it.
        """
        options = {
            "protocol_whitelist": "file",
            "format_whitelist": DEMUXERS[self.container],
            "codec_whitelist": ",".join(DECODERS),
            "max_streams": str(MOST_STREAMS),
        }
        # Tags may be in any encoding, or in none; nothing is done with their words.
        with av.open(
            f"file:{self.path}", format=DEMUXERS[self.container], options=options, metadata_errors="replace"
        ) as opened:
            return self._describe(opened, back)

    def _describe(self, opened: InputContainer, back: float | None) -> SourceFacts | None:
        video, audio = _choose_video(opened), _choose_audio(opened)
        claimed = opened.duration / av.time_base if opened.duration else None
        has_cover = any(stream.disposition & Disposition.attached_pic for stream in opened.streams.video)
        facts = SourceFacts(container=self.container, claimed_end=claimed, has_cover=has_cover)
        if audio is not None:
            facts = replace(facts, audio=_audio_facts(audio))
        if video is None:
            return facts
        facts = replace(facts, video=_video_facts(video))
        # A picture that is going to be refused is not decoded either.
        if _codec(video) not in VIDEO_CODECS or video.width * video.height > self.max_pixels:
            return facts
        if facts.audio is not None and not facts.audio.decodable:
            return facts
        # One in mid-file may be larger than the headers say.
        video.codec_context.options = {"max_pixels": str(ffmpeg_max_pixels(self.max_pixels))}
        video.codec_context.thread_count = 1  # one picture is wanted; threads cost memory
        return self._read(opened, video, audio, back, facts)

    def _read(
        self,
        opened: InputContainer,
        video: VideoStream,
        audio: AudioStream | None,
        back: float | None,
        facts: SourceFacts,
    ) -> SourceFacts | None:
        looks = _Looks(video)
        # Where reading begins anew, nothing is decoded yet: a decoder forgets what the file says.
        decode = back is None or self.container is Container.AVI
        found = head = Scan(self.container, self.path, video, audio, looks.take if decode else _ignore)
        head.read(opened, None)
        begins = {stream.index: head.begins(stream) for stream in (video, audio) if stream is not None}
        origin = min((begin for begin in begins.values() if begin is not None), default=0.0)
        late = self._lateness(looks, head.packets[video.index])
        if back is not None:
            if not _seeks(opened, origin + self.start - back):
                return None
            looks = _Looks(video) if decode else looks
            found = Scan(self.container, self.path, video, audio, looks.take)
        endless = self.container is Container.MPEG_TS and (facts.claimed_end or 0) > self.max_seconds
        found.read(opened, inf if endless else origin + self.until)
        looks.take(None, None)
        part = Part(found, self.container, origin, self.start, self.until, back)
        if back is not None and not part.is_all_there(video, begins):
            return None
        return self._describe_part(part, video, audio, facts, late=late, looks=looks)

    def _lateness(self, looks: "_Looks", packets: list[Seen]) -> float:
        """How much later ffmpeg takes a picture to be than it is: AVI only tells when it is decoded, and a picture gets
        the time of the packet that let the decoder hand it out.
        """
        first = looks.first
        if self.container is not Container.AVI or first is None or first.dts is None or not packets:
            return 0.0
        late = float(first.dts * (first.time_base or 0)) - packets[0].stamp.raw_dts
        return late if 0 < late <= _MOST_HELD_BACK * packets[0].duration else 0.0

    def _describe_part(
        self,
        part: Part,
        video: VideoStream,
        audio: AudioStream | None,
        facts: SourceFacts,
        *,
        late: float,
        looks: "_Looks",
    ) -> SourceFacts:
        found = part.scan
        first = looks.first
        decoded = float(first.pts * (first.time_base or 0)) if first is not None and first.pts is not None else None
        pictures = part.pictures(video, decoded)
        video_facts = replace(
            _video_facts(video),
            claimed_end=self._claimed_end(video, part.origin),
            reading=part.reading(video, late),
            packets=len(pictures),
            shown=thinned(pictures),
            end=part.end(video),
            looks=tuple(replace(look, since=look.since - part.origin) for look in looks.found),
        )
        audio_facts = None
        if audio is not None:
            audio_facts = replace(
                _audio_facts(audio),
                claimed_end=self._claimed_end(audio, part.origin),
                reading=part.reading(audio),
                heard=tuple(part.sounds(audio)),
                end=part.end(audio),
            )
        streams = [video] if audio is None else [video, audio]
        ends = [part.end(stream) or 0.0 for stream in streams]
        claimed_end = facts.claimed_end
        if self.container is Container.MPEG_TS:
            claimed_end = max(ends) if found.ended else None
        return replace(
            facts,
            claimed_end=claimed_end,
            whole=min(ends) < self.until and is_whole(self.container, self.path, streams),
            jumps=tuple(moment - part.origin for moment in found.timeline.jumps()),
            other_recording_at=part.elsewhere(video),
            video=video_facts,
            audio=audio_facts,
        )

    def _claimed_end(self, stream: VideoStream | AudioStream, origin: float) -> float | None:
        """Where the file says that a stream ends."""
        if self.container is Container.AVI and isinstance(stream, VideoStream) and stream.average_rate:
            # FFmpeg shortens the duration of a file that was cut off; the count of frames stays what the file says.
            return float(stream.frames / stream.average_rate)
        if self.container is not Container.MP4 or stream.duration is None or stream.time_base is None:
            return None
        # In fragments, what is before the first picture is a part of the duration.
        begin = 0 if any(box.kind == "moof" for box in boxes(self.path)) else stream.start_time or 0
        return float((stream.duration + begin) * stream.time_base) - origin


def _video_facts(video: VideoStream) -> VideoFacts:
    """What is known of a stream without reading it."""
    width, height = getattr(video, "width", 0), getattr(video, "height", 0)
    return VideoFacts(index=video.index, codec=_codec(video), width=width, height=height)


def _audio_facts(audio: AudioStream) -> AudioFacts:
    return AudioFacts(index=audio.index, codec=_codec(audio), decodable=_can_decode(audio))


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
        self.first: VideoFrame | None = None
        """The first picture that could be decoded."""

    def take(self, packet: "Packet[Stream] | None", at: float | None) -> None:
        """The stream's next packet, which is shown at `at` (seconds); None as packet: there are no more."""
        if packet is not None and packet.is_keyframe and (headers := self._read_headers(packet)):
            if self._now is not None and headers != self._now:
                self._change(headers, at or 0.0)
            self._now = headers
        if self._wanted is not None and (frame := _decode(self._video, packet)) is not None:
            self.first = self.first or frame
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
        return Look(
            since=since,
            width=width,
            height=height,
            pixel_format=frame.format.name,
            pixel_aspect=aspect,
            colors=self._colors(frame, packet),
        )

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
    _path, _start, _length, _max_pixels, _max_seconds = sys.argv[1:]
    _facts = probe(Path(_path), float(_start), float(_length), int(_max_pixels), float(_max_seconds))
    sys.stdout.write(json.dumps(asdict(_facts), allow_nan=False))
