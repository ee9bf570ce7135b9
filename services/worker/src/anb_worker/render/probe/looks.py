"""How the pictures of a stream look, and when that changes in mid-file."""

import re
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from io import BytesIO

import av
from av.bitstream import BitStreamFilterContext
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from anb_core.domain.color import UNSPECIFIED, Colors
from anb_core.domain.source_facts import Look
from anb_worker.render.probe.streams import codec_name

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
_COLOR_FIELDS = {"colorspace": UNSPECIFIED, "color_primaries": UNSPECIFIED, "color_trc": UNSPECIFIED, "color_range": 0}
_SAY_NO_COLORS = {"mpegts", "avi"}
"""Containers, by FFmpeg's names, that leave this to their pictures."""


class Looks:
    """Finds how a stream's pictures look, and when that changes: a picture is decoded wherever the headers change."""

    def __init__(self, video: VideoStream) -> None:
        self.found: list[Look] = []
        self._video = video
        self._codec = codec_name(video)
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
