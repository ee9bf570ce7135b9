"""An examination of a finished video that shares no code with the worker that made it.

PyAV reads, `judge` compares, and is pure.
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

CARD_FRAMES = 90
"""The project's own intro and outro are three seconds long each."""

LONGEST_MAIN = 30.0
"""Seconds of the upload that are kept at most."""

SOUND_TOLERANCE = 0.040
"""Sound that is further from its picture is noticed."""

SOUND_SEARCH = 0.5
"""Seconds around the expected moment in which the sound is looked for."""

SOUND_RATE = 8_000
SOUND_SECONDS = 10.0
RECOGNISED = 0.5
"""A correlation below this is of another sound, or of none."""

SILENCE = 0.001
"""What is quieter than this on average (60 dB below full scale) is nothing to go by."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is in a finished file. Times in seconds; `even`: every frame comes 1/30 s after the one before."""

    index_first: bool
    video_codec: str
    pixel_format: str
    width: int
    height: int
    frames: int
    even: bool
    video_end: float
    audio_codec: str
    sample_rate: int
    channels: int
    audio_end: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What should have come out, in frames."""

    main: int
    intro: int = CARD_FRAMES
    outro: int = CARD_FRAMES

    @classmethod
    def of(cls, frames: int) -> "Plan":
        """The plan of a video with so many frames in all, as the API tells of it."""
        return cls(main=frames - 2 * CARD_FRAMES)

    @property
    def frames(self) -> int:
        """All of them."""
        return self.intro + self.main + self.outro


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    what: str
    wanted: str
    found: str
    passed: bool


def judge(facts: Facts, plan: Plan, source_seconds: float, sound_shift: float | None) -> list[Check]:
    """Compare what is there with what should be. `sound_shift` is what the function says."""
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
        _near("duration", facts.video_end, plan.frames / FPS, 0.001),
        _near("main part", plan.main / FPS, main, 1 / FPS),
        _near("end of the sound", facts.audio_end, facts.video_end, AAC_PACKET + 0.001),
        Check("sound after the intro", "in step within 40 ms", _in_step(sound_shift), _is_in_step(sound_shift)),
    ]


def examine(path: Path, on_frame: Callable[[int, av.VideoFrame], None] = lambda _number, _frame: None) -> Facts:
    """Read a finished file from its first frame to its last; `on_frame` gets each with its number."""
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
    """When the upload's last stream ends, in seconds from when its first one begins."""
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
    """How much later than at `expected` the upload's sound begins, in seconds: infinity if it is not there.

    None if the upload has no sound to go by: none at all, less than half a second, or silence.
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
    return best / SOUND_RATE - min(SOUND_SEARCH, expected) if match[best] >= RECOGNISED else math.inf


def _sound(path: Path, start: float, seconds: float) -> np.ndarray:
    """Some of a file's sound, as one channel at a low rate."""
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
        # What begins late begins with silence, so that places in it are moments of the file.
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
    """Whether the box `moov` comes before `mdat`: then a player can begin before it has all of the file."""
    with path.open("rb") as file:
        while len(head := file.read(8)) == 8:  # noqa: PLR2004 - a box begins with its size and name, four bytes each
            size, name = int.from_bytes(head[:4]), head[4:]
            if name in {b"moov", b"mdat"}:
                return name == b"moov"
            long = size == 1
            size = int.from_bytes(file.read(8)) if long else size
            file.seek(size - (16 if long else 8), 1)
    return False


def _same(what: str, wanted: str, found: str) -> Check:
    return Check(what, wanted, found, wanted == found)


def _near(what: str, found: float, wanted: float, tolerance: float) -> Check:
    return Check(what, f"{wanted:.3f} s", f"{found:.3f} s", abs(found - wanted) <= tolerance)


def _in_step(shift: float | None) -> str:
    match shift:
        case None:
            return "nothing to tell by"
        case math.inf:
            return "not the upload's sound"
        case _:
            return f"in step within {abs(shift) * 1000:.0f} ms"


def _is_in_step(shift: float | None) -> bool:
    return shift is None or abs(shift) <= SOUND_TOLERANCE
