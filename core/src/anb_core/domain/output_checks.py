"""Whether a finished file is what was planned."""

from dataclasses import dataclass

from anb_core.domain.output_format import AUDIO_PACKET_SAMPLES, FPS, HEIGHT, SAMPLE_RATE, WIDTH


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFacts:
    """What the verification found in a finished file."""

    container: str
    """ffmpeg's name, as are the names of the codecs, of the pixel format and of the colors."""
    index_first: bool
    """Whether the file can be played before all of it has arrived."""
    video_codec: str
    pixel_format: str
    color: str
    """The matrix by which colors are coded."""
    width: int
    height: int
    """Pixels."""
    frames: int
    """How many frames the picture has."""
    uneven_frames: int
    """How many frames do not follow the one before by exactly 1/30 s, or are stored out of order."""
    video_begin: float
    video_end: float
    """When the first frame appears and the last one ends, in seconds."""
    unlike_parts: int
    """How many of intro, main part and outro have other codec headers than the whole file, which keeps only one set."""
    undecodable_parts: int
    """How many of them do not begin, at the right time, with a frame that players can seek to and decode by itself."""
    audio_codec: str
    sample_rate: int
    """Samples per second."""
    channels: int
    audio_gaps: int
    """How many packets of sound do not follow the one before by exactly the length of its samples."""
    audio_begin: float
    audio_end: float
    """When the first packet of sound begins and the last one ends, in seconds."""


def find_flaws(output: OutputFacts, *, frames: int) -> list[str]:
    """List what is wrong with a finished file that was planned to have so many frames. Empty where all is right.

    ffmpeg reports no error where it joins parts that do not fit together.
    """
    duration = frames / FPS
    wanted = {
        "container": "mp4",
        "index_first": True,
        "video_codec": "h264",
        "pixel_format": "yuv420p",
        "color": "bt709",
        "width": WIDTH,
        "height": HEIGHT,
        "frames": frames,
        "uneven_frames": 0,
        "unlike_parts": 0,
        "undecodable_parts": 0,
        "audio_codec": "aac",
        "sample_rate": SAMPLE_RATE,
        "channels": 2,
        "audio_gaps": 0,
    }
    flaws = [
        f"{name} is {getattr(output, name)}, not {value}"
        for name, value in wanted.items()
        if getattr(output, name) != value
    ]
    # Times are rounded to a stream's clock. AAC begins with a packet that only warms the decoder up, and is not played.
    tick, packet = 0.001, AUDIO_PACKET_SAMPLES / SAMPLE_RATE
    moments = {
        "video_begin": (0.0, tick),
        "video_end": (duration, tick),
        "audio_begin": (0.0, packet + tick),
        "audio_end": (duration, packet + tick),
    }
    for name, (value, tolerance) in moments.items():
        if abs(getattr(output, name) - value) > tolerance:
            flaws.append(f"{name} is {getattr(output, name):.3f} s, not {value:.3f} s")
    return flaws
