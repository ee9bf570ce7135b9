"""Tests that `anb demo` produces a processed video, and that an interrupted `anb demo` stops cleanly."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from anb_cli.errors import Exit
from anb_cli.stack.folder import NAME, Folder
from tests.integration.cli.conftest import Place, ended, processes_in
from tests.support import eventually
from tests.support.rendering import make_clip


def begins(place: Place) -> bool:
    return (place.path / "out" / "stack.log").exists()


def starts_the_stack(place: Place) -> bool:
    return place.pid_of("anb_api") is not None


def serves(place: Place) -> bool:
    return Folder(place.path / "out" / NAME).running() is not None


@pytest.mark.parametrize("moment", [begins, starts_the_stack, serves])
def test_an_interrupted_demo_leaves_no_process(place: Place, footage: Path, moment: Callable[[Place], bool]) -> None:
    demo = place.start("demo", "--out", "out", "--video", str(footage / "bigbuckbunny.mp4"))
    eventually(lambda: moment(place))
    demo.send_signal(signal.SIGINT)
    assert ended(demo) == Exit.INTERRUPTED
    # If the stack was still starting, the kernel kills the stack shortly after its parent, the demo, has ended.
    eventually(lambda: processes_in(place.path) == {})
    assert not (place.path / "out" / "processed.mp4").exists()


def test_a_killed_demo_takes_its_stack_with_it(place: Place, footage: Path) -> None:
    demo = place.start("demo", "--out", "out", "--video", str(footage / "bigbuckbunny.mp4"))
    eventually(lambda: serves(place))
    demo.kill()
    ended(demo)
    eventually(lambda: processes_in(place.path) == {})


def test_a_demo_examines_the_result_and_shows_it(place: Place) -> None:
    picture, sound = "testsrc2=s=320x180:r=30:d=2,format=yuv420p", "anoisesrc=d=2:a=0.5"
    clip = make_clip(place.path / "clip.mp4", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound)
    done = place.run("demo", "--out", "out", "--video", str(clip), "--title", "Two seconds")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "  ok  frames: 240 (90 + 60 + 90)" in done.stdout
    assert "WRONG" not in done.stdout
    assert (place.path / "out" / "contact-sheet.png").stat().st_size > 0
    assert processes_in(place.path) == {}
