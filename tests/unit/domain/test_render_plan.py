from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import pytest

from anb_core.domain.color import Colors
from anb_core.domain.edit import EditSpec, Switch, Trim
from anb_core.domain.errors import BadInput
from anb_core.domain.formats import Container
from anb_core.domain.render import (
    FPS,
    MOST_JUMPS,
    AudioFacts,
    InputLimits,
    Look,
    OutputFacts,
    RenderPlan,
    SourceFacts,
    VideoFacts,
    check_pictures,
    check_sound,
    find_flaws,
    plan_render,
)

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
OFF = Switch(enabled=False)


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


def refusal(facts: SourceFacts, edit: EditSpec | None = None) -> BadInput:
    with pytest.raises(BadInput) as caught:
        plan(facts, edit)
    return caught.value


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


@pytest.mark.parametrize(
    ("facts", "code", "says"),
    [
        (SourceFacts(), "not_a_video", "MP4"),
        (SourceFacts(container=Container.MP4, state="cut_off"), "truncated", "cut off"),
        (SourceFacts(container=Container.AVI, state="unreadable"), "corrupt", "AVI"),
        (SourceFacts(container=Container.MP4), "no_video_stream", "no video"),
        (SourceFacts(container=Container.MP4, audio=AUDIO), "audio_only", "sound"),
        (SourceFacts(container=Container.MP4, has_cover=True), "audio_only", "sound"),
        (source(codec="rv40"), "unsupported_codec", "rv40"),
        (source(audio=AudioFacts(index=1, codec="cook", end=10.0)), "unsupported_codec", "cook"),
        (source(claimed_end=36_000.0), "too_long", "10:00:00"),
        (source(claimed_end=None, video_claim=36_000.0), "too_long", "4:00:00"),
        (source(width=16_000, height=16_000), "too_many_pixels", "16000 x 16000"),
        (
            source(audio=replace(AUDIO, codec="opus", decodable=False)),
            "unsupported_codec",
            "opus that can't be decoded",
        ),
        (source(looks=()), "corrupt", "damaged"),
        (source(claimed_end=None, video_claim=0.0, packets=0, end=None), "zero_duration", "no length"),
        (source(claimed_end=0.2, video_claim=0.2, packets=0, end=None), "zero_duration", "no length"),
        (source(end=0.0), "truncated", "10.0 s"),
        (source(packets=0, end=None), "truncated", "10.0 s"),
        (source(end=3.4), "truncated", "3.4 s"),
    ],
)
def test_bad_input_is_told_by_a_code_and_a_sentence(facts: SourceFacts, code: str, says: str) -> None:
    error = refusal(facts)
    assert error.code == code
    assert says in error.message
    assert error.message.endswith(".")


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (source(end=10.0), "ends at 10.0 s"),
        (source(packets=0, end=None), "ends at 10.0 s"),
        (source(audio=None, video_claim=None, claimed_end=None, packets=0, end=None), "ends before that"),
    ],
)
def test_a_part_that_begins_after_the_end_is_refused_with_where_the_end_is(facts: SourceFacts, says: str) -> None:
    error = refusal(facts, EditSpec(trim=Trim(start=12)))
    assert error.code == "trim_beyond_end"
    assert says in error.message


def test_a_part_beyond_where_a_file_was_cut_off_is_told_from_one_beyond_its_end() -> None:
    assert refusal(source(end=3.4), EditSpec(trim=Trim(start=5))).code == "truncated"


@pytest.mark.parametrize(
    ("claimed", "seen"),
    [(10.0, 9.6), (2.0, 1.51), (30.0, 28.6)],
)
def test_a_file_may_be_a_little_shorter_than_it_claims(claimed: float, seen: float) -> None:
    facts = source(claimed_end=claimed, video_claim=claimed, end=seen, audio=None)
    assert plan(facts).main_frames == round(seen * FPS)


@pytest.mark.parametrize(("claimed", "seen"), [(10.0, 9.4), (2.0, 1.49), (30.0, 28.4)])
def test_a_file_that_is_much_shorter_than_it_claims_is_cut_off(claimed: float, seen: float) -> None:
    facts = source(claimed_end=claimed, video_claim=claimed, end=seen, audio=None)
    assert refusal(facts).code == "truncated"


