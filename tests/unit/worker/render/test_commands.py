"""What must never be missing from a command; that the commands work is tested with real clips."""

from dataclasses import replace
from pathlib import Path

import pytest

from anb_core.domain.color import ColorPlan
from anb_core.domain.container import Container
from anb_core.domain.render import PlannedLook, RenderPlan
from anb_worker.render.commands import (
    DEMUXERS,
    Sound,
    Tool,
    extract_command,
    join_command,
    join_list,
    picture_command,
    seek_before,
    sound_command,
    take_two_channels,
    title_command,
)

TOOL = Tool(path=Path("/bin/ffmpeg"), max_pixels=1000, max_alloc=2000, threads=3)
LOOK = PlannedLook(width=640, height=360)
PLAN = RenderPlan(
    container=Container.MATROSKA,
    video_index=2,
    audio_index=5,
    decoder=None,
    fields=False,
    looks=(LOOK,),
    start=20.0,
    intro_frames=90,
    main_frames=300,
    outro_frames=75,
    watermark=True,
    picture_packets=300,
    last_picture=9.9,
)
SOURCE, OUT = Path("/in/clip"), Path("/out/file.mp4")


def picture(plan: RenderPlan = PLAN, watermark: Path | None = None) -> list[str]:
    return picture_command(TOOL, plan, SOURCE, watermark=watermark, output=OUT, decoded=Path("/out/decoded.txt"))


def input_options(command: list[str], url: str) -> dict[str, str]:
    """What stands before one input, from the input before it on."""
    end = command.index(url) - 1
    begin = max((at + 2 for at in range(end) if command[at] == "-i"), default=1)
    part = command[begin:end]
    return {name: part[at + 1] for at, name in enumerate(part[:-1]) if name.startswith("-")}


@pytest.mark.parametrize("command", [picture(), extract_command(TOOL, PLAN, SOURCE, OUT)], ids=["picture", "sound"])
def test_a_strangers_file_is_opened_with_everything_forced_and_limited(command: list[str]) -> None:
    options = input_options(command, f"file:{SOURCE}")
    assert options["-f"] == options["-format_whitelist"] == "matroska"
    assert options["-protocol_whitelist"] == "file"
    assert options["-codec_whitelist"].startswith("h264,hevc,")
    assert options["-max_pixels"] == "101500"
    assert options["-max_streams"] == "64"
    assert command[command.index("-max_alloc") + 1] == "2000"
    assert "-nostdin" in command


@pytest.mark.parametrize(
    "command",
    [
        picture(watermark=Path("/cards/w.png")),
        sound_command(TOOL, [Sound(90, Path("/cards/i.nut")), Sound(300, Path("/out/m.nut")), Sound(75)], OUT),
        title_command(TOOL, Path("/c/i.mp4"), 90, title=Path("/o/t.png"), top_left=(1, 2), output=OUT),
        join_command(TOOL, Path("/out/parts.txt"), Path("/out/sound.mp4"), OUT),
    ],
    ids=["picture", "sound", "title", "join"],
)
def test_every_input_names_its_demuxer_and_may_only_be_a_file(command: list[str]) -> None:
    for at, word in enumerate(command):
        if word == "-i":
            options = input_options(command, command[at + 1])
            assert command[at + 1].startswith("file:/")
            assert options["-protocol_whitelist"] == "file"
            assert "-f" in options


def test_every_container_has_a_demuxer() -> None:
    assert set(DEMUXERS) == set(Container)


def test_exactly_the_planned_frames_and_samples_are_made() -> None:
    graph = picture()[picture().index("-filter_complex") + 1]
    assert "trim=end_frame=300" in graph
    sound = sound_command(TOOL, [Sound(90), Sound(300, Path("/out/m.nut")), Sound(75)], OUT)
    graph = sound[sound.index("-filter_complex") + 1]
    assert [f"end_sample={frames * 1600}[" in graph for frames in (90, 300, 75)] == [True] * 3
    assert "concat=n=3" in graph


def test_silence_needs_no_file() -> None:
    sound = sound_command(TOOL, [Sound(90), Sound(300)], OUT)
    assert "-i" not in sound
    assert sound[sound.index("-filter_complex") + 1].count("anullsrc") == 2


