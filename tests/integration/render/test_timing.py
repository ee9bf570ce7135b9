"""Tests that renders keep picture and sound in sync, also with late starts, gaps, trims and joined recordings.

Each clip flashes and beeps at the times PULSES. The tests find the flashes and beeps in the rendered video.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from anb_core.domain.edit import EditSpec, Switch, Trim
from anb_core.domain.errors import BadInput
from anb_core.ports.renderer import Resources
from tests.support.rendering import OFF, ONLY_MAIN, MakeClip, Output, Render, make_clip

PULSES = (0.5, 1.3, 2.6, 3.2, 4.4, 5.2)
"""Start of each pulse in seconds. A pulse lasts 0.2 s. All pauses differ, so that the tests detect every shift."""
SECONDS = 6.0
LATE = 0.8
"""Delay in seconds of the stream that begins later."""
FRAME, IN_STEP = 1 / 30 + 0.005, 0.040

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-bf", 2, "-g", 250)
CODECS: dict[str, tuple[object, ...]] = {
    "mp4": (*X264, "-c:a", "aac"),
    "mkv": (*X264, "-c:a", "libvorbis"),
    "webm": ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", 8, "-g", 250, "-c:a", "libopus"),
    "avi": ("-c:v", "mpeg4", "-q:v", 3, "-bf", 2, "-g", 250, "-c:a", "pcm_s16le"),
    "ts": (*X264, "-c:a", "aac", "-output_ts_offset", 700),
}
"""Encoder arguments by container. The clips have few keyframes, and B-frames where the codec supports B-frames.

The timestamps of the MPEG-TS file start at 700 s, because the timestamps of a broadcast do not start at 0."""


@dataclass(frozen=True)
class Signal:
    """A test clip with flashes and beeps. Each field is a time range in seconds. The range `hole` has no frames."""

    picture: tuple[float, float] = (0.0, SECONDS)
    sound: tuple[float, float] = (0.0, SECONDS)
    hole: tuple[float, float] = (0.0, 0.0)

    def inputs(self) -> list[object]:
        """Return the ffmpeg arguments that generate the picture and the sound of the clip."""
        begin, end = self.picture
        flash = "+".join(f"between(t,{at - begin - 0.001:.3f},{at - begin + 0.199:.3f})" for at in PULSES)
        keep = f"not(between(t,{self.hole[0] - begin:.3f},{self.hole[1] - begin:.3f}))" if self.hole[1] else "1"
        picture = f"testsrc2=s=160x90:r=30:d={end - begin},drawbox=color=white:t=fill:enable='{flash}',select='{keep}'"
        since, until = self.sound
        beep = "+".join(f"between(t,{at - since:.3f},{at - since + 0.2:.3f})" for at in PULSES)
        sound = f"aevalsrc='0.05*sin(2*PI*300*t)+0.6*sin(2*PI*1000*t)*({beep})':s=48000:d={until - since}"
        return [
            *("-itsoffset", begin, "-f", "lavfi", "-i", picture, "-itsoffset", since, "-f", "lavfi", "-i", sound),
            *("-map", 0, "-map", 1, "-fps_mode", "vfr"),
        ]

    def flashes(self, trim: Trim) -> list[float]:
        """Return the times, in seconds after the trim's start, at which the picture becomes white."""
        begin, end = self.picture
        shown = [at for at in PULSES if begin <= at < end and not self.hole[0] < at + 0.2 <= self.hole[1] + 0.2]
        return _kept(shown, trim)

    def beeps(self, trim: Trim) -> list[float]:
        """Return the times, in seconds after the trim's start, at which the sound becomes loud."""
        return _kept([at for at in PULSES if self.sound[0] <= at < self.sound[1]], trim)


def _kept(moments: Sequence[float], trim: Trim) -> list[float]:
    return [at - trim.start for at in moments if trim.start <= at < trim.start + trim.length]


SOUND_LATE = Signal(sound=(LATE, 4.0))
PICTURE_LATE = Signal(picture=(LATE, SECONDS), hole=(1.8, 2.4))
TOGETHER = Signal(sound=(0.0, 4.0))
PICTURE_SHORT = Signal(picture=(0.0, 4.0))


def rises(levels: npt.NDArray[np.float64], over: float, rate: float, quiet: float) -> list[float]:
    """Return the times in seconds at which the level rises above `over`, after `quiet` or more seconds below `over`."""
    loud = np.flatnonzero(levels > over)
    starts = [at for n, at in enumerate(loud) if n == 0 or at - loud[n - 1] > quiet * rate]
    return [float(at) / rate for at in starts]


def check(output: Output, signal: Signal, trim: Trim) -> None:
    frames = output.rendered.frames
    assert frames == pytest.approx(min(trim.length, SECONDS - trim.start) * 30, abs=2)
    flashes, beeps = rises(output.brightness(), 225, 30, 0.1), rises(output.loudness(), 0.3, 48_000, 0.1)
    assert flashes == pytest.approx(signal.flashes(trim), abs=FRAME)
    assert beeps == pytest.approx(signal.beeps(trim), abs=IN_STEP)


