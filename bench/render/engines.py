"""The engines that the benchmark compares. `python -m bench.render.engines NAME CLIP WORKDIR CARDS` runs one of them.

All of them use the cards of our engine in the folder CARDS. They write WORKDIR/output.mp4, except `floor`.
"""

import os
import sys
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path

import imageio_ffmpeg

from anb_core.domain.edit import EditSpec, Switch, Trim
from anb_core.domain.input_checks import InputLimits
from anb_core.domain.output_format import FPS, HEIGHT, WIDTH
from anb_core.domain.render_plan import plan_render
from anb_core.domain.source_facts import SourceFacts
from anb_core.ports.renderer import Resources
from anb_core.ports.stop import Stop
from anb_worker.render.engine import RenderEngine
from anb_worker.render.ffmpeg_commands import QUALITY, X264, Tool, picture_command
from anb_worker.render.layout import CARD_SECONDS, FADE_OUT_SECONDS, TITLE_MIDDLE, WATERMARK_MARGIN
from anb_worker.render.processors import processors

SECONDS = 30
TITLE = "A walk in the park"
ENCODER = (*X264, "-crf", str(QUALITY))
"""The encoder of our engine. The commands by hand have it, too, so that only the rest of the work is compared."""

_FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
_FIT = (
    f"scale={WIDTH}:{HEIGHT}:force_original_aspect_ratio=decrease:force_divisible_by=2:flags=bicubic"
    ":in_color_matrix=bt709:out_color_matrix=bt709:out_range=tv"
)
"""The clips have no color tags. Without in_color_matrix, ffmpeg would assume BT.601 for them, which is wrong for HD."""
_FRAME = f"fps={FPS},{_FIT},pad={WIDTH}:{HEIGHT}:-1:-1,setsar=1,format=yuv420p"
_CORNER = f"overlay=W-w-{WATERMARK_MARGIN}:H-h-{WATERMARK_MARGIN}:format=yuv420"


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
    from moviepy import (  # noqa: PLC0415 - the engine's run must not pay for this import with time and memory
        CompositeVideoClip,
        ImageClip,
        VideoFileClip,
        concatenate_videoclips,
        vfx,
    )

    own = _own(cards)
    title_height = _title(workdir)[1]
    intro, outro = VideoFileClip(str(own / "intro.mp4")), VideoFileClip(str(own / "outro.mp4"))
    words = ImageClip(str(workdir / "title.png"), duration=intro.duration - 0.7).with_start(0.7)
    words = words.with_position(("center", TITLE_MIDDLE - title_height // 2)).with_effects([vfx.CrossFadeIn(0.5)])
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


def run_by_hand(clip: Path, workdir: Path, cards: Path) -> None:
    """Render with one ffmpeg command, as an expert would write it for this clip."""
    _by_hand(clip, workdir, cards, *ENCODER)


def run_lossless(clip: Path, workdir: Path, cards: Path) -> None:
    """Render with the command of `run_by_hand`, but lose no quality. The result is the reference for VMAF."""
    _by_hand(clip, workdir, cards, "-c:v", "libx264", "-preset", "ultrafast", "-qp", "0")


def _facts(clip: Path) -> SourceFacts:
    """Probe the clip. Both engines of the main part do this, so that only their commands differ."""
    from anb_worker.render.probe.facts import probe  # noqa: PLC0415 - as for MoviePy

    return probe(clip, 0, Trim().length, InputLimits().max_pixels, inf)


def run_main(clip: Path, workdir: Path, cards: Path) -> None:
    """Become our engine's command for the picture of the main part, without sandbox, cards and sound."""
    only_main = EditSpec(intro=Switch(enabled=False), outro=Switch(enabled=False))
    tool = Tool(path=Path(_FFMPEG), max_pixels=InputLimits().max_pixels, max_alloc=2**29, threads=processors())
    command = picture_command(
        tool,
        plan_render(_facts(clip), only_main, InputLimits(), intro_frames=0, outro_frames=0),
        clip,
        watermark=_own(cards) / "watermark.png",
        output=workdir / "output.mp4",
        decoded=workdir / "decoded.txt",
    )
    os.execv(command[0], command)  # noqa: S606 - a shell is not wanted here


def run_main_by_hand(clip: Path, workdir: Path, cards: Path) -> None:
    """Make the picture of the main part with an ffmpeg command, as an expert would write it."""
    _facts(clip)
    graph = f"[0:v]{_FRAME}[main];[main][1:v]{_CORNER}[v]"
    inputs = ["-t", str(SECONDS), "-i", str(clip), "-i", str(_own(cards) / "watermark.png")]
    _ffmpeg(*inputs, "-filter_complex", graph, "-map", "[v]", "-an", *ENCODER, str(workdir / "output.mp4"))


def run_floor(clip: Path, workdir: Path, cards: Path) -> None:  # noqa: ARG001 - all runs have these arguments
    """Only decode and scale."""
    _ffmpeg("-t", str(SECONDS), "-i", str(clip), "-vf", f"fps={FPS},{_FIT}", "-an", "-f", "null", "-")


def _by_hand(clip: Path, workdir: Path, cards: Path, *encode: str) -> None:
    own = _own(cards)
    width, height = _title(workdir)
    dark = CARD_SECONDS - FADE_OUT_SECONDS
    fades = f"fade=in:st=0.7:d=0.5:alpha=1,fade=out:st={dark}:d={FADE_OUT_SECONDS}:alpha=1"
    graph = (
        f"[1:v]format=yuva420p,{fades}[title];"
        f"[0:v][title]overlay={(WIDTH - width) // 2}:{TITLE_MIDDLE - height // 2}:format=yuv420[intro];"
        f"[2:v]{_FRAME}[picture];[picture][3:v]{_CORNER}[main];"
        f"[2:a]aresample=48000,aformat=channel_layouts=stereo[sound];"
        f"anullsrc=r=48000:cl=stereo,atrim=duration={CARD_SECONDS},asplit[before][after];"
        "[intro][before][main][sound][4:v][after]concat=n=3:v=1:a=1[v][a]"
    )
    title = ("-loop", "1", "-framerate", str(FPS), "-t", str(CARD_SECONDS), "-i", str(workdir / "title.png"))
    main = ("-t", str(SECONDS), "-i", str(clip), "-i", str(own / "watermark.png"))
    output = ("-map", "[v]", "-map", "[a]", *encode, "-c:a", "aac", "-b:a", "160k", "-movflags", "+faststart")
    inputs = ("-i", str(own / "intro.mp4"), *title, *main, "-i", str(own / "outro.mp4"))
    _ffmpeg(*inputs, "-filter_complex", graph, *output, str(workdir / "output.mp4"))


def _ffmpeg(*arguments: str) -> None:
    """Become ffmpeg, so that this program takes no memory beside it."""
    os.execv(_FFMPEG, [_FFMPEG, "-v", "error", "-nostdin", "-y", *arguments])  # noqa: S606


def _own(cards: Path) -> Path:
    """Return the folder with our engine's cards."""
    (own,) = cards.glob("own-*")
    return own


def _title(workdir: Path) -> tuple[int, int]:
    """Draw the title into WORKDIR/title.png. Returns its width and height in pixels."""
    from anb_worker.render.drawing import draw_title  # noqa: PLC0415 - as for MoviePy

    title = draw_title(TITLE)
    if title is None:
        raise RuntimeError("the title can't be drawn")
    title.save(workdir / "title.png")
    return title.size


RUNS: Mapping[str, Callable[[Path, Path, Path], None]] = {
    "engine": run_engine,
    "moviepy": run_moviepy,
    "by hand": run_by_hand,
    "floor": run_floor,
    "main": run_main,
    "main by hand": run_main_by_hand,
    "lossless": run_lossless,
}

if __name__ == "__main__":
    RUNS[sys.argv[1]](*map(Path, sys.argv[2:]))
