import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from anb_core import domain
from anb_core.domain.errors import Interrupted
from anb_core.domain.input_checks import InputLimits
from anb_core.ports.stop import Stop
from anb_worker.render.cards import Cards
from anb_worker.render.ffmpeg_commands import Tool
from anb_worker.render.sandbox import ChildLimits


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cards"


@pytest.fixture
def cards(folder: Path, tmp_path: Path) -> Cards:
    return new_cards(folder, tmp_path)


def new_cards(folder: Path, tmp_path: Path) -> Cards:
    """Return the cache as a new process sees it."""
    tool = Tool(path=Path("/usr/bin/ffmpeg"), max_pixels=1, max_alloc=1, threads=1)
    return Cards(folder, tmp_path / "shipped", tool, InputLimits(), ChildLimits())


class Impatient(Stop):
    """A `Stop` object whose third check raises the error that stops the work."""

    checks = 0

    def check(self) -> None:
        self.checks += 1
        if self.checks == 3:
            self.ask(Interrupted())
        super().check()


HOLD = """
import fcntl, sys
with open(sys.argv[1], "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print(flush=True)
    sys.stdin.read()
"""


@contextmanager
def locked_by_another_process(folder: Path) -> Iterator[None]:
    """Let another process hold the lock of the cards' folder until the `with` block ends, then kill the process."""
    folder.mkdir()
    command = [sys.executable, "-I", "-c", HOLD, str(folder / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def test_the_wait_for_a_part_that_another_process_makes_ends_when_it_is_asked_to_and_when_that_process_dies(
    cards: Cards, folder: Path, tmp_path: Path
) -> None:
    operators_file = tmp_path / "given.png"
    Image.new("RGBA", (20, 20)).save(operators_file)
    with locked_by_another_process(folder), pytest.raises(Interrupted):
        cards.watermark(operators_file, Impatient())
    assert list(folder.glob("watermark-*")) == []
    assert cards.watermark(operators_file, Stop()).exists()


def test_a_new_part_is_kept_even_if_others_seem_newer_and_is_used_even_if_its_time_can_not_be_set(
    cards: Cards, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        (folder / f"watermark-{number}").mkdir(parents=True)
        # Give the entries future timestamps, as if someone had set the system clock back.
        os.utime(folder / f"watermark-{number}", (2**33, 2**33 + number))
    operators_file = tmp_path / "given.png"
    Image.new("RGBA", (20, 20)).save(operators_file)

    made = cards.watermark(operators_file, Stop())
    assert made.exists()
    left = {"watermark-3", "watermark-4", "watermark-5", made.parent.name}
    assert {entry.name for entry in folder.glob("watermark-*")} == left

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr("os.utime", refuse)
    assert cards.watermark(operators_file, Stop()) == made


def test_the_versions_of_an_operators_part_that_were_used_last_are_kept(
    cards: Cards, folder: Path, tmp_path: Path
) -> None:

    def used(version: int) -> Path:
        for entry in folder.glob("watermark-*"):
            # Make every entry one second older, because two quick uses could get the same timestamp.
            os.utime(entry, ns=(0, entry.stat().st_mtime_ns - 10**9))
        operators_file = tmp_path / f"{version}.png"
        Image.new("RGBA", (20, 20), (version, 0, 0, 255)).save(operators_file)
        return cards.watermark(operators_file, Stop())

    first, second, third, fourth, again, fifth = (used(version) for version in (1, 2, 3, 4, 1, 5))

    assert first == again
    assert [path.exists() for path in (first, second, third, fourth, fifth)] == [True, False, True, True, True]
    assert sorted(path.name for path in folder.iterdir() if "-" not in path.name) == ["lock"]


def test_a_release_that_changes_how_colors_or_cuts_are_planned_makes_the_parts_anew(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operators_file = tmp_path / "given.png"
    Image.new("RGBA", (20, 20)).save(operators_file)
    release = tmp_path / "release"
    shutil.copytree(Path(domain.__file__).parent, release)

    first = new_cards(folder, tmp_path).watermark(operators_file, Stop())
    monkeypatch.setattr(domain, "__file__", str(release / "__init__.py"))
    assert new_cards(folder, tmp_path).watermark(operators_file, Stop()) == first
    for name in ("color.py", "render_plan.py"):
        with (release / name).open("a") as file:
            file.write("# changed")
        assert new_cards(folder, tmp_path).watermark(operators_file, Stop()) != first
        first = new_cards(folder, tmp_path).watermark(operators_file, Stop())