def test_a_file_that_is_cut_off_after_the_kept_part_is_as_good_as_whole() -> None:
    facts = source(claimed_end=600.0, video_claim=600.0, end=5.03, audio=None)
    assert plan(facts, EditSpec(trim=Trim(length=5))).main_frames == 150


def test_a_structure_that_is_whole_counts_more_than_a_claim() -> None:
    facts = source(claimed_end=10.0, video_claim=None, end=6.03, audio=None)
    assert refusal(facts).code == "truncated"
    assert plan(replace(facts, whole=True)).main_frames == 181


def test_sound_that_is_cut_off_is_told_though_the_picture_is_whole() -> None:
    facts = source(audio=replace(AUDIO, end=5.0, heard=((0.0, 5.0),)))
    assert refusal(facts).code == "truncated"
    assert plan(replace(facts, whole=True)).main_frames == 300


def test_a_recording_that_goes_on_in_other_streams_is_refused_with_the_second() -> None:
    joined = replace(SOURCE, elsewhere=4.0)
    assert (refusal(joined).code, "4.0 s" in refusal(joined).message) == ("unsupported_join", True)
    assert plan(joined, EditSpec(trim=Trim(length=4))).main_frames == 120


def test_a_clock_that_jumps_all_the_time_is_refused_with_the_second() -> None:
    jumps = tuple(0.1 + n / 10 for n in range(MOST_JUMPS + 1))
    error = refusal(replace(SOURCE, jumps=jumps))
    assert (error.code, "0.1 s" in error.message) == ("unsupported_join", True)
    assert plan(replace(SOURCE, jumps=jumps[1:])).main_frames == 300


def test_a_claim_of_the_whole_file_is_met_by_its_longest_stream() -> None:
    facts = source(claimed_end=10.0, video_claim=None, end=6.03)
    assert plan(facts).main_frames == 300


def without(since: float, until: float, moments: Sequence[float] = MOMENTS) -> list[float]:
    return [moment for moment in moments if not since <= moment < until]


@pytest.mark.parametrize(
    "decoded",
    [
        MOMENTS,
        MOMENTS[::2],
        [moment + 0.04 for moment in MOMENTS],
        without(0, 0.3),
        without(5, 5.3),
        without(9.7, 10),
        [-0.5, -0.2, *MOMENTS],
    ],
    ids=["all", "fields", "rounded", "begin", "middle", "end", "before"],
)
def test_a_picture_that_could_nearly_all_be_decoded_is_good(decoded: Sequence[float]) -> None:
    check_pictures(plan(), decoded)


