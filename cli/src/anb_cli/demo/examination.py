"""Verifies a finished video for the demo, without any code of the worker.

`examine` measures the file with PyAV. The pure function `judge` compares the measured facts with the plan.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import av.video.frame
import numpy as np

WIDTH, HEIGHT, FPS, SAMPLE_RATE = 1280, 720, 30, 48_000
AAC_PACKET = 1024 / SAMPLE_RATE
"""Duration of one AAC packet, in seconds."""

CARD_FRAMES = 90
"""Number of frames of the project's own intro (three seconds). The outro has the same number of frames."""

LONGEST_MAIN = 30.0
"""Maximum length of the main part, in seconds. The worker cuts longer uploads."""

SOUND_TOLERANCE = 0.040
"""Maximum shift between sound and picture, in seconds. People notice a larger shift."""

SOUND_SEARCH = 0.5
"""The search for the upload's sound covers this many seconds before and after the expected time."""

SOUND_RATE = 8_000
"""Sample rate for the comparison of sounds, in Hz."""

SOUND_SECONDS = 10.0
"""Length of the compared sound, in seconds."""

MIN_CORRELATION = 0.5
"""Minimum correlation of two sounds that count as the same sound."""

SILENCE = 0.001
"""Maximum RMS level of silence: 60 dB below full scale."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The measured properties of a finished file."""

    index_first: bool
    """Whether the index (box `moov`) comes before the media data."""
    video_codec: str
    pixel_format: str
    width: int
    height: int
    frames: int
    even: bool
    """Whether each frame starts 1/30 s after the previous frame."""
    video_end: float
    """End of the last frame, in seconds."""
    audio_codec: str
    sample_rate: int
    """Sample rate of the sound, in Hz."""
    channels: int
    audio_end: float
    """End of the last audio packet, in seconds."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The expected number of frames of main part, intro and outro."""

    main: int
    intro: int = CARD_FRAMES
    outro: int = CARD_FRAMES

    @classmethod
    def of(cls, frames: int) -> "Plan":
        """Return the plan of a video. `frames` is the total number of frames that the API reports."""
        return cls(main=frames - 2 * CARD_FRAMES)

    @property
    def frames(self) -> int:
        """Total number of frames."""
        return self.intro + self.main + self.outro


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of one comparison. `wanted` and `found` are text for people."""

    what: str
    wanted: str
    found: str
    passed: bool


def judge(facts: Facts, plan: Plan, source_seconds: float, sound_shift: float | None) -> list[Comparison]:
    """Compare the facts of the result with the plan and with the upload.

    `source_seconds` is the length of the upload. `sound_shift` is the delay of the sound, in seconds.
    `sound_shift` is infinity if the sound was not found, and None if the sound can't be compared.
    """
    main = min(LONGEST_MAIN, source_seconds)
    parts = f"{plan.intro} + {plan.main} + {plan.outro}"
    return [
        _same("picture", f"{WIDTH} x {HEIGHT}", f"{facts.width} x {facts.height}"),
        _same("frames a second", f"{FPS}, even", f"{FPS}, even" if facts.even else "uneven"),
        _same("picture codec", "h264 yuv420p", f"{facts.video_codec} {facts.pixel_format}"),
        _same(
            "sound codec",
            f"aac, {SAMPLE_RATE} Hz, 2 channels",
            f"{facts.audio_codec}, {facts.sample_rate} Hz, {facts.channels} channels",
        ),
        _same("faststart", "index first", "index first" if facts.index_first else "index last"),
        _same("frames", f"{plan.frames} ({parts})", f"{facts.frames} ({parts})"),
        _close("duration", facts.video_end, plan.frames / FPS, 0.001),
        _close("main part", plan.main / FPS, main, 1 / FPS),
        _close("end of the sound", facts.audio_end, facts.video_end, AAC_PACKET + 0.001),
        Comparison("sound after the intro", "in step within 40 ms", _in_step(sound_shift), _is_in_step(sound_shift)),
    ]


def examine(path: Path, on_frame: Callable[[int, av.VideoFrame], None] = lambda _number, _frame: None) -> Facts:
    """Decode a finished file and return its facts. Calls `on_frame` with the index and the picture of each frame."""
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        video.thread_type = "AUTO"
        ticks: list[int] = []
        for number, frame in enumerate(container.decode(video)):
            ticks.append(frame.pts or 0)
            on_frame(number, frame)
        step = (1 / FPS) / float(video.time_base or 1)
        even = all(abs(later - sooner - step) <= 1 for sooner, later in pairwise(ticks))
        context = video.codec_context
        sound = audio.codec_context
        return Facts(
            index_first=_index_first(path),
            video_codec=context.name,
            pixel_format=str(context.pix_fmt),
            width=context.width,
            height=context.height,
            frames=len(ticks),
            even=even,
            video_end=float(ticks[-1] * (video.time_base or 1)) + 1 / FPS if ticks else 0.0,
            audio_codec=sound.name,
            sample_rate=sound.sample_rate,
            channels=sound.channels,
            audio_end=_audio_end(path),
        )


def source_length(path: Path) -> float:
    """Return the length of the upload in seconds, from the start of its first stream to the end of its last stream."""
    with av.open(str(path)) as container:
        ends, begins = [0.0], []
        streams = [*container.streams.video[:1], *container.streams.audio[:1]]
        for packet in container.demux(streams):
            if packet.pts is None or packet.time_base is None:
                continue
            begins.append(float(packet.pts * packet.time_base))
            ends.append(float((packet.pts + (packet.duration or 0)) * packet.time_base))
        return max(ends) - max(0.0, min(begins, default=0.0))


def sound_shift(source: Path, result: Path, expected: float) -> float | None:
    """Find the upload's sound in the result. Return the time at which it begins minus `expected`, in seconds.

    Returns infinity if the upload's sound is not found.
    Returns None if the upload's sound is missing, silent or shorter than half a second.
    """
    wanted = _sound(source, 0.0, SOUND_SECONDS)
    if len(wanted) < SOUND_RATE // 2 or float(np.sqrt(np.mean(np.square(wanted)))) < SILENCE:
        return None
    heard = _sound(result, expected - SOUND_SEARCH, SOUND_SECONDS + 2 * SOUND_SEARCH)
    if len(heard) <= len(wanted):
        return math.inf
    size = len(heard) + len(wanted)
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(wanted, size))
    agreement = np.fft.irfft(spectrum, size)[: len(heard) - len(wanted) + 1]
    energy = np.concatenate([[0.0], np.cumsum(np.square(heard, dtype=float))])
    loudness = np.sqrt(np.maximum(0.0, energy[len(wanted) :] - energy[: -len(wanted)])) * np.linalg.norm(wanted)
    match = agreement / np.maximum(1e-6, loudness)
    best = int(np.argmax(match))
    return best / SOUND_RATE - min(SOUND_SEARCH, expected) if match[best] >= MIN_CORRELATION else math.inf


def _sound(path: Path, start: float, seconds: float) -> np.ndarray:
    """Return a time range of a file's sound as mono samples at SOUND_RATE."""
    start = max(0.0, start)
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return np.zeros(0)
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SOUND_RATE)
        pieces: list[np.ndarray] = []
        begin: float | None = None
        for frame in container.decode(container.streams.audio[0]):
            begin = float(frame.time or 0.0) if begin is None else begin
            pieces.extend(piece.to_ndarray().ravel() for piece in resampler.resample(frame))
            if sum(map(len, pieces)) > (start + seconds - begin) * SOUND_RATE:
                break
        if not pieces or begin is None:
            return np.zeros(0)
        first = round((start - begin) * SOUND_RATE)
        samples = np.concatenate(pieces)
        # Add silence before a sound that begins late, so that the index of each sample gives its time in the file.
        samples = np.concatenate([np.zeros(max(0, -first)), samples])[max(0, first) :]
        return samples[: round(seconds * SOUND_RATE)]


