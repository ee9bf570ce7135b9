"""Tests that finished videos have the documented format and the right picture, for all kinds of uploads."""

import hashlib
from pathlib import Path

import av
import numpy as np
import pytest

from anb_core.domain.edit import EditSpec, Trim
from anb_core.ports.renderer import Resources
from anb_core.ports.stop import Stop
from anb_worker.render.engine import STEPS, RenderEngine
from anb_worker.render.mp4_boxes import boxes
from tests.support import eventually
from tests.support.rendering import OFF, ONLY_MAIN, MakeClip, Output, Render, render_clip

MAIN_BEGINS = 0.03
"""The progress of a render when the picture of the main part begins."""
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
# The picture has four colored quarters: red and green in the upper half, blue and white in the lower half.
QUARTERS = (
    "drawbox=iw/2:0:iw/2:ih/2:lime:fill,drawbox=0:ih/2:iw/2:ih/2:blue:fill,drawbox=iw/2:ih/2:iw/2:ih/2:white:fill"
)


def quarters(width: int, height: int, *, seconds: float = 1) -> list[str]:
    return ["-f", "lavfi", "-i", f"color=red:s={width}x{height}:r=30:d={seconds},{QUARTERS}"]


def shows(output: Output, x: int, y: int, color: tuple[int, int, int], *, at: float = 0.5) -> bool:
    return bool(np.abs(output.frame(at)[y, x].astype(int) - color).max() < 40)


def bars(output: Output, *, at: float = 0.5) -> tuple[int, int, int, int]:
    """Return the widths of the left, right, top and bottom black bars, in pixels."""
    lit = output.frame(at).max(axis=2) > 40
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    return int(columns[0]), 1279 - int(columns[-1]), int(rows[0]), 719 - int(rows[-1])


@pytest.fixture(scope="module")
def finished(engine: RenderEngine, footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Output:
    """Real footage, rendered with intro, outro and watermark."""
    workdir = tmp_path_factory.mktemp("finished") / "work"
    return render_clip(engine, footage / "bigbuckbunny.mp4", EditSpec(trim=Trim(start=1, length=2)), workdir)


def test_real_footage_comes_out_in_the_promised_form(finished: Output) -> None:
    with av.open(finished.path) as opened:
        video, audio = opened.streams.video[0], opened.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt, video.width, video.height) == (
            "h264",
            "yuv420p",
            1280,
            720,
        )
        assert video.average_rate == 30
        assert video.frames == 90 + 60 + 90
        assert video.codec_context.sample_aspect_ratio == 1
        context = video.codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
        assert (audio.codec_context.name, audio.codec_context.sample_rate, audio.codec_context.channels) == (
            "aac",
            48_000,
            2,
        )
        assert opened.duration == 8.0 * av.time_base


def test_a_player_can_begin_before_the_whole_file_is_there(finished: Output) -> None:
    kinds = [box.kind for box in boxes(finished.path)]
    assert kinds.index("moov") < kinds.index("mdat")


def test_the_reported_facts_of_the_file_are_true(finished: Output) -> None:
    data = finished.path.read_bytes()
    assert finished.rendered.size == len(data)
    assert finished.rendered.sha256 == hashlib.sha256(data).hexdigest()
    assert (finished.rendered.width, finished.rendered.height) == (1280, 720)
    assert (finished.rendered.frames, finished.rendered.duration) == (240, 8.0)


def test_progress_goes_from_nothing_to_all_and_never_back(finished: Output) -> None:
    assert finished.progress[0] == 0.0
    assert finished.progress[-1] == 1.0
    assert finished.progress == sorted(finished.progress)
    # Each step's beginning, the end, and something in between.
    assert len(set(finished.progress)) > len(STEPS) + 1


def test_every_step_is_announced_in_order(finished: Output) -> None:
    assert finished.steps == list(STEPS) == ["probe", "main", "audio", "title", "join", "verify"]


