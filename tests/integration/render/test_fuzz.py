"""Tests that the worker renders each damaged file or refuses it with a code, and that no file makes the worker hang.

A normal test run tries 60 files, and `make fuzz` tries 500 files. FUZZ_FILES sets the number of files.
"""

import os
from pathlib import Path

import pytest

from anb_core.domain.errors import BadInput
from anb_worker.render.engine import RenderEngine
from anb_worker.render.sandbox import ChildLimits
from tests.support.mutations import PICTURE, SEEDS, TONE, mutate
from tests.support.rendering import ONLY_MAIN, make_clip, render_clip

FILES = int(os.environ.get("FUZZ_FILES", "60"))
LIMITS = ChildLimits(cpu_seconds=30, wall_seconds=90)
CODES = {
    *("not_a_video", "truncated", "corrupt", "no_video_stream", "audio_only", "unsupported_codec", "unsupported_color"),
    *("unsupported_join", "zero_duration", "too_long", "too_many_pixels", "trim_beyond_end", "too_demanding"),
}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The undamaged files, by file name."""
    folder = tmp_path_factory.mktemp("seeds")
    return {
        name: make_clip(folder / name, *PICTURE, *TONE, *how, "-bitexact").read_bytes() for name, how in SEEDS.items()
    }


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> RenderEngine:
    return RenderEngine(tmp_path_factory.mktemp("cards"), threads=1, child_limits=LIMITS)


@pytest.mark.parametrize("number", range(FILES))
def test_a_damaged_file_is_rendered_or_refused_with_a_code(
    seeds: dict[str, bytes], engine: RenderEngine, tmp_path: Path, number: int
) -> None:
    names = list(SEEDS)
    name, other = names[number % len(names)], names[(number // len(names) + number) % len(names)]
    source = tmp_path / name
    source.write_bytes(mutate(seeds[name], seeds[other], number))
    try:
        output = render_clip(engine, source, ONLY_MAIN, tmp_path / "work")
    except BadInput as refusal:
        assert refusal.code in CODES  # noqa: PT017 - most files are not whole enough
    else:
        assert output.rendered.frames > 0
