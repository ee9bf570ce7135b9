"""Tests that the sound of a finished video is in sync with the picture, and as long as the picture."""

from pathlib import Path

import av
import numpy as np
import pytest

from anb_core.domain.edit import EditSpec, Trim
from tests.support.rendering import OFF, ONLY_MAIN, MakeClip, Output, Render

FRAME = 1 / 30
IN_STEP = 0.040
WITH_INTRO = EditSpec(watermark=OFF, outro=OFF)
INTRO = 3.0

# The picture is black with a white flash from 1.0 to 1.2 s. The sound is silent with a beep at the same time.
FLASH = (
    "-f",
    "lavfi",
    "-i",
    "color=black:s=320x180:r=30:d=2,drawbox=t=fill:color=white:enable='between(t,0.999,1.199)'",
)
BEEP = ("-f", "lavfi", "-i", "aevalsrc='0.8*sin(2*PI*1000*t)*between(t,1,1.2)':s={rate}:c={layout}:d=2")
H264, AAC = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"), ("-c:a", "aac")


def beep(rate: int = 48_000, layout: str = "stereo") -> list[str]:
    return [part.format(rate=rate, layout=layout) for part in BEEP]


def flash_at(output: Output, *, after: float = 0.0) -> float:
    """Return the time in seconds of the first white picture at or after the time `after`."""
    first = round(after / FRAME)
    return (first + int(np.argmax(output.brightness()[first:] > 128))) * FRAME


def beep_at(output: Output, *, after: float = 0.0) -> float:
    """Return the time in seconds of the first loud sound at or after the time `after`."""
    first = round(after * 48_000)
    return (first + int(np.argmax(output.loudness()[first:] > 0.2))) / 48_000


def ends(output: Output) -> tuple[float, float]:
    """Return the end times of picture and sound in seconds."""
    with av.open(output.path) as opened:
        last = {"video": 0.0, "audio": 0.0}
        for packet in opened.demux():
            if packet.pts is not None and packet.duration is not None:
                end = float((packet.pts + packet.duration) * packet.time_base)
                last[packet.stream.type] = max(last[packet.stream.type], end)
    return last["video"], last["audio"]


def test_after_the_intro_the_sound_is_in_step_with_the_picture(clip: MakeClip, render: Render) -> None:
    output = render(clip("flash.mp4", *FLASH, *beep(), *H264, *AAC), WITH_INTRO)
    flash, sound = flash_at(output, after=INTRO), beep_at(output)
    assert abs(flash - (INTRO + 1)) <= FRAME
    assert abs(flash - sound) < IN_STEP


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("sound-late.mp4", ["-itsoffset", 0.5]),
        ("sound-early.mkv", ["-itsoffset", -0.5]),
    ],
)
def test_a_stream_that_begins_later_than_the_other_stays_in_step(
    clip: MakeClip, render: Render, name: str, arguments: list[object]
) -> None:
    # ffmpeg delays the sound by `offset`. So generate the beep `offset` seconds earlier, to match the flash.
    offset = float(str(arguments[1]))
    sound = ["-f", "lavfi", "-i", f"aevalsrc='0.8*sin(2*PI*1000*t)*between(t,{1 - offset},{1.2 - offset})':s=48000:d=2"]
    output = render(clip(name, *FLASH, *arguments, *sound, *H264, *AAC))
    assert abs(flash_at(output) - beep_at(output)) < IN_STEP


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv", "cut.ts"])
def test_a_cut_leaves_sound_and_picture_in_step(clip: MakeClip, render: Render, name: str) -> None:
    source = clip(name, *FLASH, *beep(), *H264, "-g", 50, *AAC)
    output = render(source, ONLY_MAIN.model_copy(update={"trim": Trim(start=0.7, length=1)}))
    flash = flash_at(output)
    assert abs(flash - 0.3) <= FRAME
    assert abs(flash - beep_at(output)) < IN_STEP


@pytest.mark.parametrize(
    ("rate", "layout", "arguments"),
    [
        (22_050, "mono", ["-c:a", "aac"]),
        (44_100, "5.1", ["-c:a", "aac"]),
        (48_000, "stereo", ["-c:a", "libmp3lame"]),
        (8_000, "mono", ["-c:a", "pcm_alaw"]),
    ],
)
def test_any_sound_becomes_stereo_at_48_kilohertz(
    clip: MakeClip, render: Render, rate: int, layout: str, arguments: list[str]
) -> None:
    output = render(clip("sound.mov", *FLASH, *beep(rate, layout), *H264, *arguments))
    with av.open(output.path) as opened:
        context = opened.streams.audio[0].codec_context
        assert (context.sample_rate, context.channels) == (48_000, 2)
    assert abs(flash_at(output) - beep_at(output)) < IN_STEP


