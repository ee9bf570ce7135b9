"""Check that a finished file has the output format and the planned length."""

from dataclasses import dataclass

from anb_core.domain.output_format import AUDIO_PACKET_SAMPLES, FPS, HEIGHT, SAMPLE_RATE, WIDTH


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFacts:
    """Facts that the verification found in a finished file. Codecs, formats and color matrices have ffmpeg's names."""

    container: str
    index_first: bool
    """Whether the file has its index before its media data. A player can then start during the download."""
    video_codec: str
    pixel_format: str
    color: str
    """Color matrix of the video."""
    width: int
    height: int
    """Width and height of the picture in pixels."""
    frames: int
    """Number of video frames."""
    uneven_frames: int
    """Number of frames that do not start exactly 1/30 s after the previous frame, or are stored in the wrong order."""
    video_begin: float
    video_end: float
    """Start of the first video frame and end of the last video frame, in seconds."""
    unlike_parts: int
    """Number of parts (intro, main part, outro) whose codec headers differ from the headers of the joined file.
    A joined file has only one set of codec headers."""
    undecodable_parts: int
    """Number of parts (intro, main part, outro) that can't be decoded by themselves.
    A part must begin at the planned time with a keyframe."""
    audio_codec: str
    sample_rate: int
    """Audio samples per second."""
    channels: int
    audio_gaps: int
    """Number of audio packets that do not start exactly at the end of the previous packet."""
    audio_begin: float
    audio_end: float
    """Start of the first audio packet and end of the last audio packet, in seconds."""


def find_flaws(output: OutputFacts, *, frames: int) -> list[str]:
    """Return one sentence for each fault of a finished file. `frames` is the planned number of frames.

    This check is necessary, because ffmpeg reports no error when it joins parts that do not fit together.
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
    # `tick` is the tolerance for rounded timestamps. `packet` is the duration of one AAC packet.
    # The first AAC packet contains only the encoder's delay and is not played.
    tick, packet = 0.001, AUDIO_PACKET_SAMPLES / SAMPLE_RATE
    times = {
        "video_begin": (0.0, tick),
        "video_end": (duration, tick),
        "audio_begin": (0.0, packet + tick),
        "audio_end": (duration, packet + tick),
    }
    for name, (value, tolerance) in times.items():
        if abs(getattr(output, name) - value) > tolerance:
            flaws.append(f"{name} is {getattr(output, name):.3f} s, not {value:.3f} s")
    return flaws