@pytest.mark.parametrize("threads", [1, 2])
def test_sound_and_title_are_made_beside_the_picture_if_there_are_two_processors(
    warm_cards: Path, footage: Path, tmp_path: Path, threads: int
) -> None:
    beside = [tmp_path / "sound.mp4", tmp_path / "intro.mp4"]

    def on_progress(share: float) -> None:
        if share > MAIN_BEGINS and threads > 1:
            eventually(lambda: all(path.exists() for path in beside))

    def on_step(name: str) -> None:
        if name == "audio":
            assert [path.exists() for path in beside] == [threads > 1] * 2

    RenderEngine(warm_cards, threads=threads).render(
        footage / "carphone_distorted.mp4",
        EditSpec(trim=Trim(length=1)),
        "A title",
        tmp_path,
        on_progress=on_progress,
        on_step=on_step,
        stop=Stop(),
        resources=Resources(),
    )


def test_every_frame_can_be_decoded_and_comes_in_time(finished: Output) -> None:
    with av.open(finished.path) as opened:
        frames = list(opened.decode(video=0))
    assert [round((frame.time or 0.0) * 30) for frame in frames] == list(range(240))
    assert not any(frame.is_corrupt for frame in frames)


def test_the_intro_has_the_mark_and_the_title_and_the_outro_the_mark(finished: Output) -> None:
    intro, late_intro, outro = finished.frame(0.3), finished.frame(2.0), finished.frame(7.0)
    title = np.s_[490:540, 400:880]
    assert intro[title].max() < 120
    assert late_intro[title].max() > 220
    assert late_intro[300, 370][0] > 200  # The pixel is in the orange logo.
    assert outro[280, 600][0] > 200
    assert outro[title].max() < 120


def test_the_watermark_is_over_the_main_part_only(finished: Output, render: Render, footage: Path) -> None:
    edit = EditSpec(trim=Trim(start=1, length=0.5), watermark=OFF, intro=OFF, outro=OFF)
    plain = render(footage / "bigbuckbunny.mp4", edit).frame(0.2).astype(int)
    marked = finished.frame(3.2).astype(int)
    changed = np.abs(marked - plain).max(axis=2) > 60
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert rows[0] > 600
    assert columns[0] > 1100
    assert changed.sum() > 500
    corner = np.s_[640:690, 1120:1260]
    assert finished.frame(2.0)[corner].max() < 120


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 360), (0, 0, 0, 0)),
        ((480, 480), (280, 280, 0, 0)),
        ((854, 480), (0, 0, 0, 0)),
        ((638, 272), (0, 0, 87, 87)),
        ((161, 241), (399, 399, 0, 0)),
    ],
)
def test_any_shape_is_fitted_and_never_stretched(
    clip: MakeClip, render: Render, size: tuple[int, int], expected: tuple[int, ...]
) -> None:
    source = clip("shape.mp4", *quarters(*size, seconds=0.5), "-pix_fmt", "yuv444p")
    output = render(source)
    assert np.abs(np.subtract(bars(output, at=0.2), expected)).max() <= 3


def test_pixels_that_are_not_square_are_made_square(clip: MakeClip, render: Render) -> None:
    # The clip has the format of a DVD: 720x576 stored pixels, which a player shows at 16:9.
    source = clip("anamorphic.mp4", *quarters(720, 576, seconds=0.5), "-vf", "setsar=64/45")
    assert max(bars(render(source), at=0.2)) <= 3


