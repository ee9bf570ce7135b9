"""What is to be rendered, decided from what the probe found and what the person asked for; and whether what came out is
that.

All positions are seconds from the beginning of the upload as a player counts them (the first moment of its earliest
stream is 0).
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from anb_core.domain.color import ColorPlan, Colors, plan_colors
from anb_core.domain.errors import BadInput
from anb_core.domain.formats import (
    ACCEPTED,
    ALPHA_DECODERS,
    AUDIO_CODECS,
    INTERLACED_CODECS,
    VIDEO_CODECS,
    Container,
)

if TYPE_CHECKING:
    # The probe's child reads these facts too, and starts in half the time without pydantic.
    from anb_core.domain.edit import EditSpec, Trim

WIDTH, HEIGHT = 1280, 720
FPS = 30
SAMPLE_RATE = 48_000
SAMPLES_A_FRAME = SAMPLE_RATE // FPS
"""Whole on purpose: sound and picture of a part end at exactly the same moment."""

AUDIO_PACKET_SAMPLES = 1024
"""How AAC comes; so picture and sound end together to within one packet."""

_MOST_LOOKS = 64
"""How many changes of the picture are followed; each costs a branch of the filter graph."""

SLACK_SECONDS, SLACK_SHARE = 0.5, 0.05
"""How much less may be there than a file claims: the larger of half a second and a twentieth. Honest files round, and
end oddly.
"""


UNNOTICED_SECONDS = 0.35
"""How much of a stream may be lost at one place, in decoding; half a second never goes unnoticed, as times are matched
to within MATCH_SECONDS.
"""

MATCH_SECONDS = 0.05

MOST_JUMPS = 50
"""More joints than that has no recording."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Of a stream whose clock jumps: from packet number `packet` on, the clock's `since` is in fact `place`. In ticks
    of that clock.
    """

    packet: int
    since: int
    place: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How ffmpeg reads a stream so that nothing of the kept part is missing. Times are seconds of the file's own clock.

    `origin`: what is 0 for a player; `seek`: where to begin, None for at the beginning; `stretches`: none where the
    clock is right; `skip`: how many packets are not needed.
    """

    origin: float = 0.0
    seek: float | None = None
    stretches: tuple[Stretch, ...] = ()
    skip: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How the pictures are to be taken from `since` (seconds of the file) on: their size in pixels, upright, their
    colors, and the shape of a pixel, its width by its height; None: as ffmpeg takes it, which is for the whole file.
    """

    since: float = 0.0
    width: int = 0
    height: int = 0
    pixel_format: str = ""
    pixel_aspect: float | None = None
    colors: Colors = field(default_factory=Colors)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFacts:
    """The video stream that is rendered. What was seen is of the kept part."""

    index: int
    codec: str
    width: int
    height: int
    claimed_end: float | None = None
    """Where the file says that this stream ends; None where it says nothing of single streams."""
    reading: Reading = Reading()
    packets: int = 0
    shown: tuple[float, ...] = ()
    """When pictures appear that can be decoded if they are whole; the first is on the screen when the part begins."""
    end: float | None = None
    """When the last picture that is there ends; the end of the kept part where pictures go on. None where there is
    none.
    """
    looks: tuple[Look, ...] = ()
    """How the pictures look, and when that changes; none where not one picture could be decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioFacts:
    """The audio stream that is rendered; `claimed_end` and `end` as of VideoFacts."""

    index: int
    codec: str
    claimed_end: float | None = None
    reading: Reading = Reading()
    heard: tuple[tuple[float, float], ...] = ()
    """From when to when there is sound."""
    decodable: bool = True
    """Whether a decoder takes it, as far as its headers tell."""
    end: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """What the probe found in an upload."""

    container: Container | None = None
    """None: not of an accepted kind."""
    state: Literal["readable", "unreadable", "cut_off"] = "readable"
    """`cut_off`: the index, which comes last in such a file, is missing."""
    claimed_end: float | None = None
    whole: bool = False
    """Whether the structure shows that nothing was cut off, whatever the file claims."""
    jumps: tuple[float, ...] = ()
    """Where the clock jumps."""
    elsewhere: float | None = None
    """When the picture goes on in another stream, if it does."""
    video: VideoFacts | None = None
    audio: AudioFacts | None = None
    has_cover: bool = False
    """Whether there is a still picture that goes with the sound."""


