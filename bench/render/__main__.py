"""`python -m bench.render` prints the costs of each engine for each kind of clip, and their ratios.

The edit has an intro with a title, at most half a minute of the clip, and an outro, as H.264 and AAC.
The clip is fitted into 1280x720 and gets a watermark. The engines run in turn, so that other load hits all of them.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from anb_core.domain.output_format import FPS
from anb_core.ports.stop import Stop
from anb_worker.render.engine import RenderEngine
from anb_worker.render.layout import CARD_SECONDS
from bench.render.clips import FOOTAGE, KINDS, make_clip
from bench.render.cost import Cost, measure
from bench.render.engines import RUNS
from bench.render.quality import picture_bytes, vmaf

COMPARED = [name for name in RUNS if name != "lossless"]
WHOLE = ("engine", "moviepy", "by hand")
"""The engines that make the whole video. Only their quality is measured."""

CARD = round(CARD_SECONDS * FPS)
"""Number of frames of the intro, and of the outro."""


class Quality(NamedTuple):
    """The picture of the main part: its bytes, and its VMAF (0 to 100)."""

    size: int
    vmaf: float


def main() -> None:
    """Measure all engines, and print a table for each kind of clip."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", type=Path, default=FOOTAGE, help="the footage that the clips are made from")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS, help="the kinds of clips")
    parser.add_argument("--seconds", type=float, default=10, help="length of the clips, at most 30")
    parser.add_argument("--rounds", type=int, default=1, help="how often each engine runs; the medians are printed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        RenderEngine(root / "cards", shipped=root).warm(Stop())
        for kind in given.kinds:
            clip = make_clip(kind, given.seconds, root / f"{kind}.mp4", given.clip)
            costs, sizes = costs_of(clip, root, given.rounds)
            reference = reference_of(clip, root)
            qualities = {name: quality_of(root / f"{name}.mp4", reference) for name in WHOLE}
            print(f"\n{kind}, {given.rounds} round(s), {os.cpu_count()} processors")
            print("\n".join(table(costs, sizes, qualities)), flush=True)


def costs_of(clip: Path, root: Path, rounds: int) -> tuple[dict[str, list[Cost]], dict[str, int]]:
    """Run the engines in turn. Returns their costs, and the sizes of their videos in bytes.

    The videos of the engines in WHOLE are kept in `root`.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in COMPARED}
    sizes: dict[str, int] = {}
    for _ in range(rounds):
        for name, runs in costs.items():
            runs.append(_run(name, clip, root))
            made = root / "run" / "output.mp4"
            if made.exists():
                sizes[name] = made.stat().st_size
            if name in WHOLE:
                made.replace(root / f"{name}.mp4")
    return costs, sizes


def reference_of(clip: Path, root: Path) -> Path:
    """Render a clip without loss. Returns the file, which stays until the next run."""
    _run("lossless", clip, root)
    return (root / "run" / "output.mp4").replace(root / "lossless.mp4")


def quality_of(video: Path, reference: Path) -> Quality:
    """Measure the picture of the main part. `reference` is the same video without loss."""
    sizes = picture_bytes(video)[CARD:-CARD]
    return Quality(sum(sizes), vmaf(video, reference, first=CARD, frames=len(sizes)))


def _run(name: str, clip: Path, root: Path) -> Cost:
    shutil.rmtree(root / "run", ignore_errors=True)
    (root / "run").mkdir()
    return measure(
        [sys.executable, "-m", "bench.render.engines", name, str(clip), str(root / "run"), str(root / "cards")]
    )


def table(costs: Mapping[str, Sequence[Cost]], sizes: Mapping[str, int], qualities: Mapping[str, Quality]) -> list[str]:
    """Return the lines of a table with the medians of the costs, and the ratios that the targets are about."""
    medians = {
        name: Cost(*(median(getattr(run, what) for run in runs) for what in ("wall", "cpu", "megabytes")))
        for name, runs in costs.items()
    }
    lines = ["| | wall, s | CPU, s | memory, MiB | bytes | main part: bytes | VMAF |", "|---|---|---|---|---|---|---|"]
    for name, cost in medians.items():
        size = f"{sizes[name]:,}" if name in sizes else "-"
        main = f"{qualities[name].size:,} | {qualities[name].vmaf:.1f}" if name in qualities else "- | -"
        lines.append(f"| {name} | {cost.wall:.1f} | {cost.cpu:.1f} | {cost.megabytes:.0f} | {size} | {main} |")
    ours, theirs, hand = (medians[name] for name in ("engine", "moviepy", "by hand"))
    share = medians["main"].cpu / medians["main by hand"].cpu
    return [
        *lines,
        f"MoviePy / engine: {theirs.wall / ours.wall:.1f} in wall time, {theirs.cpu / ours.cpu:.1f} in CPU time",
        f"MoviePy / by hand: {theirs.wall / hand.wall:.1f} in wall time, {theirs.cpu / hand.cpu:.1f} in CPU time",
        f"CPU time of the main part / by hand: {share:.2f}",
        f"memory of the engine - by hand: {ours.megabytes - hand.megabytes:+.0f} MiB",
    ]


if __name__ == "__main__":
    main()
