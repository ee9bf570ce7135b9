"""The facts that the probe finds in an upload.

By default, a time is in seconds since the start of the earliest stream, like the time that a video player shows.
A field with another kind of time says so.
"""

from dataclasses import dataclass, field
from typing import Literal

from anb_core.domain.color import Colors
from anb_core.domain.formats import Container


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive packets of one stream without a timestamp jump. Times are in units of the stream's time base."""

    packet: int
    """Index of the first of these packets, counted from the beginning of the stream."""
    since: int
    """Timestamp of the first packet, as stored in the file."""
    place: int
    """Correct time of the first packet, on one continuous timeline for the whole file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How ffmpeg has to read a stream to get the complete kept part. Times are timestamps of the file, in seconds."""

    origin: float = 0.0
    """Timestamp of the file at which a video player shows the time 0."""
    seek: float | None = None
    """Timestamp from which ffmpeg reads. None if ffmpeg reads from the beginning of the file."""
    stretches: tuple[Stretch, ...] = ()
    """The correct times of packets after timestamp jumps. Empty if no timestamps jump."""
    skip: int = 0
    """Number of packets that ffmpeg drops at the beginning of the stream. Used only if `stretches` is not empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Size, pixel format, aspect ratio and colors of consecutive frames, of which the first begins at `since`."""

    since: float = 0.0
    """Time of the first frame that has this look, in seconds."""
    width: int = 0
    height: int = 0
    """Width and height in pixels, after rotation."""
    pixel_format: str = ""
    """ffmpeg's name of the pixel format."""
    pixel_aspect: float | None = None
    """Width of a pixel divided by its height. None if ffmpeg itself uses the right value for these frames."""
    colors: Colors = field(default_factory=Colors)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFacts:
    """The video stream that is rendered. `reading` and all later fields describe only the kept part."""

    index: int
    """Index of the stream in the file."""
    codec: str
    """ffmpeg's name of the codec."""
    width: int
    height: int
    """Width and height according to the headers of the file, in pixels."""
    claimed_end: float | None = None
    """End of the stream according to the file's headers, in seconds. None if the headers give no end."""
    reading: Reading = Reading()
    packets: int = 0
    """Number of packets that a decoder can decode if they are undamaged."""
    shown: tuple[float, ...] = ()
    """Presentation times of all decodable frames, in seconds. The first frame is visible when the kept part begins."""
    end: float | None = None
    """End of the last frame in seconds. At most the end of the kept part. None if no frame exists."""
    looks: tuple[Look, ...] = ()
    """The looks of the frames, ordered by time. Empty if no frame could be decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioFacts:
    """The audio stream that is rendered. `VideoFacts` describes the fields that have no description here."""

    index: int
    codec: str
    claimed_end: float | None = None
    reading: Reading = Reading()
    heard: tuple[tuple[float, float], ...] = ()
    """Start and end of each time span of the kept part that has sound, in seconds."""
    decodable: bool = True
    """Whether one of the decoders for the codec accepts the headers of the stream."""
    end: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """Everything that the probe finds in an upload."""

    container: Container | None = None
    """Container of the upload. None if the container is not accepted."""
    state: Literal["readable", "unreadable", "cut_off"] = "readable"
    """Whether the file could be read. `cut_off` means that the index at the end of the file is missing."""
    claimed_end: float | None = None
    """End of the file according to its headers, in seconds. None if the headers give no end."""
    whole: bool = False
    """Whether the structure of the file proves that it is complete, even if its headers claim a longer duration."""
    jumps: tuple[float, ...] = ()
    """Times at which the timestamps jump, in seconds."""
    other_recording_at: float | None = None
    """The file may be two recordings with different streams, one after the other. This is the time at which the second
    one begins, in seconds. None if the file has only one recording."""
    video: VideoFacts | None = None
    audio: AudioFacts | None = None
    has_cover: bool = False
    """Whether the file has a cover picture. A cover picture does not count as a video stream."""