@dataclass(frozen=True, slots=True)
class InputLimits:
    """What is accepted. `max_seconds`: an upload's length; `max_pixels`: of one picture, 4096 x 4096 unless told."""

    max_seconds: float = 4 * 3600.0
    max_pixels: int = 4096 * 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLook:
    """What is done with the pictures from a frame of the kept part's output on; the rest as of Look."""

    first_frame: int = 0
    width: int
    height: int
    pixel_format: str = ""
    pixel_aspect: float | None = None
    color: ColorPlan = field(default_factory=ColorPlan)


@dataclass(frozen=True, slots=True)
class RenderPlan:
    """What is to be rendered: the source's part from `start` (seconds) on, and how many frames of the output each part
    has.

    `decoder` of the picture is None where ffmpeg's own choice is right. `looks` has at least one, from frame 0 on. A
    card that is left out has 0 frames. `audio_index` is None where there is no sound. `picture_packets`, `shown` and
    `heard` (seconds, from the kept part's beginning) are what a complete decoding has to come to.
    """

    container: Container
    video_index: int
    audio_index: int | None
    picture: Reading
    sound: Reading
    decoder: str | None
    fields: bool
    """Whether pictures may be interlaced."""
    looks: tuple[PlannedLook, ...]
    start: float
    intro_frames: int
    main_frames: int
    outro_frames: int
    watermark: bool
    picture_packets: int
    shown: tuple[float, ...]
    heard: tuple[tuple[float, float], ...]

    @property
    def frames(self) -> int:
        """How many frames the whole output has."""
        return self.intro_frames + self.main_frames + self.outro_frames

    @property
    def duration(self) -> float:
        """The whole output's, in seconds."""
        return self.frames / FPS


def plan_render(
    source: SourceFacts, edit: "EditSpec", limits: InputLimits, *, intro_frames: int, outro_frames: int
) -> RenderPlan:
    """Decide what is rendered.

    Raises:
        BadInput: not_a_video, corrupt, truncated, no_video_stream, audio_only, unsupported_codec, unsupported_color,
            unsupported_join, too_long, too_many_pixels, zero_duration, trim_beyond_end.
    """
    container, video = _check_file(source), _check_video(source, limits)
    _check_sound(source)
    end = _check_window(source, video, edit.trim)
    _check_joints(source, edit.trim)
    start, audio = edit.trim.start, source.audio
    heard = () if audio is None else tuple((begin - start, until - start) for begin, until in audio.heard)
    # Sound that goes on after the last picture is kept, as players do: that picture stays.
    main_frames = max(1, round(min(edit.trim.length, end - start) * FPS))
    looks = _plan_looks(video, start, main_frames)
    return RenderPlan(
        container=container,
        video_index=video.index,
        audio_index=audio.index if audio is not None and heard else None,
        picture=video.reading,
        sound=audio.reading if audio is not None else Reading(),
        decoder=ALPHA_DECODERS.get(video.codec) if any(look.color.alpha for look in looks) else None,
        fields=video.codec in INTERLACED_CODECS,
        looks=looks,
        start=start,
        intro_frames=intro_frames if edit.intro.enabled else 0,
        main_frames=main_frames,
        outro_frames=outro_frames if edit.outro.enabled else 0,
        watermark=edit.watermark.enabled,
        picture_packets=video.packets,
        shown=tuple(moment - start for moment in video.shown),
        heard=heard,
    )


def check_pictures(plan: RenderPlan, decoded: Sequence[float]) -> None:
    """Judge how much of the kept part's picture could be decoded. `decoded`: when each frame appears, in seconds from
    the part's beginning.

    ffmpeg ends well whatever it had to leave out, and the output has its full length all the same.

    Raises:
        BadInput: corrupt.
    """
    until = plan.main_frames / FPS
    there = sorted(decoded)
    lost = [(0.0, until)] if not there else []
    for moment, following in pairwise((*plan.shown, until)):
        nearest = bisect_left(there, moment - MATCH_SECONDS)
        if nearest == len(there) or there[nearest] > moment + MATCH_SECONDS:
            lost.append((max(0.0, moment), following))
    _check_lost(lost, "picture", least=UNNOTICED_SECONDS if there else 0.0)
    # A frame may need two packets (its two fields), never more.
    if len(decoded) * 2 < plan.picture_packets:
        raise BadInput(
            "corrupt", f"The picture is damaged: of {plan.picture_packets} frames only {len(decoded)} can be decoded."
        )