@pytest.mark.parametrize(
    ("rotation", "corners"),
    [(90, (BLUE, RED, WHITE, GREEN)), (180, (WHITE, BLUE, GREEN, RED)), (270, (GREEN, WHITE, RED, BLUE))],
)
def test_a_clip_that_a_phone_turned_comes_out_upright_and_letterboxed(
    clip: MakeClip, render: Render, rotation: int, corners: tuple[tuple[int, int, int], ...]
) -> None:
    flat = clip("flat.mp4", *quarters(640, 360, seconds=0.5))
    # -display_rotation turns the picture counterclockwise, but a phone stores a clockwise angle, so negate the angle.
    turned = clip("turned.mp4", "-display_rotation", -rotation, "-i", flat, "-c", "copy")
    output = render(turned)
    portrait = rotation != 180
    assert np.abs(np.subtract(bars(output, at=0.2), (437, 437, 0, 0) if portrait else (0, 0, 0, 0))).max() <= 3
    left, right = (500, 780) if portrait else (200, 1000)
    places = [(left, 100), (right, 100), (left, 600), (right, 600)]
    assert [shows(output, x, y, color, at=0.2) for (x, y), color in zip(places, corners, strict=True)] == [True] * 4


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ten-bit.mp4", ["-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=none"]),
        ("four-two-two.mov", ["-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"]),
        ("full-range.avi", ["-c:v", "mjpeg", "-pix_fmt", "yuvj444p", "-q:v", "2"]),
        ("browser.webm", ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"]),
        ("recorder.mkv", ["-c:v", "libx264"]),
        ("camera.ts", ["-c:v", "libx264"]),
        ("camera.m2ts", ["-c:v", "mpeg2video", "-q:v", "2"]),
        ("fragmented.mp4", ["-c:v", "libx264", "-movflags", "frag_keyframe+empty_moov"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cameras_and_browsers_write_is_rendered_in_true_colors(
    clip: MakeClip, render: Render, name: str, arguments: list[str]
) -> None:
    output = render(clip(name, *quarters(640, 360), *arguments))
    assert output.rendered.frames == pytest.approx(30, abs=1)
    places = {(200, 100): RED, (1000, 100): GREEN, (200, 600): BLUE, (1000, 600): WHITE}
    assert [shows(output, x, y, color) for (x, y), color in places.items()] == [True] * 4


def test_a_picture_that_changes_its_size_in_mid_stream_is_fitted_anew(clip: MakeClip, render: Render) -> None:
    wide = clip("wide.ts", *quarters(640, 360), "-c:v", "libx264")
    tall = clip("tall.ts", *quarters(360, 640), "-c:v", "libx264", "-output_ts_offset", 1)
    both = wide.with_name("both.ts")
    both.write_bytes(wide.read_bytes() + tall.read_bytes())
    output = render(both)
    assert output.rendered.frames == pytest.approx(60, abs=2)
    assert max(bars(output, at=0.5)) <= 3
    assert np.abs(np.subtract(bars(output, at=1.5), (437, 437, 0, 0))).max() <= 3


def test_white_in_an_hdr_clip_stays_bright_and_neutral(clip: MakeClip, render: Render) -> None:
    # In the HDR format HLG, white is 75 % of the signal. In the output, white must be bright and without color.
    source = clip(
        "hdr.mp4",
        *("-f", "lavfi", "-i", "color=black:s=640x360:r=30:d=0.5,format=yuv420p10le"),
        *("-vf", "geq=lum='if(lt(X,W/2),721,64)':cb=512:cr=512,format=yuv420p10le"),
        *(
            "-c:v",
            "libx265",
            "-x265-params",
            "log-level=none:colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc",
        ),
        *("-color_primaries", "bt2020", "-color_trc", "arib-std-b67", "-colorspace", "bt2020nc"),
    )
    picture = render(source).frame(0.2)
    assert picture[360, 300].min() > 190
    assert int(picture[360, 300].max()) - int(picture[360, 300].min()) < 12
    assert picture[360, 900].max() < 20


def test_an_interlaced_picture_has_no_combs(clip: MakeClip, render: Render) -> None:
    # A white bar moves by 16 pixels per field. Without deinterlacing, every second line of the bar would be shifted.
    source = clip(
        "interlaced.ts",
        *("-f", "lavfi", "-i", "color=black:s=720x576:r=50:d=1"),
        *("-f", "lavfi", "-i", "color=white:s=120x576:r=50:d=1"),
        *("-filter_complex", "overlay=x='100+t*800':y=0,tinterlace=interleave_top,setfield=tff"),
        *("-c:v", "mpeg2video", "-flags", "+ilme+ildct", "-q:v", "2"),
    )
    picture = render(source).frame(0.4).max(axis=2).astype(int)
    middle = picture[200:500]
    assert middle.max() > 200
    assert np.abs(np.diff(middle, axis=0)).max() < 60


def test_frames_that_come_at_uneven_times_are_shown_when_they_are_due(clip: MakeClip, render: Render) -> None:
    # The frame rate varies, as in a screen recording. The brightness is 40 from 0 s, 120 from 0.2 s and 200 from 1.5 s.
    levels = clip(
        "uneven.mkv",
        *("-f", "lavfi", "-i", "color=black:s=320x180:r=10:d=2,format=yuv420p"),
        *(
            "-vf",
            "geq=lum='if(lt(T,0.2),40,if(lt(T,1.5),120,200))':cb=128:cr=128,select='eq(n,0)+eq(n,2)+eq(n,15)+eq(n,19)'",
        ),
        *("-fps_mode", "vfr", "-c:v", "libx264"),
    )
    brightness = render(levels).brightness()
    assert brightness[:6].max() < 60
    assert 90 < brightness[7:44].min() <= brightness[7:44].max() < 150
    assert brightness[46:].min() > 180


def test_a_cut_begins_with_what_was_on_the_screen_at_that_moment(clip: MakeClip, render: Render) -> None:
    # The clip has one frame per second, and every third frame is a keyframe. Each frame has a different brightness.
    source = clip(
        "slides.mp4",
        *("-f", "lavfi", "-i", "color=black:s=320x180:r=1:d=10,format=yuv420p,geq=lum='20+20*N':cb=128:cr=128"),
        *("-c:v", "libx264", "-g", 3),
    )
    output = render(source, ONLY_MAIN.model_copy(update={"trim": Trim(start=4.5, length=2)}))
    seconds = np.round((output.brightness() / 255 * 219 + 16 - 20) / 20).astype(int)
    assert output.rendered.frames == 60
    assert list(seconds[:14]) == [4] * 14
    assert list(seconds[17:44]) == [5] * 27
    assert list(seconds[47:]) == [6] * 13


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv", "cut.ts", "cut.avi"])
def test_a_cut_is_exact_in_every_kind_of_file(clip: MakeClip, render: Render, name: str) -> None:
    # The picture is black and becomes white at 3 s. The keyframes are 4 s apart, so the cut is not at a keyframe.
    source = clip(
        name,
        *("-f", "lavfi", "-i", "color=black:s=320x180:r=30:d=5,drawbox=t=fill:color=white:enable='gte(t,3)'"),
        *("-c:v", "libx264", "-g", 120, "-bf", 2 if name != "cut.avi" else 0, "-x264-params", "scenecut=0"),
    )
    brightness = render(source, ONLY_MAIN.model_copy(update={"trim": Trim(start=2.5, length=1)})).brightness()
    assert len(brightness) == 30
    assert abs(int(np.argmax(brightness > 128)) - 15) <= 1


def test_a_cover_picture_beside_the_video_is_left_alone(clip: MakeClip, render: Render) -> None:
    cover = clip("cover.png", *quarters(64, 64), "-frames:v", 1)
    source = clip(
        "with-cover.mp4",
        *("-i", cover, "-f", "lavfi", "-i", "color=gray:s=320x180:r=30:d=0.5", "-map", "0", "-map", "1"),
        *("-c:v:0", "png", "-disposition:v:0", "attached_pic", "-c:v:1", "libx264"),
    )
    assert render(source).rendered.frames == 15


def test_nothing_of_the_uploads_metadata_is_passed_on(clip: MakeClip, render: Render) -> None:
    source = clip(
        "place.mov",
        *(*quarters(320, 180), "-metadata", "location=+04.6097-074.0817/", "-metadata", "title=private"),
        *("-metadata", "com.apple.quicktime.make=Secret", "-movflags", "use_metadata_tags"),
    )
    data = render(source).path.read_bytes()
    assert not [word for word in (b"04.6097", b"private", b"Secret") if word in data]
