"""Tests of the options of ffmpeg commands. tests/integration/render runs the commands on real clips."""

from dataclasses import replace
from pathlib import Path

import pytest
from av.codec import Codec

from anb_core.domain.color import ColorPlan
from anb_core.domain.formats import AUDIO_CODECS, VIDEO_CODECS, Container
from anb_core.domain.render_plan import PlannedLook, RenderPlan
from anb_core.domain.source_facts import Reading, Stretch
from anb_worker.render.ffmpeg_commands import (
    Sound,
    Tool,
    extract_command,
    join_command,
    join_list,
    parse_moments,
    parse_spans,
    picture_command,
    sound_command,
    take_two_channels,
    title_command,
)
from anb_worker.render.layout import WATERMARK_MARGIN

TOOL = Tool(path=Path("/bin/ffmpeg"), max_pixels=1000, max_alloc=2000, threads=3)
LOOK = PlannedLook(width=640, height=360)
PLAN = RenderPlan(
    container=Container.MATROSKA,
    video_index=2,
    audio_index=5,
    video_reading=Reading(origin=1.5),
    audio_reading=Reading(origin=1.5, seek=20.5),
    video_decoder=None,
    may_be_interlaced=False,
    looks=(LOOK,),
    start=20.0,
    intro_frames=90,
    main_frames=300,
    outro_frames=75,
    watermark=True,
    picture_packets=300,
    shown=(0.0, 9.9),
    heard=((0.0, 10.0),),
)
SOURCE, OUT, DECODED = Path("/in/clip"), Path("/out/file.mp4"), Path("/out/decoded.txt")
SOUND = extract_command(TOOL, PLAN, SOURCE, OUT, DECODED)


def last(command: list[str], option: str) -> int:
    """Return the value that ffmpeg uses if an option is given more than once."""
    return int(command[len(command) - command[::-1].index(option)])


def picture(plan: RenderPlan = PLAN, watermark: Path | None = None) -> list[str]:
    return picture_command(TOOL, plan, SOURCE, watermark=watermark, output=OUT, decoded=DECODED)


def input_options(command: list[str], url: str) -> dict[str, str]:
    """Return the options of the input `url`, which are the arguments between the previous input and `url`."""
    end = command.index(url) - 1
    begin = max((at + 2 for at in range(end) if command[at] == "-i"), default=1)
    part = command[begin:end]
    return {name: part[at + 1] for at, name in enumerate(part[:-1]) if name.startswith("-")}


def test_the_encoder_of_a_title_holds_few_frames_because_the_picture_is_made_at_the_same_time() -> None:
    title = title_command(TOOL, Path("/c/i.mp4"), 90, title=Path("/o/t.png"), top_left=(1, 2), output=OUT)
    assert last(title, "-rc-lookahead") < last(picture(), "-rc-lookahead")


@pytest.mark.parametrize("command", [picture(), SOUND], ids=["picture", "sound"])
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
            assert options["-threads"] == "3"


@pytest.mark.parametrize(
    ("codec", "decoder"),
    [(codec, name) for codec, names in (*VIDEO_CODECS.items(), *AUDIO_CODECS.items()) for name in names],
)
def test_every_accepted_codec_is_what_its_decoders_decode(codec: str, decoder: str) -> None:
    assert Codec(decoder, "r").canonical_name == codec


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


def test_a_command_seeks_only_if_the_plan_says_so_and_by_the_files_own_timestamps() -> None:
    assert "-ss" not in picture()
    options = input_options(SOUND, f"file:{SOURCE}")
    assert (options["-ss"], options["-seek_timestamp"]) == ("20.500000", "1")


@pytest.mark.parametrize("command", [picture(), SOUND], ids=["picture", "sound"])
def test_all_streams_have_one_origin(command: list[str]) -> None:
    assert "-copyts" in command
    assert "setpts=PTS-21.500000/TB" in " ".join(command)


def test_timestamps_that_jump_are_corrected_packet_by_packet() -> None:
    # Three stretches (time ranges): the first two start at the same timestamp, and the third at a later timestamp.
    stretches = (Stretch(0, 1000, 1000), Stretch(90, 1000, 91_000), Stretch(180, 271_000, 181_000))
    plan = replace(PLAN, container=Container.MPEG_TS, video_reading=Reading(stretches=stretches, skip=60))
    options = input_options(picture(plan), f"file:{SOURCE}")
    moved = "0+gte(N,90)*(90000)+gte(N,180)*(-180000)"
    since = "1000+gte(N,90)*(0)+gte(N,180)*(270000)"
    pts = f"if(eq(PTS,NOPTS),NOPTS,PTS-8589934592*round((PTS-({since}))/8589934592)+{moved})"
    dts = pts.replace("PTS", "DTS").replace("NODTS", "NOPTS")
    assert options["-bsf:2"] == f"setts=pts='{pts}':dts='{dts}',noise=drop='lt(n,60)'"


def test_a_plan_without_sound_extracts_no_sound() -> None:
    with pytest.raises(ValueError, match="no sound"):
        extract_command(TOOL, replace(PLAN, audio_index=None), SOURCE, OUT, DECODED)


def test_the_decoded_packets_are_parsed_from_the_notes() -> None:
    assert parse_moments("-0.5\n0\n0.033333\n") == [-0.5, 0.0, 0.033333]
    assert parse_spans("0.5 960\n0.52 480\n") == [(0.5, 0.52), (0.52, 0.53)]


def test_the_watermark_stands_in_the_lower_right_corner() -> None:
    command = picture(watermark=Path("/cards/w.png"))
    graph = command[command.index("-filter_complex") + 1]
    assert f"[main][1:v]overlay=W-w-{WATERMARK_MARGIN}:H-h-{WATERMARK_MARGIN}:" in graph


def test_slow_filters_are_used_only_when_they_are_needed() -> None:
    def graph(plan: RenderPlan) -> str:
        command = picture(plan)
        return command[command.index("-filter_complex") + 1]

    assert "bwdif" not in graph(PLAN)
    assert "tonemap" not in graph(PLAN)
    assert "overlay" not in graph(PLAN)
    assert not [step for step in ("in_color_matrix", "zscale", "premultiply", "concat") if step in graph(PLAN)]
    assert "bwdif" in graph(replace(PLAN, may_be_interlaced=True))
    assert "tonemap" in graph(replace(PLAN, looks=(replace(LOOK, color=ColorPlan(by="tone_mapping")),)))
    assert "premultiply" in graph(replace(PLAN, looks=(replace(LOOK, color=ColorPlan(alpha=True)),)))


def test_the_only_extra_decoder_is_the_one_that_the_plan_names() -> None:
    assert "libvpx-vp9" not in " ".join(picture())
    command = picture(replace(PLAN, video_decoder="libvpx-vp9"))
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
def test_when_ffmpeg_can_not_mix_all_channels_two_are_taken(complaint: str, channels: str) -> None:
    command = extract_command(TOOL, PLAN, SOURCE, OUT, DECODED)
    other = take_two_channels(command, f"[auto_aresample_0 @ 0x2] {complaint}\nConversion failed!")
    assert other is not None
    at = other.index("-af") + 1
    assert other[at] == f"channelmap={channels}:stereo,{command[at]}"
    assert [*other[:at], *other[at + 1 :]] == [*command[:at], *command[at + 1 :]]


def test_another_complaint_is_no_reason_to_take_two_channels() -> None:
    assert take_two_channels(extract_command(TOOL, PLAN, SOURCE, OUT, DECODED), "Invalid data found") is None
    assert take_two_channels(picture(), "Input channel layout 'ambisonic 1' is not supported") is None
