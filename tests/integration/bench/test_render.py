import re
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
from bench.render import __main__ as bench
from bench.render import quality
from bench.render.clips import make_clip as make_kind
from bench.render.cost import Cost, measure
from bench.render.quality import PRESETS, Point, at_rate, draw, picture_bytes
from tests.support.rendering import make_clip

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
    command = [sys.executable, "-m", "bench.render.engines", engine, str(clip), str(workdir), str(cards)]
    cost = measure(command)
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


def test_the_command_by_hand_makes_the_edit_of_the_engine(cards_dir: Path, footage: Path, tmp_path: Path) -> None:
    RenderEngine(cards_dir).warm(Stop())
    clip = make_clip(tmp_path / "clip.mp4", "-i", footage / "bigbuckbunny.mp4", "-t", 1, "-vf", "fps=30")

    video, cost = run("engine", clip, cards_dir)
    reference, _ = run("lossless", clip, cards_dir)

    assert 80 < bench.quality_of(video, reference).vmaf < 98
    # Both take the colors of the clip, which has no tags, for BT.709.
    differences = frames(video)[100].astype(int) - frames(reference)[100]
    assert abs(differences.mean()) < 0.5
    assert 0.1 < cost.cpu < 60


def test_the_quality_is_that_of_the_main_part_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = ("-f", "lavfi", "-i", f"testsrc2=size={WIDTH}x{HEIGHT}:rate=30,noise=alls=40:allf=t", "-frames:v", 6)
    reference = make_clip(tmp_path / "reference.mp4", *noise, "-c:v", "libx264", "-qp", 0)
    spoilt = ("-vf", "drawbox=t=fill:color=gray:enable='lt(n,2)+gte(n,4)'", "-c:v", "libx264", "-qp", 10)
    video = make_clip(tmp_path / "video.mp4", "-i", reference, *spoilt)
    monkeypatch.setattr(bench, "CARD", 2)

    measured = bench.quality_of(video, reference)

    assert measured.vmaf > 90
    assert measured.size == sum(picture_bytes(video)[2:4]) < video.stat().st_size


def test_the_cost_includes_time_and_memory_of_all_processes() -> None:
    busy = "import time\nheld = b'x' * 150 * 2**20\nwhile time.process_time() < 0.4: pass\ntime.sleep(1)"
    children = f"import subprocess, sys; begun = [subprocess.Popen([sys.executable, '-c', {busy!r}]) for _ in '12']"

    cost = measure([sys.executable, "-c", f"{children}; print([one.wait() for one in begun])"])

    assert cost.wall > 1
    assert 0.8 < cost.cpu < 4
    assert 300 < cost.megabytes < 400


def test_a_run_that_fails_ends_the_measurement_with_its_name() -> None:
    with pytest.raises(SystemExit, match=r"^-c assert False failed$"):
        measure([sys.executable, "-c", "assert False"])


@pytest.mark.parametrize(("kind", "seconds", "rotation"), [("phone", 5, 0), ("portrait", 0.5, 90)])
def test_clips_have_the_length_and_the_rotation_of_their_kind(
    kind: str, seconds: float, rotation: int, footage: Path, tmp_path: Path
) -> None:
    clip = make_kind(kind, 0.5, tmp_path / "clip.mp4", footage / "bigbuckbunny.mp4")
    with av.open(clip, "r") as opened:
        assert opened.duration == pytest.approx(seconds * av.time_base, rel=0.2)
        assert next(opened.decode(video=0)).rotation == rotation


def test_the_table_has_medians_and_ratios() -> None:
    costs = {
        "engine": [Cost(2, 4, 100), Cost(9, 9, 900), Cost(1, 3, 50)],
        "moviepy": [Cost(10, 22, 700), Cost(9, 21, 600), Cost(30, 40, 800)],
        "by hand": [Cost(4, 8, 80)],
        "main": [Cost(2, 3, 80)],
        "main by hand": [Cost(2, 4, 80)],
    }

    lines = bench.table(costs, {"engine": 1234567}, {"engine": bench.Quality(765432, 90.04)})

    assert lines[2] == "| engine | 2.0 | 4.0 | 100 | 1,234,567 | 765,432 | 90.0 |"
    assert lines[3] == "| moviepy | 10.0 | 22.0 | 700 | - | - | - |"
    assert lines[-4:] == [
        "MoviePy / engine: 5.0 in wall time, 5.5 in CPU time",
        "MoviePy / by hand: 2.5 in wall time, 2.8 in CPU time",
        "CPU time of the main part / by hand: 0.75",
        "memory of the engine - by hand: +20 MiB",
    ]


def test_the_engines_run_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def measured(command: list[str]) -> Cost:
        ran.append(command[3])
        assert list(Path(command[5]).iterdir()) == []
        (Path(command[5]) / "output.mp4").write_bytes(b"four")
        return Cost(1, 2, 3)

    monkeypatch.setattr(bench, "measure", measured)

    costs, sizes = bench.costs_of(tmp_path / "clip.mp4", tmp_path, 2)

    assert ran == bench.COMPARED * 2
    assert costs["moviepy"] == [Cost(1, 2, 3)] * 2
    assert sizes["engine"] == 4
    assert (tmp_path / "by hand.mp4").read_bytes() == b"four"


def test_the_quality_between_two_points_is_linear_in_the_logarithm_of_the_rate() -> None:
    points = [Point(4000, 94, 1), Point(1000, 90, 1), Point(250, 84, 1)]
    assert at_rate(points, 2000) == pytest.approx(92)
    assert at_rate(points, 500) == pytest.approx(87)
    assert at_rate(points, 8000) == pytest.approx(96)


def test_the_picture_has_a_line_for_each_preset_and_each_clip() -> None:
    series = {name: [Point(1000, 90, 1), Point(4000, 94, 1)] for name in PRESETS}
    picture = draw({"one": series, "two": series})
    assert picture.count("<polyline") == 2 * len(PRESETS)
    assert re.findall(r'font-size="16">(.*?)<', picture) == ["one", "two"]


def test_the_curves_of_both_clips_are_measured_compared_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, crfs = tmp_path / "quality.svg", (23, 30)

    def tiny(_kind: str, seconds: float, path: Path) -> Path:
        return make_clip(path, "-f", "lavfi", "-i", "testsrc2=s=320x180:r=30", "-t", seconds, "-pix_fmt", "yuv420p")

    monkeypatch.setattr(quality, "CRFS", crfs)
    monkeypatch.setattr(quality, "make_clip", tiny)
    monkeypatch.setattr(sys, "argv", ["quality", "--seconds", "0.4", "--picture", str(picture)])

    quality.main()

    said = capsys.readouterr().out
    assert said.count("kbit/s") == 2 * len(PRESETS) * len(crfs)
    assert said.count("our VMAF is") == 4
    assert picture.read_text(encoding="utf-8").count("<polyline") == 2 * len(PRESETS)