def check_sound(plan: RenderPlan, decoded: Sequence[tuple[float, float]]) -> None:
    """Judge how much of the kept part's sound could be decoded. `decoded`: from when to when, in seconds from the
    part's beginning.

    Raises:
        BadInput: corrupt.
    """
    lost = []
    for begin, end in plan.heard:
        come_to = begin
        for since, until in sorted(decoded):
            if since > come_to:
                lost.append((come_to, min(since, end)))
            come_to = max(come_to, until)
        lost.append((come_to, end))
    _check_lost(lost, "sound", least=UNNOTICED_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFacts:
    """What was found in a finished file. Ends in seconds."""

    container: str
    index_first: bool
    """Whether it can be played before the whole of it has arrived."""
    video_codec: str
    pixel_format: str
    color: str
    width: int
    height: int
    frames: int
    uneven_frames: int
    """How many frames come at another distance from the one before than 1/30 s."""
    video_begin: float
    video_end: float
    unlike_parts: int
    """Of intro, main and outro: how many have other codec headers than the whole, which only keeps one set of them."""
    undecodable_parts: int
    """How many do not begin in time with a frame that players can seek to and that can be decoded by itself."""
    audio_codec: str
    sample_rate: int
    channels: int
    audio_gaps: int
    """How many packets come at another distance from the one before than its samples."""
    audio_begin: float
    audio_end: float


def find_flaws(plan: RenderPlan, output: OutputFacts) -> list[str]:
    """In what the output is not what was planned; a join of parts that do not fit goes wrong without an error."""
    wanted = {
        "container": "mp4",
        "index_first": True,
        "video_codec": "h264",
        "pixel_format": "yuv420p",
        "color": "bt709",
        "width": WIDTH,
        "height": HEIGHT,
        "frames": plan.frames,
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
        "video_end": (plan.duration, tick),
        "audio_begin": (0.0, packet + tick),
        "audio_end": (plan.duration, packet + tick),
    }
    for name, (value, tolerance) in moments.items():
        if abs(getattr(output, name) - value) > tolerance:
            flaws.append(f"{name} is {getattr(output, name):.3f} s, not {value:.3f} s")
    return flaws


def _check_file(source: SourceFacts) -> Container:
    if source.container is None:
        raise BadInput("not_a_video", f"The file is no video of a kind that is accepted: {ACCEPTED}.")
    if source.state == "cut_off":
        raise BadInput(
            "truncated", "The file is cut off: its end, where the index is, is missing. Record or export it again."
        )
    if source.state == "unreadable":
        raise BadInput(
            "corrupt", f"The file begins like {source.container.value.upper()} but can't be read any further."
        )
    return source.container


def _check_video(source: SourceFacts, limits: InputLimits) -> VideoFacts:
    video = source.video
    if video is None:
        if source.audio is not None or source.has_cover:
            raise BadInput("audio_only", "The file has sound but no moving picture.")
        raise BadInput("no_video_stream", "The file holds no video stream.")
    if video.codec not in VIDEO_CODECS:
        raise BadInput(
            "unsupported_codec", f"The picture is coded in {video.codec}, which is not supported: export it as H.264."
        )
    claimed = max(source.claimed_end or 0, video.claimed_end or 0)
    if claimed > limits.max_seconds:
        longest = _clock(limits.max_seconds)
        raise BadInput("too_long", f"The video says it is {_clock(claimed)} long; at most {longest} are accepted.")
    for width, height in [(video.width, video.height), *((look.width, look.height) for look in video.looks)]:
        if width * height > limits.max_pixels:
            most = f"{limits.max_pixels / 1e6:.1f} million pixels"
            raise BadInput("too_many_pixels", f"The picture is {width} x {height}; at most {most} are accepted.")
    return video


def _check_sound(source: SourceFacts) -> None:
    if source.audio is not None and source.audio.codec not in AUDIO_CODECS:
        codec = source.audio.codec
        raise BadInput("unsupported_codec", f"The sound is coded in {codec}, which is not supported: export it as AAC.")
    if source.audio is not None and not source.audio.decodable:
        codec = source.audio.codec
        raise BadInput("unsupported_codec", f"The sound is a kind of {codec} that can't be decoded: export it as AAC.")


def _check_window(source: SourceFacts, video: VideoFacts, trim: "Trim") -> float:
    """When the last of the streams ends, as far as it was read.

    Only what is kept has to be whole: an upload that was cut off later gives the same output as the whole one.
    """
    sound_end = (source.audio.end if source.audio is not None else None) or 0.0
    end = max(video.end or 0.0, sound_end)
    if video.end is None or end <= trim.start:
        # A claim of the whole file may be the sound's, unless there is no picture at all.
        claimed = video.claimed_end or (source.claimed_end if video.end is None else None) or 0.0
        if not source.whole:
            _check_claim(claimed, video.end or 0.0, trim)
        if trim.start == 0:
            raise BadInput("zero_duration", "The video has no length: there is no picture in it.")
        end = max(claimed, end)
        where = f"the video ends at {end:.1f} s" if end else "the video ends before that"
        raise BadInput(
            "trim_beyond_end", f"The kept part begins at {trim.start:.1f} s, but {where}: choose an earlier beginning."
        )
    if not video.looks:
        raise BadInput("corrupt", "The picture is damaged: nothing of the kept part can be decoded.")
    if not source.whole:
        _check_claims(source, video, end, trim)
    return end


def _check_claims(source: SourceFacts, video: VideoFacts, end: float, trim: "Trim") -> None:
    """Of each stream that is used, or, where the file does not tell them apart, of the longest."""
    claims = [(video.claimed_end, video.end)]
    if source.audio is not None:
        claims.append((source.audio.claimed_end, source.audio.end))
    if video.claimed_end is None:
        claims = [(source.claimed_end, end)]
    for claimed, seen in claims:
        if claimed is not None:
            _check_claim(claimed, seen or 0.0, trim)


def _check_joints(source: SourceFacts, trim: "Trim") -> None:
    """What joined recordings have in common can be put right, what they have not can't."""
    until = trim.start + trim.length
    if source.elsewhere is not None and source.elsewhere < until:
        raise BadInput(
            "unsupported_join",
            f"At {source.elsewhere:.1f} s another recording begins, with other streams: send each by itself.",
        )
    jumps = [moment for moment in source.jumps if moment < until]
    if len(jumps) > MOST_JUMPS:
        raise BadInput(
            "unsupported_join",
            f"The clock of the file jumps {len(jumps)} times, first at {jumps[0]:.1f} s: export it again.",
        )


def _check_lost(lost: Iterable[tuple[float, float]], what: str, *, least: float) -> None:
    stretches: list[tuple[float, float]] = []
    for begin, end in lost:
        # What follows at once is a part of the same.
        since = stretches.pop()[0] if stretches and stretches[-1][1] == begin else begin
        stretches.append((since, end))
    for since, until in stretches:
        if until - since > least:
            raise BadInput(
                "corrupt",
                f"The {what} is damaged: from {since:.1f} to {until:.1f} s nothing of the kept part can be decoded.",
            )


def _plan_looks(video: VideoFacts, start: float, frames: int) -> tuple[PlannedLook, ...]:
    """How the output's frames look; a change that is no different for us is left out."""
    looks: list[PlannedLook] = []
    for look in video.looks:
        planned = PlannedLook(
            first_frame=max(0, round((look.since - start) * FPS)) if looks else 0,
            width=look.width,
            height=look.height,
            pixel_format=look.pixel_format,
            pixel_aspect=look.pixel_aspect,
            color=plan_colors(look.colors, look.width, look.height),
        )
        if looks and planned.first_frame == looks[-1].first_frame:  # the one before is over before it is shown
            looks.pop()
        different = not looks or _treatment(looks[-1], video.codec) != _treatment(planned, video.codec)
        if different and planned.first_frame < frames and len(looks) < _MOST_LOOKS:
            looks.append(planned)
    return tuple(looks)


def _treatment(look: PlannedLook, codec: str) -> tuple[object, ...]:
    """What is to be done with the pictures. Their form matters only to what compares several pixels."""
    form = (look.width, look.height, look.pixel_format) if codec in INTERLACED_CODECS or look.color.alpha else None
    return look.pixel_aspect, look.color, form


def _check_claim(claimed: float, seen: float, trim: "Trim") -> None:
    if _is_short(min(claimed, trim.start + trim.length), seen, since=trim.start):
        raise BadInput(
            "truncated",
            f"The file is cut off: it says that the video is {claimed:.1f} s long, but it ends after {seen:.1f} s.",
        )


def _is_short(expected: float, seen: float, *, since: float) -> bool:
    return expected - max(seen, since) > max(SLACK_SECONDS, SLACK_SHARE * (expected - since))


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"
