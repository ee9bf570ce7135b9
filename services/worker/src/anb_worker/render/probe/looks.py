"""Finds the picture formats (looks) of a video stream.

A look is the picture format of consecutive frames: the size, pixel format, aspect ratio and colors.
A new look begins when the size, pixel format, aspect ratio or colors change in the middle of the file.
"""

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
"""For each codec: the bitstream filters that extract the headers from the packet of a keyframe."""
_HEAD_BYTES = {"vp8": ((6, 10),), "vp9": ((0, 10),), "dvvideo": ((4, 5), (453, 458)), "prores": ((10, 28),)}
"""For each codec without a filter in `_HEADERS`: the byte ranges of a packet that contain the frame's headers."""
_DOLBY_VISION_CODECS = {"hevc", "av1"}
_DOLBY_VISION_ONLY = {(5, 0), (10, 0)}
"""Profile and compatibility id of Dolby Vision streams that only a Dolby Vision player can show."""
_FULL_RANGE = 2
"""ffmpeg's number for full-range colors (AVCOL_RANGE_JPEG)."""
_COLOR_FIELDS = {"colorspace": UNSPECIFIED, "color_primaries": UNSPECIFIED, "color_trc": UNSPECIFIED, "color_range": 0}
_CONTAINERS_WITHOUT_COLORS = {"mpegts", "avi"}
"""ffmpeg's names of containers without color tags. In these containers, only the frames have color tags."""


class Looks:
    """Finds the picture formats (looks) of a video stream. Decodes one frame after each change of the headers."""

    def __init__(self, video: VideoStream) -> None:
        self.found: list[Look] = []
        """The picture formats (looks) found so far, ordered by time."""
        self._video = video
        self._codec = codec_name(video)
        self._looks_by_headers: dict[bytes, Look] = {}
        """For each value of the headers: the picture format (look) of the frames with these headers."""
        self._headers: bytes | None = None
        """The headers of the last packets. None before the first headers."""
        self._undecoded_since: float | None = 0.0
        """Time of the last change of headers, in seconds. None if a frame after the change was decoded."""
        self._dolby_vision = self._codec in _DOLBY_VISION_CODECS and _is_dolby_vision(video)
        context, has_colors = video.codec_context, video.container.format.name not in _CONTAINERS_WITHOUT_COLORS
        self._file_colors = {n: getattr(context, n) if has_colors else v for n, v in _COLOR_FIELDS.items()}
        self._file_aspect = _aspect(video.sample_aspect_ratio)
        self._first_aspect: float | None = None
        self.first: VideoFrame | None = None
        """The first frame that could be decoded."""

    def take(self, packet: "Packet[Stream] | None", at: float | None) -> None:
        """Process the next packet of the stream, with its presentation time in seconds. None means the stream's end."""
        if packet is not None and packet.is_keyframe and (headers := self._read_headers(packet)):
            if self._headers is not None and headers != self._headers:
                self._change(headers, at or 0.0)
            self._headers = headers
        if self._undecoded_since is not None and (frame := _decode(self._video, packet)) is not None:
            self.first = self.first or frame
            look = self._look(frame, packet, self._undecoded_since)
            self.found.append(look)
            self._undecoded_since = None
            if self._headers is not None:
                self._looks_by_headers[self._headers] = look

    def _change(self, headers: bytes, at: float) -> None:
        if headers in self._looks_by_headers:
            self._undecoded_since = None
            self.found.append(replace(self._looks_by_headers[headers], since=at))
        elif self.found:
            context = self._video.codec_context
            context.flush_buffers()
            # Reset the colors, because the decoder keeps the old colors if the new headers have no color tags.
            for name, value in self._file_colors.items():
                setattr(context, name, value)
            self._undecoded_since = at

    def _read_headers(self, packet: "Packet[Stream]") -> bytes:
        """Return the headers in a packet as bytes. Empty if the packet has no headers."""
        data = memoryview(packet)
        headers = b"".join(data[begin:end] for begin, end in _HEAD_BYTES.get(self._codec, ()))
        if packet.has_sidedata("new_extradata"):
            headers += bytes(packet.get_sidedata("new_extradata"))
        if self._codec in _HEADERS:
            with suppress(Exception):  # Damaged headers count as missing.
                headers += self._extract(data)
        return headers

    def _extract(self, data: memoryview) -> bytes:
        """Return the headers in a packet, found by ffmpeg's bitstream filters."""
        packet = Packet(bytes(data))
        packet.is_keyframe = True
        filtered = BitStreamFilterContext(_HEADERS[self._codec], self._video).filter(packet)
        with_headers = [packet for packet in filtered if packet.has_sidedata("new_extradata")]
        return b"".join(bytes(packet.get_sidedata("new_extradata")) for packet in with_headers)

    def _look(self, frame: VideoFrame, packet: "Packet[Stream] | None", since: float) -> Look:
        # Without an aspect ratio, the pixels are square.
        aspect: float | None = _aspect(self._video.codec_context.sample_aspect_ratio) or 1.0
        self._first_aspect = self._first_aspect or aspect
        turned = frame.rotation % 180 != 0
        if self._file_aspect not in {None, self._first_aspect} or aspect == self._first_aspect:
            aspect = None  # The aspect ratio of the container has priority, and applies to the whole file.
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
            # VP8 and VP9 have the alpha channel in the side data of packets.
            alpha=any(component.is_alpha for component in components)
            or (packet is not None and packet.has_sidedata("matroska_block_additional")),
            dolby_vision=self._dolby_vision,
        )


def _is_dolby_vision(video: VideoStream) -> bool:
    """Return whether only a Dolby Vision player can show the colors.

    PyAV has no attribute for Dolby Vision. So write the stream's headers to an MP4 file in memory, and read its boxes.
    """
    header = BytesIO()
    options = {"strict": "unofficial", "movflags": "empty_moov"}
    with suppress(Exception), av.open(header, "w", format="mp4", options=options) as copy:
        copy.add_stream_from_template(video)
        copy.start_encoding()
    record = re.search(rb"dv[cv]C..(?P<profile>.).(?P<compatible>.)", header.getvalue(), re.DOTALL)
    if record is None:
        return False
    profile, compatible = record["profile"][0] >> 1, record["compatible"][0] >> 4
    return (profile, compatible) in _DOLBY_VISION_ONLY


def _aspect(ratio: Fraction | None) -> float | None:
    """Return the pixel's aspect ratio (width divided by height). None if the ratio is missing or 0."""
    return float(ratio) if ratio else None


def _decode(video: VideoStream, packet: "Packet[Stream] | None") -> VideoFrame | None:
    """Decode a packet and return the first frame, or None. If `packet` is None, flush the decoder."""
    try:
        return next(iter(video.decode(packet)), None)
    except Exception:  # noqa: BLE001 - any library error is caused by the file's content, see facts.probe
        return None  # skip broken packets, like ffmpeg