def _audio_end(path: Path) -> float:
    with av.open(str(path)) as container:
        ends = [
            float((packet.pts + (packet.duration or 0)) * packet.time_base)
            for packet in container.demux(container.streams.audio[0])
            if packet.pts is not None and packet.time_base is not None
        ]
        return max(ends, default=0.0)


def _index_first(path: Path) -> bool:
    """Whether the box `moov` precedes the box `mdat`, so that players can start before the download is complete."""
    with path.open("rb") as file:
        while len(head := file.read(8)) == 8:  # noqa: PLR2004 - a box starts with its size and name, four bytes each
            size, name = int.from_bytes(head[:4]), head[4:]
            if name in {b"moov", b"mdat"}:
                return name == b"moov"
            long = size == 1
            size = int.from_bytes(file.read(8)) if long else size
            file.seek(size - (16 if long else 8), 1)
    return False


def _same(what: str, wanted: str, found: str) -> Comparison:
    return Comparison(what, wanted, found, wanted == found)


def _close(what: str, found: float, wanted: float, tolerance: float) -> Comparison:
    return Comparison(what, f"{wanted:.3f} s", f"{found:.3f} s", abs(found - wanted) <= tolerance)


def _in_step(shift: float | None) -> str:
    match shift:
        case None:
            return "no sound to compare"
        case math.inf:
            return "not the upload's sound"
        case _:
            return f"in step within {abs(shift) * 1000:.0f} ms"


def _is_in_step(shift: float | None) -> bool:
    return shift is None or abs(shift) <= SOUND_TOLERANCE