def edit(trim: Trim) -> EditSpec:
    return ONLY_MAIN.model_copy(update={"trim": trim})


@pytest.mark.parametrize(
    "trim",
    [Trim(length=2), Trim(start=2.1, length=1.5), Trim(start=4.2, length=1.3)],
    ids=["beginning", "middle", "beyond the sound"],
)
@pytest.mark.parametrize("kind", list(CODECS))
@pytest.mark.parametrize("signal", [SOUND_LATE, PICTURE_LATE], ids=["sound late", "picture late, with a hole"])
def test_flashes_and_beeps_are_where_they_were(
    clip: MakeClip, render: Render, kind: str, signal: Signal, trim: Trim
) -> None:
    if kind == "avi":  # AVI has no timestamps, so no stream can begin late, and no frame can be missing.
        signal = TOGETHER if signal is SOUND_LATE else PICTURE_SHORT
    check(render(clip(f"clip.{kind}", *signal.inputs(), *CODECS[kind]), edit(trim)), signal, trim)


@pytest.mark.parametrize("second", [0, 26_000], ids=["anew", "hours later"])
@pytest.mark.parametrize("trim", [Trim(), Trim(start=6.8, length=2)], ids=["all", "after the joint"])
def test_a_recording_that_was_joined_to_another_follows_it(
    clip: MakeClip, render: Render, second: int, trim: Trim
) -> None:
    codecs = (*X264, "-g", 30, "-c:a", "mp2")
    whole = clip("one.ts", *Signal().inputs(), *codecs)
    other = clip("two.ts", *Signal().inputs(), *codecs, "-output_ts_offset", second)
    whole.write_bytes(whole.read_bytes() + other.read_bytes())
    output = render(whole, edit(trim))
    wanted = _kept([*PULSES, *(at + SECONDS for at in PULSES)], trim)
    flashes, beeps = rises(output.brightness(), 225, 30, 0.1), rises(output.loudness(), 0.3, 48_000, 0.1)
    # Allow 0.1 s, because the second recording begins at the end of the longer stream of the first recording.
    assert flashes == pytest.approx(wanted, abs=0.1)
    assert beeps == pytest.approx(flashes, abs=IN_STEP)


def test_a_recording_that_goes_on_in_other_streams_is_refused_with_the_second(clip: MakeClip, render: Render) -> None:
    source = clip("one.ts", *Signal().inputs(), *CODECS["ts"])
    other = clip("two.ts", "-i", source, "-c", "copy", "-mpegts_start_pid", 80, "-mpegts_pmt_start_pid", 4352)
    source.write_bytes(source.read_bytes() + other.read_bytes())
    with pytest.raises(BadInput, match=r"6\.[01] s") as caught:
        render(source)
    assert caught.value.code == "unsupported_join"


def test_another_recording_between_two_with_the_same_streams_is_refused_with_the_second(
    clip: MakeClip, render: Render
) -> None:
    source = clip("one.ts", *Signal().inputs(), *CODECS["ts"])
    other = clip("two.ts", "-t", 1, "-i", source, "-c", "copy", "-mpegts_start_pid", 80, "-mpegts_pmt_start_pid", 4352)
    source.write_bytes(source.read_bytes() + other.read_bytes() + source.read_bytes())
    with pytest.raises(BadInput, match=r"(5\.9|6\.[01]) s") as caught:
        render(source, edit(Trim(length=7)))
    assert caught.value.code == "unsupported_join"
    check(render(source, edit(Trim(start=3.9, length=2))), Signal(), Trim(start=3.9, length=2))


@pytest.mark.parametrize("size", [188, 192, 204])
def test_a_file_may_begin_in_the_middle_of_a_packet_of_any_size(clip: MakeClip, render: Render, size: int) -> None:
    source = clip("clip.ts", *Signal().inputs(), *CODECS["ts"], "-g", 30)
    data = source.read_bytes()
    before, after = bytes(4 if size == 192 else 0), bytes(16 if size == 204 else 0)
    packets = (before + data[at : at + 188] + after for at in range(0, len(data), 188))
    source.write_bytes(b"".join(packets)[100:])
    output = render(source, edit(Trim(length=3)))
    flashes, beeps = rises(output.brightness(), 225, 30, 0.1), rises(output.loudness(), 0.3, 48_000, 0.1)
    assert len(flashes) >= 3
    assert flashes == pytest.approx(beeps, abs=IN_STEP)


@pytest.mark.parametrize("cut", [100, 300])
def test_a_recording_without_key_frames_may_begin_anywhere(clip: MakeClip, render: Render, cut: int) -> None:
    # In a file with intra refresh, no frame is a keyframe. Each frame updates a part of the picture.
    # The decoder drops all frames before the first complete picture.
    refresh = (*X264, "-bf", 0, "-s", "640x360", "-x264-params", "intra-refresh=1:keyint=30", "-c:a", "aac")
    source = clip("clip.ts", *Signal().inputs(), *refresh)
    source.write_bytes(source.read_bytes()[188 * cut :])
    output = render(source)
    flashes, beeps = rises(output.brightness(), 225, 30, 0.1), rises(output.loudness(), 0.3, 48_000, 0.1)
    assert len(flashes) >= 3
    assert flashes == pytest.approx(beeps[-len(flashes) :], abs=IN_STEP)


