"""Measures bytes and VMAF of the encoder's presets, and draws the curve in docs/performance.md.

`python -m bench.render.quality` encodes the lossless main part of two clips with each preset and several crf values.
"""

import argparse
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import log
from pathlib import Path
from typing import NamedTuple

import av
import imageio_ffmpeg

from anb_worker.render.ffmpeg_commands import X264
from bench.render.clips import make_clip
from bench.render.cost import measure

PRESETS: Mapping[str, tuple[Sequence[str], str]] = {
    "our engine": (X264, "#cc6633"),
    "veryfast": (("-c:v", "libx264", "-preset", "veryfast"), "#4477aa"),
    "superfast": (("-c:v", "libx264", "-preset", "superfast"), "#999999"),
    "faster": (("-c:v", "libx264", "-preset", "faster"), "#228833"),
}
"""Each line of the picture: the options of the encoder, and a color. The bench of MoviePy has veryfast."""
CRFS = (20, 23, 26, 28)
EVERY = 5
"""VMAF is measured on each frame with a number that this number divides. Measuring all frames takes long."""

_FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
_WIDTH, _PANEL, _HIGH, _LEFT, _TOP = 960, 420, 300, 60, 50


class Point(NamedTuple):
    """A file that was encoded: its bit rate in kbit/s, its VMAF (0 to 100), and the CPU time in seconds."""

    rate: float
    vmaf: float
    cpu: float


def vmaf(output: Path, reference: Path, *, first: int = 0, frames: int = 1_000_000) -> float:
    """Return the VMAF of a file, compared with a lossless reference that has the same frames.

    `first` is the number of the first frame that is compared, and `frames` is how many are compared at most.
    """
    trim = f"trim=start_frame={first}:end_frame={first + frames},setpts=PTS-STARTPTS,format=yuv420p"
    graph = f"[0:v]{trim}[a];[1:v]{trim}[b];[a][b]libvmaf=n_threads=2:n_subsample={EVERY}"
    command = [_FFMPEG, "-nostdin", "-i", str(output), "-i", str(reference), "-lavfi", graph, "-f", "null", "-"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    found = re.search(r"VMAF score: ([\d.]+)", said)
    if found is None:
        raise RuntimeError("ffmpeg printed no VMAF score")
    return float(found[1])


def picture_bytes(path: Path) -> list[int]:
    """Return the bytes of each encoded frame of a file, in the order in which the frames are shown."""
    with av.open(path) as opened:
        return [size for _, size in sorted((p.pts, p.size) for p in opened.demux(video=0) if p.pts is not None)]


def at_rate(points: Sequence[Point], rate: float) -> float:
    """Return the VMAF of a line at a bit rate. Between points, and beyond them, VMAF is linear in log(rate)."""
    ordered = sorted(points)
    low, high = next((pair for pair in pairwise(ordered) if rate <= pair[1].rate), (ordered[-2], ordered[-1]))
    share = log(rate / low.rate) / log(high.rate / low.rate)
    return low.vmaf + share * (high.vmaf - low.vmaf)


def draw(panels: Mapping[str, Mapping[str, Sequence[Point]]]) -> str:
    """Return an SVG chart for each clip, with a line for each preset: VMAF over the bit rate (logarithmic)."""
    font = 'font-family="sans-serif" font-size="13" fill="#444444"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_TOP + _HIGH + 90}" {font}>']
    lines.append(f'<rect width="{_WIDTH}" height="{_TOP + _HIGH + 90}" fill="white"/>')
    for number, (title, series) in enumerate(panels.items()):
        lines += _panel(_LEFT + number * (_PANEL + 40), title, series)
    for number, (name, (_, color)) in enumerate(PRESETS.items()):
        at = _LEFT + number * 200
        lines.append(f'<text x="{at}" y="{_TOP + _HIGH + 78}" fill="{color}">{name}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _panel(left: float, title: str, series: Mapping[str, Sequence[Point]]) -> list[str]:
    every = [point for points in series.values() for point in points]
    least, most = min(p.rate for p in every) / 1.1, max(p.rate for p in every) * 1.1
    floor, top = int(min(p.vmaf for p in every)) - 1, int(max(p.vmaf for p in every)) + 2

    def place(point: Point) -> tuple[float, float]:
        across = log(point.rate / least) / log(most / least)
        return left + across * (_PANEL - 40), _TOP + _HIGH * (1 - (point.vmaf - floor) / (top - floor))

    lines = [f'<text x="{left}" y="24" font-size="16">{title}</text>']
    for score in range(floor, top + 1, 2):
        y = place(Point(least, score, 0))[1]
        lines.append(f'<path d="M {left} {y:.1f} h {_PANEL - 40}" stroke="#dddddd"/>')
        lines.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{score}</text>')
    for rate in (least * 1.1, (least * most) ** 0.5, most / 1.1):
        x = place(Point(rate, floor, 0))[0]
        lines.append(f'<text x="{x:.1f}" y="{_TOP + _HIGH + 20}" text-anchor="middle">{rate / 1000:.1f}</text>')
    middle = left + (_PANEL - 40) / 2
    lines.append(
        f'<text x="{middle}" y="{_TOP + _HIGH + 44}" text-anchor="middle">Mbit/s; the left axis is VMAF</text>'
    )
    for name, points in series.items():
        color, places = PRESETS[name][1], [place(point) for point in sorted(points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        lines += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/>' for x, y in places]
    return lines


def curves(clip: Path, seconds: float, folder: Path) -> dict[str, list[Point]]:
    """Encode the picture of a clip with each preset and each crf. `seconds` is the length of the clip."""
    reference, output = folder / "reference.mp4", folder / "encoded.mp4"
    read = [_FFMPEG, "-v", "error", "-nostdin", "-y", "-i"]
    fit = ("-an", "-vf", "scale=1280:720:flags=bicubic", "-c:v", "libx264", "-preset", "ultrafast", "-qp", "0")
    subprocess.run([*read, str(clip), *fit, str(reference)], check=True)
    series: dict[str, list[Point]] = {}
    for name, (encoder, _) in PRESETS.items():
        for crf in CRFS:
            cost = measure([*read, str(reference), *encoder, "-crf", str(crf), str(output)])
            rate = output.stat().st_size * 8 / 1000 / seconds
            point = Point(rate, vmaf(output, reference), cost.cpu)
            series.setdefault(name, []).append(point)
            shown = f"{rate:7.0f} kbit/s  VMAF {point.vmaf:5.1f}  {cost.cpu:5.1f} CPU s"
            print(f"{clip.stem:8} {name:11} crf {crf} {shown}", flush=True)
    return series


def main() -> None:
    """Measure the curves of two clips, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="length of the clips")
    parser.add_argument("--picture", type=Path, default=Path("render-quality.svg"), help="the file for the picture")
    given = parser.parse_args()
    panels: dict[str, dict[str, list[Point]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, title in (("1080p", "1080p at 8 Mbit/s"), ("noise", "1080p with noise")):
            clip = make_clip(kind, given.seconds, Path(folder) / f"{kind}.mp4")
            panels[title] = curves(clip, given.seconds, Path(folder))
    for title, series in panels.items():
        for name in ("veryfast", "faster"):
            theirs = next(point for point, crf in zip(series[name], CRFS, strict=True) if crf == 23)  # noqa: PLR2004
            less = theirs.vmaf - at_rate(series["our engine"], theirs.rate)
            print(f"{title}: at the bytes of {name} crf 23, our VMAF is {less:.1f} lower")
    given.picture.write_text(draw(panels), encoding="utf-8")


if __name__ == "__main__":
    main()
