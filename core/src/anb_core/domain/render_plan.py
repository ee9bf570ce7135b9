"""Decide what is rendered, from the facts that the probe found in an upload and from the requested edit."""

from dataclasses import dataclass, field

from anb_core.domain.color import ColorPlan, plan_colors
from anb_core.domain.edit import EditSpec
from anb_core.domain.formats import ALPHA_DECODERS, INTERLACED_CODECS, Container
from anb_core.domain.input_checks import InputLimits, check_source
from anb_core.domain.output_format import FPS
from anb_core.domain.source_facts import Reading, SourceFacts, VideoFacts

_MAX_LOOKS = 64
"""Maximum number of looks in a plan. Later looks are ignored, because each look needs a branch of the filter graph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLook:
    """How the frames from `first_frame` on are processed. See `Look` for the fields without a description."""

    first_frame: int = 0
    """Number of the first output frame, counted from the beginning of the main part."""
    width: int
    height: int
    pixel_format: str = ""
    pixel_aspect: float | None = None
    color: ColorPlan = field(default_factory=ColorPlan)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderPlan:
    """Everything that the render commands depend on: the facts of an upload and its edit."""

    container: Container
    """Container of the upload."""
    video_index: int
    """Index of the video stream in the upload."""
    audio_index: int | None
    """Index of the audio stream in the upload. None if the kept part has no sound."""
    video_reading: Reading
    audio_reading: Reading
    video_decoder: str | None
    """ffmpeg's name of the video decoder. None if ffmpeg uses its default decoder."""
    may_be_interlaced: bool
    """Whether frames of the upload may be interlaced."""
    looks: tuple[PlannedLook, ...]
    """How the frames of the main part are processed, ordered by time. The first entry starts at frame 0."""
    start: float
    """Start of the kept part, in seconds from the beginning of the upload."""
    intro_frames: int
    main_frames: int
    outro_frames: int
    """Lengths of the three parts, in frames. 0 for an intro or outro that is left out."""
    watermark: bool
    """Whether the main part gets a watermark."""
    picture_packets: int
    """Number of video packets in the kept part."""
    shown: tuple[float, ...]
    """Presentation time of each frame of the kept part, in seconds from the start of the kept part."""
    heard: tuple[tuple[float, float], ...]
    """Start and end of each span with sound, in seconds from the start of the kept part."""

    @property
    def frames(self) -> int:
        """The length of the finished video, in frames."""
        return self.intro_frames + self.main_frames + self.outro_frames

    @property
    def duration(self) -> float:
        """The length of the finished video, in seconds."""
        return self.frames / FPS


def plan_render(
    source: SourceFacts, edit: EditSpec, limits: InputLimits, *, intro_frames: int, outro_frames: int
) -> RenderPlan:
    """Decide what is rendered. `intro_frames` and `outro_frames` are the lengths of the cards in frames.

    The plan leaves out a card that the edit disables.

    Raises:
        BadInput: any code that `check_source` raises, or `unsupported_color`.
    """
    container, video, end = check_source(source, edit.trim, limits)
    start, audio = edit.trim.start, source.audio
    heard = () if audio is None else tuple((begin - start, until - start) for begin, until in audio.heard)
    # Sound after the last frame is kept. As in video players, the last frame is shown until the sound ends.
    main_frames = max(1, round(min(edit.trim.length, end - start) * FPS))
    looks = _plan_looks(video, start, main_frames)
    return RenderPlan(
        container=container,
        video_index=video.index,
        audio_index=audio.index if audio is not None and heard else None,
        video_reading=video.reading,
        audio_reading=audio.reading if audio is not None else Reading(),
        video_decoder=ALPHA_DECODERS.get(video.codec) if any(look.color.alpha for look in looks) else None,
        may_be_interlaced=video.codec in INTERLACED_CODECS,
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


def _plan_looks(video: VideoFacts, start: float, frames: int) -> tuple[PlannedLook, ...]:
    """Plan how the frames are processed. A new look that is processed like the previous look is left out."""
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
        if looks and planned.first_frame == looks[-1].first_frame:  # No output frame has the previous look.
            looks.pop()
        different = not looks or _treatment(looks[-1], video.codec) != _treatment(planned, video.codec)
        if different and planned.first_frame < frames and len(looks) < _MAX_LOOKS:
            looks.append(planned)
    return tuple(looks)


def _treatment(look: PlannedLook, codec: str) -> tuple[object, ...]:
    """Return the properties of a look that matter for processing. Looks with equal results are processed alike.

    Size and pixel format matter in two cases: the frames may be interlaced, or they are transparent.
    Transparent frames are drawn over black.
    """
    form = (look.width, look.height, look.pixel_format) if codec in INTERLACED_CODECS or look.color.alpha else None
    return look.pixel_aspect, look.color, form