def test_an_edit_list_that_leaves_out_the_beginning_moves_nothing(clip: MakeClip, render: Render) -> None:
    shifted = ("-output_ts_offset", -1, "-avoid_negative_ts", "disabled")
    output = render(clip("clip.mp4", *Signal().inputs(), *CODECS["mp4"], *shifted), edit(Trim(length=2)))
    assert rises(output.brightness(), 225, 30, 0.1) == pytest.approx([0.3, 1.6], abs=FRAME)
    assert rises(output.loudness(), 0.3, 48_000, 0.1) == pytest.approx([0.3, 1.6], abs=IN_STEP)


def test_an_empty_edit_in_a_fragmented_file_does_not_count_for_its_length(clip: MakeClip, render: Render) -> None:
    fragments = ("-movflags", "+dash+delay_moov+frag_keyframe")
    trim = Trim(start=4.2)
    check(render(clip("c.mp4", *PICTURE_LATE.inputs(), *CODECS["mp4"], *fragments), edit(trim)), PICTURE_LATE, trim)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Resources:
    """A deployment's own cards: an intro of one frame and an outro of two frames."""
    folder = tmp_path_factory.mktemp("few")
    cards = [
        make_clip(
            folder / f"{frames}.mp4", *("-f", "lavfi", "-i", "testsrc2=s=160x90:r=30", "-frames:v", frames), *X264
        )
        for frames in (1, 2)
    ]
    return Resources(intro=cards[0], outro=cards[1])


@pytest.mark.parametrize(
    ("name", "cards"),
    [
        *(("1.mp4", "intro, outro"), ("1.mkv", "intro"), ("1.ts", "outro"), ("1.avi", "intro, outro")),
        *(("2.ts", "intro, outro"), ("2.mp4", "outro"), ("3.mkv", "intro, outro"), ("3.avi", "no cards")),
    ],
)
def test_one_picture_is_a_video_whatever_comes_before_and_after_it(
    clip: MakeClip, render: Render, few: Resources, name: str, cards: str
) -> None:
    frames, kind = int(name[0]), name[2:]
    source = clip(name, "-f", "lavfi", "-i", "testsrc2=s=160x90:r=30", "-frames:v", frames, *CODECS[kind])
    intro, outro = "intro" in cards, "outro" in cards
    wanted = EditSpec(watermark=OFF, intro=Switch(enabled=intro), outro=Switch(enabled=outro))
    assert render(source, wanted, resources=few).rendered.frames == intro + frames + 2 * outro


@pytest.mark.parametrize("kind", ["mp4", "ts"])
def test_a_cut_in_the_last_hundredth_of_a_second_keeps_a_picture(
    clip: MakeClip, render: Render, few: Resources, kind: str
) -> None:
    source = clip(f"last.{kind}", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=30:d=1", *CODECS[kind])
    output = render(source, EditSpec(watermark=OFF, trim=Trim(start=0.995)), resources=few)
    assert output.rendered.frames == 1 + 1 + 2


def test_another_program_of_a_broadcast_beside_the_picture_does_not_follow_it(clip: MakeClip, render: Render) -> None:
    one = clip("one.ts", *Signal().inputs(), *CODECS["ts"])
    other = ("-f", "lavfi", "-i", f"testsrc=s=160x90:r=30:d={SECONDS}", "-map", 0, "-map", 1)
    source = clip("two.ts", "-i", one, *other, "-c", "copy", "-c:v:1", "libx264", "-preset", "ultrafast")
    check(render(source, edit(Trim(start=4.2))), Signal(), Trim(start=4.2))


def test_an_edit_list_that_shows_a_part_twice_is_followed(clip: MakeClip, render: Render) -> None:
    # The second entry of the edit list starts far after a keyframe, so the decoder must begin at that keyframe.
    source = clip("clip.mp4", *Signal().inputs(), *CODECS["mp4"], "-bf", 0, "-output_ts_offset", 1)
    data = bytearray(source.read_bytes())
    seconds = int.from_bytes(data[data.index(b"mvhd") + 16 :][:4])
    at = 0
    for clock in (15360, 48_000):
        at = data.index(b"elst", at) + 12
        assert data[at - 4 : at] == (2).to_bytes(4)
        for edit_at in (at, at + 12):
            data[edit_at : edit_at + 8] = (seconds * 5 // 2).to_bytes(4) + (3 * clock).to_bytes(4)
    source.write_bytes(data)
    output = render(source)
    twice = [at - 3 + again for again in (0, 2.5) for at in PULSES if 3 <= at < 5.5]
    assert output.rendered.frames == pytest.approx(150, abs=1)
    assert rises(output.brightness(), 225, 30, 0.1) == pytest.approx(twice, abs=FRAME)
    assert rises(output.loudness(), 0.3, 48_000, 0.1) == pytest.approx(twice, abs=IN_STEP)