@pytest.mark.parametrize(
    ("container", "start", "seek"),
    [
        (Container.MP4, 20.0, 20.0),
        (Container.AVI, 20.0, 20.0),
        (Container.MPEG_TS, 20.0, 10.0),
        (Container.MPEG_TS, 4.0, 0.0),
    ],
)
def test_only_a_file_without_an_index_is_read_from_earlier_on(container: Container, start: float, seek: float) -> None:
    assert seek_before(container, start) == seek


def test_steps_that_cost_time_are_taken_only_where_they_are_needed() -> None:
    def graph(plan: RenderPlan) -> str:
        command = picture(plan)
        return command[command.index("-filter_complex") + 1]

    assert "bwdif" not in graph(PLAN)
    assert "tonemap" not in graph(PLAN)
    assert "overlay" not in graph(PLAN)
    assert not [step for step in ("in_color_matrix", "zscale", "premultiply", "concat") if step in graph(PLAN)]
    assert "bwdif" in graph(replace(PLAN, fields=True))
    assert "tonemap" in graph(replace(PLAN, looks=(replace(LOOK, color=ColorPlan(by="tone_mapping")),)))
    assert "premultiply" in graph(replace(PLAN, looks=(replace(LOOK, color=ColorPlan(alpha=True)),)))


def test_no_strange_decoder_is_let_in_but_the_one_that_the_plan_names() -> None:
    assert "libvpx-vp9" not in " ".join(picture())
    command = picture(replace(PLAN, decoder="libvpx-vp9"))
    options = input_options(command, f"file:{SOURCE}")
    assert options["-c:2"] == "libvpx-vp9"
    assert options["-codec_whitelist"].endswith(",libvpx-vp9")


def test_each_look_gets_its_own_frames_of_the_output() -> None:
    wide = replace(LOOK, first_frame=100, pixel_aspect=4 / 3)
    command = picture(replace(PLAN, looks=(LOOK, wide, replace(LOOK, first_frame=250))))
    graph = command[command.index("-filter_complex") + 1]
    parts = [graph[graph.index(f"[part{n}]trim") :].split(";")[0] for n in range(3)]
    assert ["start=" in part for part in parts] == [False, True, True]
    assert [part.count("end=") for part in parts] == [1, 1, 0]
    assert [f"trim=end_frame={frames}," in part for part, frames in zip(parts, (100, 150, 50), strict=True)] == [
        True
    ] * 3
    assert ["setsar=1.333333" in part for part in parts] == [False, True, False]
    assert "concat=n=3" in graph


def test_the_list_of_parts_says_how_long_each_is() -> None:
    assert join_list([("intro.mp4", 90), ("main.mp4", 100)]) == (
        "file 'intro.mp4'\nduration 3.000000000\nfile 'main.mp4'\nduration 3.333333333\n"
    )


@pytest.mark.parametrize(
    ("complaint", "channels"),
    [
        ("[SWR @ 0x1] Input channel layout '2 channels (FL+FL)' is not supported", "0|1"),
        ("[SWR @ 0x1] Input channel layout '3 channels (FL+UNSD+FR)' is not supported", "0|1"),
        ("[SWR @ 0x1] Input channel layout '1 channels (UNK)' is not supported", "0|0"),
        ("[SWR @ 0x1] Input channel layout 'ambisonic 1' is not supported", "0|0"),
        ("[SWR @ 0x1] Rematrix is needed between 9 channels and stereo but there is not enough information", "0|1"),
    ],
)
def test_where_ffmpeg_has_no_mix_of_all_channels_two_are_taken(complaint: str, channels: str) -> None:
    command = extract_command(TOOL, PLAN, SOURCE, OUT)
    other = take_two_channels(command, f"[auto_aresample_0 @ 0x2] {complaint}\nConversion failed!")
    assert other is not None
    at = other.index("-af") + 1
    assert other[at] == f"channelmap={channels}:stereo,{command[at]}"
    assert [*other[:at], *other[at + 1 :]] == [*command[:at], *command[at + 1 :]]


def test_another_complaint_is_no_reason_to_take_two_channels() -> None:
    assert take_two_channels(extract_command(TOOL, PLAN, SOURCE, OUT), "Invalid data found") is None
    assert take_two_channels(picture(), "Input channel layout 'ambisonic 1' is not supported") is None
