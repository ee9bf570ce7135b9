"""What the probe found in an upload.

All positions are seconds from the beginning of the upload as a player counts them: the first moment of its earliest
stream is 0.
"""

from dataclasses import dataclass, field
from typing import Literal

from anb_core.domain.color import Colors
from anb_core.domain.formats import Container


@dataclass(frozen=True, slots=True)
class Stretch:
    """Packets of one stream that share one clock, in a file whose clock jumps. Times are ticks of that clock."""

    packet: int
    """The number of its first packet within the stream."""
    since: int
    """What the clock says at that packet."""
    place: int
    """Where that packet belongs on the time line of the whole file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How ffmpeg has to read a stream so that nothing of the kept part is missing. Times are seconds of the file's own
    clock.
    """

    origin: float = 0.0
    """What the clock says where a player counts 0."""
    seek: float | None = None
    """Where to begin reading. None means at the beginning of the file."""
    stretches: tuple[Stretch, ...] = ()
    """How to correct a clock that jumps. Empty where the clock is right."""
    skip: int = 0
    """How many packets at the beginning are not needed. Counts only where there are stretches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How the pictures of a stream have to be shown, from one moment on."""

    since: float = 0.0
    """Seconds of the upload."""
    width: int = 0
    height: int = 0
    """Pixels, after rotation."""
    pixel_format: str = ""
    """ffmpeg's name."""
    pixel_aspect: float | None = None
    """The width of a pixel by its height. None means what ffmpeg finds, which then holds for the whole file."""
    colors: Colors = field(default_factory=Colors)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFacts:
    """The video stream that is rendered. `reading` and all fields after it describe the kept part only."""

    index: int
    """The number of the stream within the file."""
    codec: str
    """ffmpeg's name."""
    width: int
    height: int
    """Pixels, as the file's headers say."""
    claimed_end: float | None = None
    """Where the file says that this stream ends, in seconds. None where it says nothing about single streams."""
    reading: Reading = Reading()
    packets: int = 0
    """How many packets hold pictures that can be decoded if they are undamaged."""
    shown: tuple[float, ...] = ()
    """When each of those pictures appears, in seconds. The first one is on the screen when the kept part begins."""
    end: float | None = None
    """When the last picture ends, in seconds. The end of the kept part where more pictures follow it. None where there
    is no picture.
    """
    looks: tuple[Look, ...] = ()
    """How the pictures look, in order of time. Empty where no picture could be decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioFacts:
    """The audio stream that is rendered. Fields of the same names mean the same as in VideoFacts."""

    index: int
    codec: str
    claimed_end: float | None = None
    reading: Reading = Reading()
    heard: tuple[tuple[float, float], ...] = ()
    """The spans of the kept part that have sound: begin and end, in seconds."""
    decodable: bool = True
    """Whether a decoder accepts the headers of the stream."""
    end: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """What the probe found in an upload."""

    container: Container | None = None
    """None where the file is of no accepted kind."""
    state: Literal["readable", "unreadable", "cut_off"] = "readable"
    """`cut_off`: the index, which comes last in such a file, is missing."""
    claimed_end: float | None = None
    """Where the file says that it ends, in seconds."""
    whole: bool = False
    """Whether the structure of the file shows that nothing was cut off, whatever length the file claims."""
    jumps: tuple[float, ...] = ()
    """Where the clock jumps, in seconds."""
    other_recording_at: float | None = None
    """When another recording, with streams of its own, begins in the file, in seconds. None where there is none."""
    video: VideoFacts | None = None
    audio: AudioFacts | None = None
    has_cover: bool = False
    """Whether there is a still picture that goes with the sound."""
