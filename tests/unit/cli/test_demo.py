import math
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anb_cli.demo.contact_sheet import draw, parts_of
from anb_cli.demo.examination import CARD_FRAMES, FPS, Facts, Plan, judge, sound_shift
from anb_cli.demo.tour import with_wait
from anb_worker.render.layout import CARD_SECONDS

PLAN = Plan.of(339)
SOURCE = 5.312
GOOD = Facts(
    index_first=True,
    video_codec="h264",
    pixel_format="yuv420p",
    width=1280,
    height=720,
    frames=339,
    even=True,
    video_end=11.3,
    audio_codec="aac",
    sample_rate=48_000,
    channels=2,
    audio_end=11.304,
)


def wrong(facts: Facts, sound_shift: float | None = 0.0) -> list[str]:
    return [check.what for check in judge(facts, PLAN, SOURCE, sound_shift) if not check.passed]


def test_the_cards_are_as_long_as_the_workers_own() -> None:
    assert CARD_FRAMES == CARD_SECONDS * FPS


def test_a_good_file_passes() -> None:
    assert wrong(GOOD) == []


@pytest.mark.parametrize(
    ("changes", "flaw"),
    [
        ({"index_first": False}, "faststart"),
        ({"video_codec": "hevc"}, "picture codec"),
        ({"pixel_format": "yuv444p"}, "picture codec"),
        ({"height": 722}, "picture"),
        ({"frames": 338}, "frames"),
        ({"even": False}, "frames a second"),
        ({"audio_codec": "mp3"}, "sound codec"),
        ({"sample_rate": 44_100}, "sound codec"),
        ({"channels": 6}, "sound codec"),
        ({"audio_end": 11.25}, "end of the sound"),
        ({"video_end": 11.2666, "audio_end": 11.2666}, "duration"),
    ],
)
def test_each_flaw_is_found(changes: dict[str, object], flaw: str) -> None:
    assert wrong(replace(GOOD, **changes)) == [flaw]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shift", "passes"),
    [(0.039, True), (-0.039, True), (0.041, False), (-0.041, False), (None, True), (math.inf, False)],
)
def test_sound_may_be_40_ms_off(shift: float | None, *, passes: bool) -> None:
    assert (wrong(GOOD, shift) == []) is passes


RATE = 48_000


def noise(seconds: float, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, round(seconds * RATE))


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE))


def sound(path: Path, *pieces: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.concatenate(pieces).astype("<i2").tobytes())
    return path


def test_the_uploads_sound_is_found_where_it_is(tmp_path: Path) -> None:
    source = sound(tmp_path / "source.wav", noise(2))
    result = sound(tmp_path / "result.wav", silence(3.02), noise(2), silence(3))
    assert sound_shift(source, result, 3.0) == pytest.approx(0.02, abs=0.001)


@pytest.mark.parametrize("instead", [silence(2), noise(2, seed=2)], ids=["silence", "another sound"])
def test_a_loud_upload_whose_sound_is_not_in_the_result_is_no_success(tmp_path: Path, instead: np.ndarray) -> None:
    source = sound(tmp_path / "source.wav", noise(2))
    result = sound(tmp_path / "result.wav", silence(3), instead, silence(3))
    assert sound_shift(source, result, 3.0) == math.inf


def test_a_silent_upload_has_no_sound_to_go_by(tmp_path: Path) -> None:
    source = sound(tmp_path / "source.wav", silence(2))
    assert sound_shift(source, sound(tmp_path / "result.wav", noise(8)), 3.0) is None


@pytest.mark.parametrize(
    ("source", "passes"), [(5.27, True), (5.33, True), (5.26, False), (5.34, False), (40.0, False)]
)
def test_the_main_part_is_as_long_as_the_upload(source: float, *, passes: bool) -> None:
    assert all(check.passed for check in judge(GOOD, PLAN, source, 0.0)) is passes


def test_a_long_upload_is_cut_to_half_a_minute() -> None:
    long = replace(GOOD, frames=1080, video_end=36.0, audio_end=36.0)
    assert all(check.passed for check in judge(long, Plan.of(1080), 3600.0, 0.0))


def test_picks_are_spread_over_every_part() -> None:
    intro, main, outro = parts_of(80, 160, 40)
    assert intro.picks == [10, 30, 50, 70]
    assert main.picks == [80 + place for place in (10, 30, 50, 70, 90, 110, 130, 150)]
    assert outro.picks == [245, 255, 265, 275]


def test_a_part_of_three_frames_shows_three() -> None:
    assert [part.picks for part in parts_of(0, 3, 0)] == [[0, 1, 2]]


def test_the_sheet_shows_every_pick() -> None:
    parts = parts_of(90, 159, 60)
    picks = [number for part in parts for number in part.picks]
    colors = {number: (number % 256, 255 - number % 256, 77) for number in picks}
    pictures = {number: Image.new("RGB", (1280, 720), color) for number, color in colors.items()}
    sheet = draw("A title that is much too long for one line " * 10, "facts", parts, pictures, 30)
    seen = {color for _count, color in sheet.getcolors(1 << 24) or []}
    assert set(colors.values()) <= seen


def test_the_steps_and_the_wait_before_them_are_all_the_time_that_processing_takes() -> None:
    assert with_wait({"claim": 0.25, "main": 2.25}, 14.5) == {"wait for the worker": 12.0, "claim": 0.25, "main": 2.25}
    assert with_wait({"main": 2.25}, 2.0)["wait for the worker"] == 0
    assert with_wait({}, 14.5) == {}
