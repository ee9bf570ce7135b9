"""Finds the looks of a video stream.

A look is the size, pixel format, aspect ratio and colors of consecutive frames.
A new look begins when one of these properties changes in mid-file.
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
"""Maps codecs to the bitstream filters that extract the headers from the packet of a keyframe."""
_HEAD_BYTES = {"vp8": ((6, 10),), "vp9": ((0, 10),), "dvvideo": ((4, 5), (453, 458)), "prores": ((10, 28),)}
"""Maps codecs that are not in `_HEADERS` to the byte ranges of the frame's headers in a packet."""
_DOLBY_VISION_CODECS = {"hevc", "av1"}
_DOLBY_VISION_ONLY = {(5, 0), (10, 0)}
"""Profile and compatibility id of the Dolby Vision streams that only Dolby Vision players can show."""
_FULL_RANGE = 2
"""ffmpeg's number for full-range colors (AVCOL_RANGE_JPEG)."""
_COLOR_FIELDS = {"colorspace": UNSPECIFIED, "color_primaries": UNSPECIFIED, "color_trc": UNSPECIFIED, "color_range": 0}
_CONTAINERS_WITHOUT_COLORS = {"mpegts", "avi"}
"""ffmpeg's names of containers that have no color tags. In such a file, only the frames have color tags."""


class Looks:
    """Finds the looks of a video stream. Decodes the first frame, and one frame after each change of the headers."""

    def __init__(self, video: VideoStream) -> None:
        self.found: list[Look] = []
        """The looks that were found so far, ordered by time."""
        self._video = video
        self._codec = codec_name(video)
        self._looks_by_headers: dict[bytes, Look] = {}
        """Maps headers to a look. All frames with the same headers have the same look."""
        self._headers: bytes | None = None
        """The headers that were read last. None before the first headers."""
        self._undecoded_since: float | None = 0.0
        """Time of the last change of headers, in seconds. None as soon as a frame with the new headers is decoded."""
        self._dolby_vision = self._codec in _DOLBY_VISION_CODECS and _is_dolby_vision(video)
        context, has_colors = video.codec_context, video.container.format.name not in _CONTAINERS_WITHOUT_COLORS
        self._file_colors = {n: getattr(context, n) if has_colors else v for n, v in _COLOR_FIELDS.items()}
        self._file_aspect = _aspect(video.sample_aspect_ratio)
        self._first_aspect: float | None = None
        self.first: VideoFrame | None = None
        """The first frame that could be decoded. None before a frame was decoded."""

    def take(self, packet: "Packet[Stream] | None", at: float | None) -> None:
        """Process the next packet of the stream. `at` is its presentation time in seconds.

        At the end of the stream, `packet` and `at` are None.
        """
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
            # Reset the colors. Otherwise the decoder would keep the old colors if the new headers have no color tags.
            for name, value in self._file_colors.items():
                setattr(context, name, value)
            self._undecoded_since = at

    def _read_headers(self, packet: "Packet[Stream]") -> bytes:
        """Return the headers in a packet. Empty if the packet has no headers."""
        data = memoryview(packet)
        headers = b"".join(data[begin:end] for begin, end in _HEAD_BYTES.get(self._codec, ()))
        if packet.has_sidedata("new_extradata"):
            headers += bytes(packet.get_sidedata("new_extradata"))
        if self._codec in _HEADERS:
            with suppress(Exception):  # ignore damaged headers
                headers += self._extract(data)
        return headers

    def _extract(self, data: memoryview) -> bytes:
        """Return the headers that ffmpeg's bitstream filters extract from a packet."""
        packet = Packet(bytes(data))
        packet.is_keyframe = True
        filtered = BitStreamFilterContext(_HEADERS[self._codec], self._video).filter(packet)
        with_headers = [packet for packet in filtered if packet.has_sidedata("new_extradata")]
        return b"".join(bytes(packet.get_sidedata("new_extradata")) for packet in with_headers)

    def _look(self, frame: VideoFrame, packet: "Packet[Stream] | None", since: float) -> Look:
        # A missing aspect ratio means square pixels.
        aspect: float | None = _aspect(self._video.codec_context.sample_aspect_ratio) or 1.0
        self._first_aspect = self._first_aspect or aspect
        turned = frame.rotation % 180 != 0
        if self._file_aspect not in {None, self._first_aspect} or aspect == self._first_aspect:
            aspect = None  # The container's own aspect ratio has priority and applies to all frames.
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
            # In VP8 and VP9, the alpha channel is in the side data of a packet.
            alpha=any(component.is_alpha for component in components)
            or (packet is not None and packet.has_sidedata("matroska_block_additional")),
            dolby_vision=self._dolby_vision,
        )


def _is_dolby_vision(video: VideoStream) -> bool:
    """Return whether only a Dolby Vision player can show the colors.

    PyAV has no attribute for Dolby Vision.
    As a workaround, write the stream's headers to an MP4 file in memory, and search the boxes of this file.
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
    """Return the width of a pixel divided by its height. None if the ratio is missing or 0."""
    return float(ratio) if ratio else None


def _decode(video: VideoStream, packet: "Packet[Stream] | None") -> VideoFrame | None:
    """Decode a packet, and return the first resulting frame, or None. If `packet` is None, flush the decoder."""
    try:
        return next(iter(video.decode(packet)), None)
    except Exception:  # noqa: BLE001 - any library error is caused by the file's content, see facts.probe
        return None  # skip broken packets, like ffmpeg
