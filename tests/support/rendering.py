"""Renders real clips, and looks and listens at what comes out."""

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
"""The quickest edit."""


class MakeClip(Protocol):
    """Makes a clip: its name, and ffmpeg's arguments but for the output."""

    def __call__(self, name: str, *arguments: object) -> Path: ...


class Render(Protocol):
    """Renders a clip, only its main part unless told."""

    def __call__(
        self, source: Path, edit: EditSpec = ONLY_MAIN, *, title: str = "A title", resources: Resources | None = None
    ) -> "Output": ...


@dataclass(frozen=True)
class Output:
    """A finished render, and what can be seen and heard of it."""

    rendered: Rendered
    steps: list[str]
    progress: list[float]

    @property
    def path(self) -> Path:
        return self.rendered.path

    def frame(self, seconds: float) -> npt.NDArray[np.uint8]:
        """The picture that is shown at a time: rows of columns of red, green and blue."""
        with av.open(self.path) as opened:
            for frame in opened.decode(video=0):
                if frame.time + 1 / 30 > seconds:
                    return frame.to_ndarray(format="rgb24").astype(np.uint8)
        raise AssertionError(f"nothing is shown at {seconds} s")

    def brightness(self) -> npt.NDArray[np.float64]:
        """Of each frame, from 0 to 255."""
        with av.open(self.path) as opened:
            return np.array([frame.to_ndarray(format="gray").mean() for frame in opened.decode(video=0)])

    def loudness(self) -> npt.NDArray[np.float64]:
        """Of each sample, from 0 to 1, the first one at 0 s."""
        with av.open(self.path) as opened:
            frames = list(opened.decode(audio=0))
        samples: npt.NDArray[np.float64] = np.abs(np.concatenate([frame.to_ndarray() for frame in frames], axis=1)).max(
            0
        )
        first = round((frames[0].time or 0.0) * SAMPLE_RATE)
        return samples[-first:] if first < 0 else np.concatenate([np.zeros(first), samples])


def make_clip(path: Path, *arguments: object) -> Path:
    """Run ffmpeg with these arguments to make a file."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *map(str, arguments), str(path)]
    subprocess.run(command, check=True)
    return path


def run_here(module: str, *arguments: object) -> str:
    """What a child program prints when it runs in this process, where its lines are measured: in the sandbox it can
    write no file, not even what it covered.
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
    """Render a file in a folder that is made for it."""
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