def test_a_clip_without_sound_gets_silence_as_long_as_the_picture(render: Render, footage: Path) -> None:
    output = render(footage / "bikes.mp4", ONLY_MAIN.model_copy(update={"trim": Trim(length=1)}))
    assert output.loudness().max() == 0
    picture, sound = ends(output)
    assert picture == 1.0
    assert abs(picture - sound) <= 1024 / 48_000


@pytest.mark.parametrize("seconds", [0.5, 1.7])
def test_picture_and_sound_end_together_whichever_was_shorter(clip: MakeClip, render: Render, seconds: float) -> None:
    tone = ["-f", "lavfi", "-i", f"sine=f=440:d={seconds}"]
    picture = ["-f", "lavfi", "-i", "color=gray:s=320x180:r=30:d=1"]
    output = render(clip("uneven.mp4", *picture, *tone, *H264, *AAC))
    shown, heard = ends(output)
    assert abs(shown - heard) <= 1024 / 48_000
    assert abs(shown - max(1.0, seconds)) <= 2 * FRAME


def test_of_two_sounds_the_one_that_the_file_prefers_is_taken(clip: MakeClip, render: Render) -> None:
    silence = ["-f", "lavfi", "-i", "anullsrc=d=2"]
    source = clip(
        "two.mp4",
        *(*FLASH, *silence, *beep(), "-map", 0, "-map", 1, "-map", 2, *H264, *AAC),
        *("-disposition:a:0", 0, "-disposition:a:1", "default"),
    )
    output = render(source)
    assert abs(flash_at(output) - beep_at(output)) < IN_STEP


@pytest.mark.parametrize("end", [0.36, 0.9], ids=["short", "long"])
def test_a_hole_in_the_sound_becomes_silence_and_nothing_moves(clip: MakeClip, render: Render, end: float) -> None:
    # Drop the sound packets from 0.3 s to `end`.
    source = clip(
        "hole.mkv",
        *(*FLASH, *beep(), *H264, "-c:a", "pcm_s16le"),
        *("-bsf:a", f"noise=drop='between(pts*tb,0.3,{end})'"),
    )
    output = render(source)
    assert abs(flash_at(output) - beep_at(output)) < IN_STEP


def test_sound_that_changes_its_channels_in_mid_file_stays_in_step(clip: MakeClip, render: Render) -> None:
    first = clip("first.ts", *FLASH, *beep(48_000, "stereo"), *H264, "-bf", 0, *AAC)
    second = clip("second.ts", *FLASH, *beep(44_100, "5.1"), *H264, "-bf", 0, *AAC, "-output_ts_offset", 2)
    both = first.with_name("both.ts")
    both.write_bytes(first.read_bytes() + second.read_bytes())
    output = render(both)
    assert abs(flash_at(output) - beep_at(output)) < IN_STEP
    assert abs(flash_at(output, after=1.5) - beep_at(output, after=1.5)) < IN_STEP


NINE = "|".join(["0.8*sin(2*PI*1000*t)*between(t,1,1.2)"] * 9)


@pytest.mark.parametrize(
    ("name", "sound", "codec"),
    [
        ("ambisonic.mkv", [*beep(layout="mono"), "-af", "pan=ambisonic 1|c0=c0"], ["libopus", "-mapping_family", 2]),
        ("two-lefts.mov", [*beep(layout="mono"), "-af", "pan=FL+FL|c0=c0|c1=c0"], ["pcm_s16le"]),
        ("nine.mov", ["-f", "lavfi", "-i", f"aevalsrc='{NINE}':s=48000:d=2"], ["pcm_s16le"]),
    ],
)
def test_channel_layouts_that_ffmpeg_can_not_mix_are_still_heard(
    clip: MakeClip, render: Render, name: str, sound: list[object], codec: list[object]
) -> None:
    output = render(clip(name, *FLASH, *sound, *H264, "-c:a", *codec))
    assert abs(flash_at(output) - beep_at(output)) < IN_STEP


def test_of_two_sounds_one_that_can_not_be_decoded_is_left_out(clip: MakeClip, render: Render) -> None:
    silence = ["-f", "lavfi", "-i", "anullsrc=d=2"]
    tracks = ["-map", 0, "-map", 1, "-map", 2, *H264, "-c:a:0", "libopus", "-c:a:1", "aac"]
    source = clip("two.mkv", *FLASH, *silence, *beep(), *tracks, "-disposition:a:0", "default")
    data = source.read_bytes()
    head = data.index(b"OpusHead")
    # Write a channel mapping family that Opus does not define, so that no decoder accepts the first sound.
    source.write_bytes(data[: head + 18] + b"\x63" + data[head + 19 :])
    output = render(source)
    assert abs(flash_at(output) - beep_at(output)) < IN_STEP
