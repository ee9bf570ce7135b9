"""Real clips and a real engine."""

from itertools import count
from pathlib import Path

import pytest

from anb_core.domain.edit import EditSpec
from anb_core.ports.renderer import Resources
from anb_worker.render.engine import RenderEngine
from tests.support.rendering import ONLY_MAIN, MakeClip, Output, Render, make_clip, render_clip


@pytest.fixture
def clip(tmp_path: Path) -> MakeClip:
    return lambda name, *arguments: make_clip(tmp_path / name, *arguments)


@pytest.fixture(scope="session")
def engine(cards_dir: Path) -> RenderEngine:
    return RenderEngine(cards_dir)


@pytest.fixture
def render(engine: RenderEngine, tmp_path: Path) -> Render:
    numbers = count(1)

    def run(
        source: Path, edit: EditSpec = ONLY_MAIN, *, title: str = "A title", resources: Resources | None = None
    ) -> Output:
        return render_clip(engine, source, edit, tmp_path / f"render-{next(numbers)}", title=title, resources=resources)

    return run
