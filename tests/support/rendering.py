"""Makes clips, renders the clips, and measures the pictures and the sound of the results."""

import io
import runpy
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import av
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
import pytest

from anb_core.domain.edit import EditSpec, Switch
from anb_core.domain.output_format import SAMPLE_RATE
from anb_core.ports.renderer import Rendered, Resources
from anb_core.ports.stop import Stop
from anb_worker.render.engine import RenderEngine

OFF = Switch(enabled=False)
ONLY_MAIN = EditSpec(watermark=OFF, intro=OFF, outro=OFF)
"""The edit without intro, outro and watermark, which renders fastest."""


class MakeClip(Protocol):
    """A function that makes a clip. `name` is the file name. `arguments` are ffmpeg's arguments without the output."""

    def __call__(self, name: str, *arguments: object) -> Path: ...


class Render(Protocol):
    """A function that renders a clip, by default without intro, outro and watermark."""

    def __call__(
        self, source: Path, edit: EditSpec = ONLY_MAIN, *, title: str = "A title", resources: Resources | None = None
    ) -> "Output": ...


@dataclass(frozen=True)
class Output:
    """A finished render, with measurements of its pictures and its sound."""

    rendered: Rendered
    steps: list[str]
    progress: list[float]

    @property
    def path(self) -> Path:
        return self.rendered.path

    def frame(self, seconds: float) -> npt.NDArray[np.uint8]:
        """Return the picture at the given time in seconds, as an array of shape (rows, columns, 3) with RGB values."""
        with av.open(self.path) as opened:
            for frame in opened.decode(video=0):
                if frame.time + 1 / 30 > seconds:
                    return frame.to_ndarray(format="rgb24").astype(np.uint8)
        raise AssertionError(f"nothing is shown at {seconds} s")

    def brightness(self) -> npt.NDArray[np.float64]:
        """Return the mean brightness of each frame, from 0 to 255."""
        with av.open(self.path) as opened:
            return np.array([frame.to_ndarray(format="gray").mean() for frame in opened.decode(video=0)])

    def loudness(self) -> npt.NDArray[np.float64]:
        """Return the absolute value of each audio sample, from 0 to 1. The first sample is at 0 s."""
        with av.open(self.path) as opened:
            frames = list(opened.decode(audio=0))
        samples: npt.NDArray[np.float64] = np.abs(np.concatenate([frame.to_ndarray() for frame in frames], axis=1)).max(
            0
        )
        first = round((frames[0].time or 0.0) * SAMPLE_RATE)
        return samples[-first:] if first < 0 else np.concatenate([np.zeros(first), samples])


def make_clip(path: Path, *arguments: object) -> Path:
    """Run ffmpeg with the given arguments to make a file. Returns the file's path."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *map(str, arguments), str(path)]
    subprocess.run(command, check=True)
    return path


def run_here(module: str, *arguments: object) -> str:
    """Run a child program's module in the test process, and return the program's output.

    Coverage can measure the module only in the test process, because the sandbox can't write coverage data.
    """
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(io.StringIO()) as printed:
        patched.setattr(sys, "argv", [module, *map(str, arguments)])
        patched.delitem(sys.modules, module, raising=False)
        runpy.run_module(module, run_name="__main__")
    return printed.getvalue()


def render_clip(
    engine: RenderEngine,
    source: Path,
    edit: EditSpec,
    workdir: Path,
    *,
    title: str = "A title",
    resources: Resources | None = None,
) -> Output:
    """Render a file. The folder `workdir` must not exist yet."""
    workdir.mkdir()
    steps: list[str] = []
    progress: list[float] = []
    rendered = engine.render(
        source,
        edit,
        title,
        workdir,
        on_progress=progress.append,
        on_step=steps.append,
        stop=Stop(),
        resources=resources or Resources(),
    )
    return Output(rendered, steps, progress)
