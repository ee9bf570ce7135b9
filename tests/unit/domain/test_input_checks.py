from dataclasses import replace

import pytest

from anb_core.domain.edit import EditSpec, Trim
from anb_core.domain.errors import BadInput
from anb_core.domain.formats import Container
from anb_core.domain.input_checks import MOST_JUMPS
from anb_core.domain.output_format import FPS
from anb_core.domain.source_facts import AudioFacts, SourceFacts
from tests.support.planning import AUDIO, SOURCE, plan, source


def refusal(facts: SourceFacts, edit: EditSpec | None = None) -> BadInput:
    with pytest.raises(BadInput) as caught:
        plan(facts, edit)
    return caught.value


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
def test_bad_input_is_refused_with_a_code_and_a_sentence(facts: SourceFacts, code: str, says: str) -> None:
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


def test_a_part_beyond_where_a_file_was_cut_off_is_not_one_beyond_its_end() -> None:
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


def test_sound_that_is_cut_off_is_found_though_the_picture_is_whole() -> None:
    facts = source(audio=replace(AUDIO, end=5.0, heard=((0.0, 5.0),)))
    assert refusal(facts).code == "truncated"
    assert plan(replace(facts, whole=True)).main_frames == 300


def test_a_recording_that_goes_on_in_other_streams_is_refused_with_the_second() -> None:
    joined = replace(SOURCE, other_recording_at=4.0)
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
