"""Compares our render engine with MoviePy: both make the same edit of the same clip.

`python -m bench.render` prints the time and memory of both engines, and the ratios of these figures.
The edit has an intro with a title, half a minute of the clip, and an outro, as H.264 and AAC.
The clip is fitted into 1280x720 and gets a watermark.
Both engines use the cards of our engine. The cards are made before the measurement.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import imageio_ffmpeg

from anb_core.domain.edit import EditSpec
from anb_core.domain.output_format import FPS, HEIGHT, WIDTH
from anb_core.ports.renderer import Resources
from anb_core.ports.stop import Stop
from anb_worker.render.drawing import draw_title
from anb_worker.render.engine import RenderEngine
from anb_worker.render.layout import TITLE_MIDDLE, WATERMARK_MARGIN

FOOTAGE = Path(__file__).parents[1] / "build" / "footage" / "bigbuckbunny.mp4"
SECONDS = 30
TITLE = "A walk in the park"


@dataclass(frozen=True)
class Cost:
    """The cost of a run: wall time and CPU time in seconds, and the memory of the largest process in MiB."""

    wall: float
    cpu: float
    megabytes: float


def main() -> None:
    """Run one engine after the other, and print the costs of both engines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", type=Path, default=FOOTAGE, help="a clip; it is repeated to fill half a minute")
    parser.add_argument("--rounds", type=int, default=1, help="how often each runs; the medians are printed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        clip = repeated(given.clip, SECONDS, root / "clip.mp4")
        RenderEngine(root / "cards").warm(Stop())
        costs: dict[str, list[Cost]] = {"engine": [], "moviepy": []}
        for number in range(given.rounds):
            for name, runs in costs.items():
                workdir = root / f"{name}-{number}"
                workdir.mkdir()
                runs.append(measure([sys.executable, __file__, name, str(clip), str(workdir), str(root / "cards")]))
    print(f"{given.clip.name}, {SECONDS} s, {given.rounds} round(s), {os.cpu_count()} processors")
    for name, runs in costs.items():
        wall, cpu, megabytes = (median(getattr(run, what) for run in runs) for what in ("wall", "cpu", "megabytes"))
        print(f"{name:8} {wall:7.1f} s  {cpu:7.1f} CPU s  {megabytes:6.0f} MB")
    for what in ("wall", "cpu"):
        ours, theirs = (median(getattr(run, what) for run in costs[name]) for name in ("engine", "moviepy"))
        print(f"ratio of {what} time {theirs / ours:.1f}")


def run_engine(clip: Path, workdir: Path, cards: Path) -> None:
    """Render with our engine."""
    RenderEngine(cards).render(
        clip,
        EditSpec(),
        TITLE,
        workdir,
        on_progress=lambda _: None,
        on_step=lambda _: None,
        stop=Stop(),
        resources=Resources(),
    )


def run_moviepy(clip: Path, workdir: Path, cards: Path) -> None:
    """Render with MoviePy, like the examples in MoviePy's documentation."""
    from moviepy import (  # noqa: PLC0415 - the engine's run must not pay for this import
        CompositeVideoClip,
        ImageClip,
        VideoFileClip,
        concatenate_videoclips,
        vfx,
    )

    (own,) = cards.glob("own-*")
    title = draw_title(TITLE)
    if title is None:
        raise RuntimeError("the title can't be drawn")
    title.save(workdir / "title.png")
    intro, outro = VideoFileClip(str(own / "intro.mp4")), VideoFileClip(str(own / "outro.mp4"))
    words = ImageClip(str(workdir / "title.png"), duration=intro.duration - 0.7).with_start(0.7)
    words = words.with_position(("center", TITLE_MIDDLE - title.height // 2)).with_effects([vfx.CrossFadeIn(0.5)])
    main_part = VideoFileClip(str(clip))
    main_part = main_part.subclipped(0, min(SECONDS, main_part.duration))
    main_part = main_part.resized(min(WIDTH / main_part.w, HEIGHT / main_part.h)).with_position("center")
    watermark = ImageClip(str(own / "watermark.png"), duration=main_part.duration)
    corner = (WIDTH - watermark.w - WATERMARK_MARGIN, HEIGHT - watermark.h - WATERMARK_MARGIN)
    marked = CompositeVideoClip([main_part, watermark.with_position(corner)], size=(WIDTH, HEIGHT))
    whole = concatenate_videoclips([CompositeVideoClip([intro, words]), marked, outro])
    whole.write_videofile(
        str(workdir / "output.mp4"),
        temp_audiofile_path=str(workdir),
        fps=FPS,
        codec="libx264",
        audio_codec="aac",
        preset="veryfast",
        ffmpeg_params=["-crf", "23", "-pix_fmt", "yuv420p", "-movflags", "+faststart"],
        logger=None,
    )


def repeated(clip: Path, seconds: float, output: Path) -> Path:
    """Write the clip to `output`, cut or repeated so that it lasts the given number of seconds. Returns `output`."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-stream_loop", "-1", "-i", str(clip)]
    subprocess.run([*command, "-t", str(seconds), "-c", "copy", str(output)], check=True)
    return output


def measure(command: list[str]) -> Cost:
    """Run a command and return its cost, which includes all processes that the command starts.

    Linux also counts the memory of the calling process, so the result is never smaller than that memory.

    Raises:
        SystemExit: the command failed.
    """
    begin = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{command[2]} failed")
    return Cost(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


RUNS = {"engine": run_engine, "moviepy": run_moviepy}

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in RUNS:
        RUNS[sys.argv[1]](*map(Path, sys.argv[2:]))
    else:
        main()