@pytest.mark.parametrize(
    ("decoded", "says"),
    [
        ([], r"from 0\.0 to 10\.0 s"),
        (without(0, 0.5), r"from 0\.0 to 0\.5 s"),
        (without(5, 5.5), r"from 5\.0 to 5\.5 s|from 5\.1 to 5\.5 s"),
        (without(9.5, 10), r"from 9\.5 to 10\.0 s"),
        (MOMENTS[::3], "of 300 frames only 100"),
    ],
    ids=["all", "begin", "middle", "end", "two of three"],
)
def test_half_a_second_without_picture_is_damage(decoded: Sequence[float], says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        check_pictures(plan(), decoded)
    assert caught.value.code == "corrupt"


def test_a_picture_that_stays_for_long_is_missed_as_long() -> None:
    slides = plan(source(shown=(0.0, 4.0, 8.0), packets=3))
    check_pictures(slides, [0.0, 4.0, 8.0])
    with pytest.raises(BadInput, match=r"from 4\.0 to 8\.0 s"):
        check_pictures(slides, [0.0, 8.0])


def test_what_was_on_the_screen_before_the_kept_part_is_a_part_of_it() -> None:
    cut = plan(source(shown=(2.0, 6.0), packets=2), EditSpec(trim=Trim(start=5)))
    assert cut.shown == (-3.0, 1.0)
    check_pictures(cut, [-3.0, 1.0])
    with pytest.raises(BadInput, match=r"from 0\.0 to 1\.0 s"):
        check_pictures(cut, [-2.5, 1.0])


@pytest.mark.parametrize(
    "decoded", [[(0.0, 10.0)], [(0.1, 5.0), (5.3, 9.8)], [(n / 50, n / 50 + 0.0195) for n in range(500)]]
)
def test_sound_that_could_nearly_all_be_decoded_is_good(decoded: list[tuple[float, float]]) -> None:
    check_sound(plan(), decoded)


@pytest.mark.parametrize(
    ("decoded", "says"),
    [
        ([], r"from 0\.0 to 10\.0 s"),
        ([(0.5, 10.0)], r"from 0\.0 to 0\.5 s"),
        ([(5.5, 10.0), (0.0, 5.0)], r"from 5\.0 to 5\.5 s"),
        ([(0.0, 9.5)], r"from 9\.5 to 10\.0 s"),
    ],
    ids=["all", "begin", "middle", "end"],
)
def test_half_a_second_without_sound_is_damage(decoded: list[tuple[float, float]], says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        check_sound(plan(), decoded)
    assert caught.value.code == "corrupt"


def test_a_hole_in_the_sound_is_no_damage() -> None:
    holes = plan(source(audio=replace(AUDIO, heard=((0.0, 3.0), (8.0, 10.0)))))
    check_sound(holes, [(0.0, 3.0), (8.0, 10.0)])
    with pytest.raises(BadInput, match=r"from 8\.0 to 8\.5 s"):
        check_sound(holes, [(0.0, 3.0), (8.5, 10.0)])


OUTPUT = OutputFacts(
    container="mp4",
    index_first=True,
    video_codec="h264",
    pixel_format="yuv420p",
    color="bt709",
    width=1280,
    height=720,
    frames=465,
    uneven_frames=0,
    video_begin=0.0,
    video_end=15.5,
    unlike_parts=0,
    undecodable_parts=0,
    audio_codec="aac",
    sample_rate=48_000,
    channels=2,
    audio_gaps=0,
    audio_begin=-1024 / 48_000,
    audio_end=15.5,
)


def test_an_output_as_planned_has_no_flaw() -> None:
    assert find_flaws(plan(), OUTPUT) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"container": "mov"},
        {"index_first": False},
        {"video_codec": "hevc"},
        {"pixel_format": "yuv444p"},
        {"color": "another"},
        {"width": 1278},
        {"height": 718},
        {"frames": 464},
        {"uneven_frames": 1},
        {"video_begin": 0.034},
        {"video_end": 15.466},
        {"unlike_parts": 1},
        {"undecodable_parts": 1},
        {"audio_codec": "mp3"},
        {"sample_rate": 44_100},
        {"channels": 1},
        {"audio_gaps": 1},
        {"audio_begin": 0.05},
        {"audio_end": 15.4},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_each_single_deviation_is_a_flaw(wrong: dict[str, Any]) -> None:
    (flaw,) = find_flaws(plan(), replace(OUTPUT, **wrong))
    assert flaw.startswith(next(iter(wrong)))


def test_every_fact_of_an_output_is_judged() -> None:
    names = [field.name for field in fields(OutputFacts)]
    nothing: dict[str, Any] = dict.fromkeys(names, -9)
    nothing |= dict.fromkeys(("container", "video_codec", "pixel_format", "color", "audio_codec"), "")
    flaws = find_flaws(plan(), OutputFacts(**nothing | {"index_first": False}))
    assert {flaw.split()[0] for flaw in flaws} == set(names)


def test_a_longer_plan_wants_a_longer_output() -> None:
    longer = replace(plan(), main_frames=301)
    assert [flaw.split()[0] for flaw in find_flaws(longer, OUTPUT)] == ["frames", "video_end", "audio_end"]


def looks(*given: Look, start: float = 0.0, codec: str = "h264") -> list[tuple[int, float | None]]:
    """Which looks are planned: from which frame on, with which shape of a pixel."""
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
    assert plan(source(looks=(see_through,), codec="vp9")).decoder == "libvpx-vp9"
    assert plan(source(looks=(see_through,), codec="vp8")).decoder == "libvpx"
    assert plan(source(looks=(see_through,), codec="prores")).decoder is None
    assert plan(source(codec="vp9")).decoder is None
