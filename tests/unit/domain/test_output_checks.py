from dataclasses import fields, replace
from typing import Any

import pytest

from anb_core.domain.output_checks import OutputFacts, find_flaws

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
    assert find_flaws(OUTPUT, frames=465) == []


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
    (flaw,) = find_flaws(replace(OUTPUT, **wrong), frames=465)
    assert flaw.startswith(next(iter(wrong)))


def test_every_fact_of_an_output_is_judged() -> None:
    names = [field.name for field in fields(OutputFacts)]
    nothing: dict[str, Any] = dict.fromkeys(names, -9)
    nothing |= dict.fromkeys(("container", "video_codec", "pixel_format", "color", "audio_codec"), "")
    flaws = find_flaws(OutputFacts(**nothing | {"index_first": False}), frames=465)
    assert {flaw.split()[0] for flaw in flaws} == set(names)


def test_a_longer_plan_wants_a_longer_output() -> None:
    assert [flaw.split()[0] for flaw in find_flaws(OUTPUT, frames=466)] == ["frames", "video_end", "audio_end"]
