"""Tests that work beside the picture takes no more memory than a worker keeps for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from anb_core.domain.edit import EditSpec, Trim
from anb_worker.render import engine as engine_module
from anb_worker.render.engine import RenderEngine
from anb_worker.render.processors import BESIDE_MIB
from anb_worker.render.sandbox import Finished, run
from bench.render.cost import measure
from tests.support.rendering import render_clip


def test_the_title_takes_less_memory_than_is_kept_for_it(
    warm_cards: Path, footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[Sequence[str]] = []

    def noted(command: Sequence[str], **options: Any) -> Finished:
        commands.append(command)
        return run(command, **options)

    monkeypatch.setattr(engine_module, "run", noted)
    engine = RenderEngine(warm_cards, threads=8)
    render_clip(engine, footage / "carphone_distorted.mp4", EditSpec(trim=Trim(length=0.5)), tmp_path / "render")

    (title,) = (command for command in commands if command[-1].endswith("intro.mp4"))
    assert 20 < measure(title).megabytes < BESIDE_MIB
