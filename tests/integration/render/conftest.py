"""Fixtures that make real clips and render the clips with a real engine."""

import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from anb_core.domain.edit import EditSpec
from anb_core.ports.renderer import Resources
from anb_worker.render.engine import RenderEngine
from tests.support.rendering import ONLY_MAIN, MakeClip, Output, Render, make_clip, render_clip

WARM = """
import pathlib, sys
from anb_core.ports.stop import Stop
from anb_worker.render.engine import RenderEngine

folder = pathlib.Path(sys.argv[1])
RenderEngine(folder, shipped=folder).warm(Stop())
"""


@pytest.fixture
def clip(tmp_path: Path) -> MakeClip:
    return lambda name, *arguments: make_clip(tmp_path / name, *arguments)


@pytest.fixture(scope="session")
def warm_cards(cards_dir: Path) -> Path:
    """The cache folder with intro and outro clips. Two processes fill the folder at once, and both must succeed."""
    processes = [subprocess.Popen([sys.executable, "-c", WARM, str(cards_dir)]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    return cards_dir


@pytest.fixture(scope="session")
def engine(warm_cards: Path) -> RenderEngine:
    return RenderEngine(warm_cards)


@pytest.fixture
def render(engine: RenderEngine, tmp_path: Path) -> Render:
    numbers = count(1)

    def run(
        source: Path, edit: EditSpec = ONLY_MAIN, *, title: str = "A title", resources: Resources | None = None
    ) -> Output:
        return render_clip(engine, source, edit, tmp_path / f"render-{next(numbers)}", title=title, resources=resources)

    return run
