import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from anb_core.domain.output_format import HEIGHT, WIDTH
from anb_core.ports.stop import Stop
from anb_worker.render.drawing import draw_watermark
from anb_worker.render.engine import RenderEngine
from bench import render
from bench.render import Cost
from tests.support.rendering import make_clip

ROOT = Path(__file__).parents[3]
INTRO, MAIN, OUTRO = 1.1, 0.2, 0.2
"""Durations of the parts of MoviePy's video, in seconds. The title appears 0.7 s after the start of the intro."""


def colored(path: Path, color: str, seconds: float, size: str = f"{WIDTH}x{HEIGHT}") -> Path:
    picture = ("-f", "lavfi", "-i", f"color={color}:size={size}:rate=30")
    sound = ("-f", "lavfi", "-i", "anullsrc=sample_rate=48000", "-shortest")
    return make_clip(path, *picture, *sound, "-t", seconds, "-pix_fmt", "yuv420p")


@pytest.fixture
def short_cards(tmp_path: Path) -> Path:
    """A cache folder with a black intro and a blue outro. Both clips are short, because MoviePy is slow."""
    own = tmp_path / "cards" / "own-1"
    own.mkdir(parents=True)
    colored(own / "intro.mp4", "black", INTRO)
    colored(own / "outro.mp4", "blue", OUTRO)
    draw_watermark().save(own / "watermark.png")
    return own.parent


def frames(path: Path) -> npt.NDArray[np.uint8]:
    """Return the frames of a video, as an array of shape (frames, rows, columns, 3) with RGB values."""
    with av.open(path) as opened:
        return np.array([frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)])


def run(engine: str, clip: Path, cards: Path) -> tuple[Path, Cost]:
    """Run a render engine as the benchmark does. Returns the rendered video and the cost."""
    workdir = clip.parent / engine
    workdir.mkdir()
    cost = render.measure([sys.executable, render.__file__, engine, str(clip), str(workdir), str(cards)])
    return workdir / "output.mp4", cost


def test_moviepy_makes_the_edit_of_the_engine(short_cards: Path, tmp_path: Path) -> None:
    clip = colored(tmp_path / "clip.mp4", "red", MAIN, size="640x480")

    made = frames(run("moviepy", clip, short_cards)[0])

    assert made.shape == (pytest.approx(30 * (INTRO + MAIN + OUTRO), abs=2), HEIGHT, WIDTH, 3)
    before_title, titled = made[15], made[round(30 * INTRO) - 2]
    assert before_title.max() < 30
    assert titled[HEIGHT // 4 : 3 * HEIGHT // 4].max() > 128
    main_part = made[round(30 * (INTRO + MAIN / 2))]
    red = main_part[HEIGHT // 2, :, 0] > 200
    assert list(np.flatnonzero(np.diff(red))) == pytest.approx([159, 1119], abs=3)
    watermarked = main_part[HEIGHT // 2 :, 1125:]
    assert watermarked.max() > 100
    assert main_part[:, :150].max() < 30
    assert made[-2][HEIGHT // 2, WIDTH // 2] == pytest.approx([0, 0, 255], abs=12)


def test_a_run_of_the_engine_makes_a_video_and_has_a_cost(footage: Path, cards_dir: Path, tmp_path: Path) -> None:
    RenderEngine(cards_dir).warm(Stop())
    clip = render.repeated(footage / "bikes.mp4", 1, tmp_path / "clip.mp4")

    video, cost = run("engine", clip, cards_dir)

    with av.open(video) as made:
        assert (made.streams.video[0].width, made.streams.video[0].height) == (WIDTH, HEIGHT)
    assert 0.1 < cost.wall < 60
    assert 0.1 < cost.cpu < 60
    assert 50 < cost.megabytes < 2000


def test_the_cost_is_that_of_the_largest_process_and_of_the_time_of_all_processes() -> None:
    busy = "import time\nheld = b'x' * 300 * 2**20\nwhile time.process_time() < 0.4: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}], check=True)"
    # Linux counts the memory of the process that starts a command as memory of the command. pytest uses much memory,
    # so start the command from a small process.
    bench = f"import sys; from bench.render import measure; print(measure([sys.executable, '-c', {parent!r}]))"

    said = subprocess.run([sys.executable, "-c", bench], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    cost = re.fullmatch(r"Cost\(wall=(.+), cpu=(.+), megabytes=(.+)\)\n", said)
    assert cost is not None
    wall, cpu, megabytes = map(float, cost.groups())
    assert wall > 0.4
    assert 0.4 < cpu < 4
    assert 300 < megabytes < 400


def test_a_run_that_fails_ends_the_measurement_with_its_name() -> None:
    with pytest.raises(SystemExit, match=r"^assert False failed$"):
        render.measure([sys.executable, "-c", "assert False"])


@pytest.mark.parametrize("seconds", [2, 12], ids=["cut", "repeated"])
def test_a_clip_is_cut_or_repeated(seconds: float, footage: Path, tmp_path: Path) -> None:
    clip = render.repeated(footage / "bigbuckbunny.mp4", seconds, tmp_path / "clip.mp4")
    with av.open(clip, "r") as opened:
        assert opened.duration == pytest.approx(seconds * av.time_base, rel=0.05)


def test_the_engines_run_in_turn_and_their_medians_are_compared(
    footage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    costs = {
        "engine": iter([Cost(2, 4, 100), Cost(9, 9, 900), Cost(1, 3, 50)]),
        "moviepy": iter([Cost(10, 22, 700), Cost(9, 21, 600), Cost(30, 40, 800)]),
    }
    ran: list[list[str]] = []

    def measure(command: list[str]) -> Cost:
        ran.append(command)
        assert Path(command[4]).is_dir()
        return next(costs[command[2]])

    monkeypatch.setattr(render, "measure", measure)
    monkeypatch.setattr(RenderEngine, "warm", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["bench.render", "--clip", str(footage / "bikes.mp4"), "--rounds", "3"])

    render.main()

    assert [command[2] for command in ran] == ["engine", "moviepy"] * 3
    assert len({command[4] for command in ran}) == 6
    head, engine, moviepy, wall, cpu = capsys.readouterr().out.splitlines()
    assert head.startswith("bikes.mp4, 30 s, 3 round(s), ")
    assert engine.split() == ["engine", "2.0", "s", "4.0", "CPU", "s", "100", "MB"]
    assert moviepy.split() == ["moviepy", "10.0", "s", "22.0", "CPU", "s", "700", "MB"]
    assert wall == "ratio of wall time 5.0"
    assert cpu == "ratio of cpu time 5.5"
