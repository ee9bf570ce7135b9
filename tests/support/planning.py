"""The probe's facts of a typical upload, and the upload's render plan. Tests change some facts."""

from dataclasses import replace
from typing import Any

from anb_core.domain.edit import EditSpec
from anb_core.domain.formats import Container
from anb_core.domain.input_checks import InputLimits
from anb_core.domain.output_format import FPS
from anb_core.domain.render_plan import RenderPlan, plan_render
from anb_core.domain.source_facts import AudioFacts, Look, SourceFacts, VideoFacts

LOOK = Look(width=1920, height=1080)
MOMENTS = tuple(n / FPS for n in range(300))
VIDEO = VideoFacts(
    index=0,
    codec="h264",
    width=1920,
    height=1080,
    claimed_end=10.0,
    packets=300,
    shown=MOMENTS,
    end=10.0,
    looks=(LOOK,),
)
AUDIO = AudioFacts(index=1, codec="aac", claimed_end=10.0, heard=((0.0, 10.0),), end=10.0)
SOURCE = SourceFacts(container=Container.MP4, claimed_end=10.0, video=VIDEO, audio=AUDIO)


def source(
    *,
    audio: AudioFacts | None = AUDIO,
    claimed_end: float | None = 10.0,
    video_claim: float | None = 10.0,
    **video: Any,
) -> SourceFacts:
    return SourceFacts(
        container=Container.MP4,
        claimed_end=claimed_end,
        video=replace(VIDEO, **video, claimed_end=video_claim),
        audio=audio,
    )


def plan(facts: SourceFacts = SOURCE, edit: EditSpec | None = None) -> RenderPlan:
    return plan_render(facts, edit or EditSpec(), InputLimits(), intro_frames=90, outro_frames=75)
