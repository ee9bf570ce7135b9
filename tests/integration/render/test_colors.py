"""Tests that rendered colors are right even if the upload has wrong, missing or changing color tags."""

from pathlib import Path

import numpy as np
import pytest

from anb_core.domain.edit import Trim
from anb_core.domain.errors import BadInput
from tests.support.rendering import ONLY_MAIN, MakeClip, Output, Render, make_clip

RED, GREEN, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 0)
HD, SD = "1280x720", "720x576"
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
TS = ("-f", "mpegts")
# The Y, Cb and Cr values of pure red, by color matrix.
RED_709, RED_601, RED_2020, RED_YCGCO = (63, 102, 240), (81, 90, 240), (97, 93, 192), (71, 72, 240)


def plain(codes: tuple[int, int, int], size: str, *, seconds: float = 0.3, aspect: str = "1") -> list[str]:
    """Return ffmpeg's input arguments for a picture of one color without color tags. `codes` are Y, Cb and Cr."""
    y, u, v = codes
    untagged = "setparams=range=unknown:colorspace=unknown:color_primaries=unknown:color_trc=unknown"
    picture = f"color=s={size}:r=30:d={seconds},format=yuv420p,lutyuv={y}:{u}:{v},setsar={aspect},{untagged}"
    return ["-f", "lavfi", "-i", picture]


def says(matrix: int, primaries: int, transfer: int = 1) -> list[str]:
    tags = f"matrix_coefficients={matrix}:colour_primaries={primaries}:transfer_characteristics={transfer}"
    return [*X264, "-bsf:v", f"h264_metadata={tags}"]


def shows(output: Output, color: tuple[int, int, int], *, at: float = 0.1, x: int = 640, within: int = 12) -> bool:
    """Return whether the pixel in column `x` of the middle line has the given RGB color at `at` seconds."""
    return bool(np.abs(output.frame(at)[360, x].astype(int) - color).max() <= within)


def joined(path: Path, *parts: list[str]) -> Path:
    """Make an MPEG-TS file in which several H.264 streams follow each other."""
    stream = path.with_suffix(".h264")
    pieces = [make_clip(stream, *part, "-f", "h264").read_bytes() for part in parts]
    stream.write_bytes(b"".join(pieces))
    return make_clip(path, "-framerate", 30, "-f", "h264", "-i", stream, "-c", "copy", *TS)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("untagged-hd.mp4", [*plain(RED_709, HD), *X264]),
        ("untagged-sd.avi", [*plain(RED_601, SD), "-c:v", "mpeg4", "-q:v", "2"]),
        ("no-matrix-but-rgb.mp4", [*plain(RED_709, HD), *says(0, 1, 13)]),
        ("wide.mp4", [*plain(RED_2020, HD), *says(9, 9)]),
        ("ycgco.mp4", [*plain(RED_YCGCO, SD), *says(8, 1)]),
        ("full.mp4", [*plain((54, 99, 255), HD), *X264, "-bsf:v", "h264_metadata=video_full_range_flag=1"]),
        ("rgb.mp4", ["-f", "lavfi", "-i", f"color=red:s={HD}:r=30:d=0.3,format=gbrp", "-c:v", "libx264rgb"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_red_stays_red(clip: MakeClip, render: Render, name: str, arguments: list[str]) -> None:
    assert shows(render(clip(name, *arguments)), RED)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("browser.webm", ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-pix_fmt", "yuva420p", "-auto-alt-ref", 0]),
        ("editor.mov", ["-c:v", "prores_ks", "-profile:v", 4444, "-pix_fmt", "yuva444p10le"]),
    ],
)
def test_transparent_pictures_are_shown_on_black(
    clip: MakeClip, render: Render, name: str, codec: list[object]
) -> None:
    # The left third is opaque, the middle third is half transparent, and the right third is fully transparent.
    thirds = "geq='lum(X,Y)':'cb(X,Y)':'cr(X,Y)':'if(lt(X,W/3),255,if(lt(X,2*W/3),128,0))'"
    source = clip(name, "-f", "lavfi", "-i", f"color=lime:s=480x270:r=30:d=0.2,format=yuva444p,{thirds}", *codec)
    output = render(source)
    assert shows(output, GREEN, x=200, within=25)
    assert shows(output, (0, 128, 0), x=640, within=15)
    assert shows(output, BLACK, x=1080)


def test_a_pixel_aspect_that_changes_in_mid_file_is_followed(tmp_path: Path, render: Render) -> None:
    white = (235, 128, 128)
    source = joined(
        tmp_path / "aspect.ts",
        [*plain(white, "960x720", seconds=1), *X264],
        [*plain(white, "960x720", seconds=1, aspect="4/3"), *X264],
    )
    output = render(source, ONLY_MAIN.model_copy(update={"trim": Trim(start=0.5, length=1)}))
    edge = np.array([output.frame(n / 30)[360, 60].max() for n in range(30)])
    assert edge[:14].max() < 20
    assert edge[16:].min() > 230
    assert shows(output, (255, 255, 255), at=0.2)


def test_colors_and_sizes_that_change_in_mid_file_are_followed(tmp_path: Path, render: Render) -> None:
    source = joined(
        tmp_path / "colors.ts",
        [*plain(RED_YCGCO, HD), *says(8, 1)],
        [*plain(RED_601, SD), *X264],
        [*plain(RED_709, HD), *X264],
        [*plain(RED_2020, HD), *says(9, 9)],
    )
    output = render(source)
    assert output.rendered.frames == pytest.approx(36, abs=1)
    assert [shows(output, RED, at=at) for at in (0.1, 0.4, 0.7, 1.0)] == [True] * 4


def test_pictures_that_turn_interlaced_in_mid_file_have_no_combs(tmp_path: Path, render: Render) -> None:
    def bar(rate: int, then: str = "null") -> list[str]:
        moving = f"color=black:s={HD}:r={rate}:d=0.5[a];color=white:s=80x720:r={rate}:d=0.5[b];[a][b]overlay=x='t*600'"
        return ["-f", "lavfi", "-i", f"{moving},{then}", *X264]

    fields = [*bar(60, "tinterlace=interleave_top"), "-flags", "+ildct+ilme"]
    output = render(joined(tmp_path / "fields.ts", bar(30), fields))
    rows = output.frame(0.8)[100:600].max(axis=2).astype(int)
    assert rows.max() > 200
    assert np.abs(np.diff(rows, axis=0)).max() < 60


def test_colors_that_nothing_converts_are_refused_before_anything_is_rendered(clip: MakeClip, render: Render) -> None:
    with pytest.raises(BadInput, match="SMPTE 2085") as caught:
        render(clip("rare.mp4", *plain(RED_709, SD), *says(11, 9, 16)))
    assert caught.value.code == "unsupported_color"
