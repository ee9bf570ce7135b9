"""What is to be rendered, decided from what the probe found in an upload and what the person asked for."""

from dataclasses import dataclass, field

from anb_core.domain.color import ColorPlan, plan_colors
from anb_core.domain.edit import EditSpec
from anb_core.domain.formats import ALPHA_DECODERS, INTERLACED_CODECS, Container
from anb_core.domain.input_checks import InputLimits, check_source
from anb_core.domain.output_format import FPS
from anb_core.domain.source_facts import Reading, SourceFacts, VideoFacts

_MOST_LOOKS = 64
"""How many changes of the picture are followed. Each costs a branch of the filter graph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLook:
    """How the pictures are processed from one frame of the main part on. Fields of the same names mean the same as in
    Look.
    """

    first_frame: int = 0
    """Counted from the beginning of the main part, in frames of the output."""
    width: int
    height: int
    pixel_format: str = ""
    pixel_aspect: float | None = None
    color: ColorPlan = field(default_factory=ColorPlan)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderPlan:
    """What is to be rendered."""

    container: Container
    """The container of the upload."""
    video_index: int
    """The number of the video stream within the upload."""
    audio_index: int | None
    """The number of the audio stream. None where the kept part has no sound."""
    video_reading: Reading
    audio_reading: Reading
    video_decoder: str | None
    """ffmpeg's name of the decoder for the picture. None where ffmpeg's own choice is right."""
    may_be_interlaced: bool
    """Whether pictures of the upload may be interlaced."""
    looks: tuple[PlannedLook, ...]
    """How the pictures are processed, in order of time. There is at least one, from frame 0 on."""
    start: float
    """Where the kept part begins, in seconds of the upload."""
    intro_frames: int
    main_frames: int
    outro_frames: int
    """How long each part of the output is, in frames. 0 leaves out the intro or the outro."""
    watermark: bool
    """Whether the main part gets a watermark."""
    picture_packets: int
    """How many packets of pictures the kept part has."""
    shown: tuple[float, ...]
    """When each of its pictures appears, in seconds from its beginning."""
    heard: tuple[tuple[float, float], ...]
    """The spans that have sound: begin and end, in seconds from its beginning."""

    @property
    def frames(self) -> int:
        """The length of the whole output, in frames."""
        return self.intro_frames + self.main_frames + self.outro_frames

    @property
    def duration(self) -> float:
        """The length of the whole output, in seconds."""
        return self.frames / FPS


def plan_render(
    source: SourceFacts, edit: EditSpec, limits: InputLimits, *, intro_frames: int, outro_frames: int
) -> RenderPlan:
    """Decide what is rendered. `intro_frames` and `outro_frames`: the lengths of the cards, where the edit has them.

    Raises:
        BadInput: as check_source, and unsupported_color.
    """
    container, video, end = check_source(source, edit.trim, limits)
    start, audio = edit.trim.start, source.audio
    heard = () if audio is None else tuple((begin - start, until - start) for begin, until in audio.heard)
    # Sound that goes on after the last picture is kept, as players do: that picture stays.
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
