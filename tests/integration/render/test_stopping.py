"""Tests that a render ends after a stop request or the death of its worker. No process and no file may remain."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from anb_core.domain.errors import Interrupted, LeaseLost
from anb_core.ports.renderer import Resources
from anb_core.ports.stop import Stop
from anb_worker.render.engine import RenderEngine
from tests.support import eventually
from tests.support.rendering import ONLY_MAIN, make_clip

RENDERER = """
import sys
from pathlib import Path
from anb_core.domain.edit import EditSpec, Switch
from anb_core.ports.renderer import Resources
from anb_core.ports.stop import Stop
from anb_worker.render.engine import RenderEngine

off = Switch(enabled=False)
RenderEngine(Path(sys.argv[3])).render(
    Path(sys.argv[1]), EditSpec(watermark=off, intro=off, outro=off), "title", Path(sys.argv[2]),
    on_progress=lambda share: None, on_step=lambda name: None, stop=Stop(), resources=Resources(),
)
"""


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip that takes a minute to render."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    return make_clip(
        path, "-f", "lavfi", "-i", "testsrc2=s=1280x720:r=10:d=30", "-c:v", "libx264", "-preset", "ultrafast"
    )


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def children_in(workdir: Path) -> list[int]:
    """Return the ids of all processes whose working directory is the given folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.joinpath("cwd").resolve(strict=True) == workdir:
                found.append(int(process.name))
        except OSError:
            continue  # Skip a process that has ended, or that another user owns.
    return found


def start(
    engine: RenderEngine, source: Path, workdir: Path, stop: Stop, **callbacks: Callable[..., None]
) -> list[BaseException]:
    """Render in a thread. Returns a list, to which the thread appends the error that ends the render."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            engine.render(
                source,
                ONLY_MAIN,
                "title",
                workdir,
                **({"on_progress": lambda _: None, "on_step": lambda _: None} | callbacks),
                stop=stop,
                resources=Resources(),
            )
        except BaseException as error:  # noqa: BLE001 - the test checks it
            errors.append(error)

    threading.Thread(target=work, daemon=True).start()
    return errors


def test_a_render_that_is_asked_to_stop_ends_at_once_with_the_reason(
    engine: RenderEngine, long_clip: Path, workdir: Path
) -> None:
    stop, shares = Stop(), [0.0]
    errors = start(engine, long_clip, workdir, stop, on_progress=shares.append)
    eventually(lambda: shares[-1] > 0.05)
    children = children_in(workdir)
    assert children
    stop.ask(LeaseLost())
    stop.ask(Interrupted())
    eventually(lambda: errors)
    assert isinstance(errors[0], LeaseLost)
    assert shares[-1] < 0.5
    assert not children_in(workdir)
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


@pytest.mark.parametrize("step", ["probe", "main", "audio", "join", "verify"])
def test_a_render_can_be_stopped_in_every_step(engine: RenderEngine, footage: Path, workdir: Path, step: str) -> None:
    stop, steps = Stop(), []

    def on_step(name: str) -> None:
        steps.append(name)
        if name == step:
            stop.ask(Interrupted())

    errors = start(engine, footage / "carphone_distorted.mp4", workdir, stop, on_step=on_step)
    eventually(lambda: errors)
    assert isinstance(errors[0], Interrupted)
    assert steps[-1] == step
    assert not children_in(workdir)


def test_a_render_that_was_stopped_before_its_start_starts_no_process(
    engine: RenderEngine, footage: Path, workdir: Path
) -> None:
    stop = Stop()
    stop.ask(Interrupted())
    errors = start(engine, footage / "bikes.mp4", workdir, stop)
    eventually(lambda: errors)
    assert isinstance(errors[0], Interrupted)
    assert list(workdir.iterdir()) == []


def test_an_error_in_a_callback_passes_through_and_kills_the_render(
    engine: RenderEngine, long_clip: Path, workdir: Path
) -> None:
    def on_progress(share: float) -> None:
        if share > 0.05:
            raise LookupError("the caller's own")

    errors = start(engine, long_clip, workdir, Stop(), on_progress=on_progress)
    eventually(lambda: errors)
    assert isinstance(errors[0], LookupError)
    assert not children_in(workdir)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills the children of a process that was killed")
def test_a_worker_that_is_killed_leaves_no_process_behind(long_clip: Path, workdir: Path, cards_dir: Path) -> None:
    command = [sys.executable, "-c", RENDERER, str(long_clip), str(workdir), str(cards_dir)]
    with subprocess.Popen(command) as worker:
        eventually(lambda: children_in(workdir) if (workdir / "main.mp4").exists() else [])
        worker.send_signal(signal.SIGKILL)
    eventually(lambda: not children_in(workdir))


def test_a_render_writes_only_into_its_workdir(
    engine: RenderEngine, footage: Path, tmp_path: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    monkeypatch.setenv("HOME", str(elsewhere))
    monkeypatch.chdir(elsewhere)
    before = sorted(footage.iterdir())
    errors = start(engine, footage / "carphone_distorted.mp4", workdir, Stop())
    eventually(lambda: (workdir / "output.mp4").exists() or errors)
    eventually(lambda: not children_in(workdir))
    assert errors == []
    assert list(elsewhere.iterdir()) == []
    assert sorted(footage.iterdir()) == before
