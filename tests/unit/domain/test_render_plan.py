from dataclasses import replace

import pytest

from anb_core.domain.color import Colors
from anb_core.domain.edit import EditSpec, Switch, Trim
from anb_core.domain.source_facts import Look
from tests.support.planning import AUDIO, LOOK, plan, source

OFF = Switch(enabled=False)


def test_all_parts_are_counted_in_frames_of_the_output() -> None:
    decided = plan()
    assert (decided.intro_frames, decided.main_frames, decided.outro_frames) == (90, 300, 75)
    assert decided.frames == 465
    assert decided.duration == 15.5
    assert decided.watermark


def test_a_step_that_is_switched_off_leaves_nothing() -> None:
    decided = plan(edit=EditSpec(intro=OFF, outro=OFF, watermark=OFF))
    assert decided.frames == decided.main_frames == 300
    assert not decided.watermark


@pytest.mark.parametrize(
    ("end", "trim", "frames"),
    [
        (10.0, Trim(), 300),
        (10.01, Trim(), 300),
        (3600.0, Trim(), 900),
        (3600.0, Trim(length=12.5), 375),
        (3600.0, Trim(start=3590, length=20), 300),
        (10.0, Trim(start=7.5), 75),
        (10.0, Trim(start=9.99), 1),
        (0.033, Trim(), 1),
    ],
)
def test_the_kept_part_is_as_long_as_asked_and_there_at_most(end: float, trim: Trim, frames: int) -> None:
    seen = min(end, trim.start + trim.length)
    facts = source(claimed_end=end, video_claim=end, end=seen, audio=None)
    assert plan(facts, EditSpec(trim=trim)).main_frames == frames


def test_sound_that_outlasts_the_picture_is_kept() -> None:
    assert plan(source(audio=replace(AUDIO, end=12.0, claimed_end=12.0), claimed_end=12.0)).main_frames == 360


def test_sound_goes_on_after_the_last_picture_also_where_the_kept_part_begins() -> None:
    late = source(audio=replace(AUDIO, heard=((6.0, 10.0),)), video_claim=3.0, end=3.0, shown=(2.967,), packets=1)
    assert plan(late, EditSpec(trim=Trim(start=6))).main_frames == 120


def test_an_audio_stream_without_sound_in_the_kept_part_is_taken_for_none() -> None:
    assert plan(source(audio=AUDIO)).audio_index == 1
    assert plan(source(audio=replace(AUDIO, heard=()))).audio_index is None
    assert plan(source(audio=None)).audio_index is None


def looks(*given: Look, start: float = 0.0, codec: str = "h264") -> list[tuple[int, float | None]]:
    """Plan an upload with the given looks (picture formats). Returns each look's first frame and pixel aspect ratio."""
    decided = plan(source(looks=given, codec=codec), EditSpec(trim=Trim(start=start)))
    return [(look.first_frame, look.pixel_aspect) for look in decided.looks]


def test_a_change_of_the_picture_is_followed_from_the_nearest_frame_on() -> None:
    wide = replace(LOOK, since=4.01, pixel_aspect=1.5)
    assert looks(LOOK, wide) == [(0, None), (120, 1.5)]
    assert looks(LOOK, wide, start=2.0) == [(0, None), (60, 1.5)]
    assert looks(LOOK, wide, start=5.0) == [(0, 1.5)]
    assert looks(LOOK, replace(wide, since=9.999)) == [(0, None)]
    assert looks(LOOK, wide, replace(LOOK, since=4.015)) == [(0, None)]
    assert looks(LOOK, wide, replace(LOOK, since=6.0)) == [(0, None), (120, 1.5), (180, None)]


def test_a_change_that_makes_no_difference_needs_no_branch() -> None:
    assert looks(LOOK, replace(LOOK, since=2.0), replace(LOOK, since=3.0)) == [(0, None)]
    smaller = replace(LOOK, since=2.0, width=1280, height=720)
    assert looks(LOOK, replace(LOOK, since=2.0, pixel_format="yuv422p10le")) == [(0, None), (60, None)]
    assert looks(LOOK, smaller, codec="vp9") == [(0, None)]
    assert looks(LOOK, smaller, codec="h264") == [(0, None), (60, None)]
    assert looks(LOOK, replace(smaller, width=640, height=360), codec="vp9") == [(0, None), (60, None)]


def test_what_decodes_transparency_is_named_only_where_there_is_some() -> None:
    see_through = replace(LOOK, colors=Colors(alpha=True))
    assert plan(source(looks=(see_through,), codec="vp9")).video_decoder == "libvpx-vp9"
    assert plan(source(looks=(see_through,), codec="vp8")).video_decoder == "libvpx"
    assert plan(source(looks=(see_through,), codec="prores")).video_decoder is None
    assert plan(source(codec="vp9")).video_decoder is None
