"""Tests of the project's own intro, outro and watermark, and of replacements that a deployment configures."""

import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from anb_core.domain.edit import EditSpec, Trim
from anb_core.domain.errors import Interrupted, Transient
from anb_core.ports.renderer import Resources
from anb_core.ports.stop import Stop
from anb_worker.render.engine import RenderEngine
from tests.support.rendering import OFF, MakeClip, Render, render_clip

SHORT = Trim(length=0.5)


def extradata(path: Path) -> bytes | None:
    with av.open(path) as opened:
        return opened.streams.video[0].codec_context.extradata


def test_every_part_has_the_same_codec_headers_as_the_joined_file(render: Render, footage: Path) -> None:
    output = render(footage / "carphone_pristine.mp4", EditSpec(trim=SHORT))
    parts = [output.path.with_name(f"{name}.mp4") for name in ("intro", "main", "outro")]
    assert {extradata(part) for part in parts} == {extradata(output.path)}


def test_an_operators_intro_and_outro_are_shown_and_heard(clip: MakeClip, render: Render, footage: Path) -> None:
    # The intro is square and red with a tone of 1 s, and the outro is blue without sound.
    # The intro and the outro differ from the finished video in size, frame rate, sample rate and codecs.
    intro = clip(
        "intro.mp4",
        *("-f", "lavfi", "-i", "color=red:s=480x480:r=25:d=1", "-f", "lavfi", "-i", "sine=r=22050:d=1"),
        *("-c:v", "mpeg4", "-q:v", "2"),
    )
    outro = clip("outro.mp4", "-f", "lavfi", "-i", "color=blue:s=1920x1080:r=60:d=0.5", "-c:v", "libx264")
    output = render(
        footage / "bikes.mp4",
        EditSpec(trim=SHORT, watermark=OFF),
        title="Not on the operator's",
        resources=Resources(intro=intro, outro=outro),
    )
    assert output.rendered.frames == 30 + 15 + 15
    red = output.frame(0.5)
    assert red[360, 640][0] > 200
    assert red[:, :270].max() < 30
    assert red[480:600, 290:990, 1].max() < 60  # There is no title: only the project's own intro shows it.
    assert output.frame(1.7)[360, 640][2] > 200
    loudness = output.loudness()
    assert loudness[4800:43_200].max() > 0.05
    assert loudness[50_400:].max() < 0.01


def test_an_operators_watermark_is_shown_no_larger_than_ours_may_be(
    render: Render, footage: Path, tmp_path: Path
) -> None:
    Image.new("RGBA", (900, 900), (0, 255, 0, 255)).save(tmp_path / "watermark.png")
    output = render(
        footage / "carphone_pristine.mp4",
        EditSpec(trim=SHORT, intro=OFF, outro=OFF),
        resources=Resources(watermark=tmp_path / "watermark.png"),
    )
    picture = output.frame(0.2).astype(int)
    green = (picture[:, :, 1] > 180) & (picture[:, :, 0] < 90) & (picture[:, :, 2] < 90)
    rows, columns = np.flatnonzero(green.any(axis=1)), np.flatnonzero(green.any(axis=0))
    assert abs(len(rows) - 96) <= 4
    assert abs(len(columns) - 96) <= 4
    assert abs(int(rows[-1]) - (719 - 32)) <= 2
    assert abs(int(columns[-1]) - (1279 - 32)) <= 2


@pytest.mark.parametrize("part", ["intro", "outro", "watermark"])
def test_an_operators_part_that_can_not_be_used_is_not_the_uploads_fault(
    render: Render, footage: Path, tmp_path: Path, part: str
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("no picture at all")
    with pytest.raises(Transient, match=part) as caught:
        render(footage / "carphone_pristine.mp4", EditSpec(trim=SHORT), resources=Resources(**{part: broken}))
    assert caught.value.code == "bad_resource"


@pytest.mark.parametrize("part", ["intro", "outro"])
def test_an_operators_part_whose_sound_can_not_be_decoded_is_not_the_uploads_fault(
    clip: MakeClip, render: Render, footage: Path, part: str
) -> None:
    picture, tone = ("-f", "lavfi", "-i", "color=gray:s=64x36:r=30:d=1"), ("-f", "lavfi", "-i", "sine=d=1")
    broken = clip("broken.mkv", *picture, *tone, "-c:v", "libx264", "-c:a", "libopus")
    data = broken.read_bytes()
    head = data.index(b"OpusHead")
    # Write an undefined channel mapping family into the Opus header, so that no decoder accepts the sound.
    broken.write_bytes(data[: head + 18] + b"\x63" + data[head + 19 :])
    with pytest.raises(Transient, match=part) as caught:
        render(footage / "carphone_pristine.mp4", EditSpec(trim=SHORT), resources=Resources(**{part: broken}))
    assert caught.value.code == "bad_resource"


def test_an_operators_part_is_made_joinable_once_whatever_a_killed_process_left(
    clip: MakeClip, footage: Path, tmp_path: Path
) -> None:
    intro = clip("intro.mp4", "-f", "lavfi", "-i", "color=teal:s=320x180:r=30:d=0.4", "-c:v", "libx264")
    cards = tmp_path / "cards"
    (cards / "arriving").mkdir(parents=True)
    (cards / "arriving" / "sound.wav").write_text("half of it")
    made = []
    for number in range(2):
        render_clip(
            RenderEngine(cards),
            footage / "carphone_distorted.mp4",
            EditSpec(trim=SHORT, watermark=OFF, outro=OFF),
            tmp_path / f"work-{number}",
            resources=Resources(intro=intro),
        )
        made.append({path: path.stat().st_mtime_ns for path in cards.glob("intro-*/*")})
    assert made[0] == made[1]
    assert {path.name for path in made[0]} == {"card.json", "picture.mp4"}


def test_processes_that_need_the_cards_at_the_same_time_make_them_once(warm_cards: Path) -> None:
    (entry,) = warm_cards.glob("own-*")
    assert sorted(path.name for path in entry.iterdir()) == ["intro.mp4", "outro.mp4", "watermark.png"]
    assert not (warm_cards / "arriving").exists()


def test_cards_that_came_with_the_program_are_not_made_again(warm_cards: Path, footage: Path, tmp_path: Path) -> None:
    engine = RenderEngine(tmp_path / "cards", shipped=warm_cards)
    engine.warm(Stop())
    render_clip(engine, footage / "carphone_pristine.mp4", EditSpec(trim=SHORT), tmp_path / "work")
    assert not (tmp_path / "cards").exists()


def test_cards_that_came_with_another_version_of_the_program_are_not_used(warm_cards: Path, tmp_path: Path) -> None:
    (own,) = warm_cards.glob("own-*")
    shipped = tmp_path / "shipped"
    shutil.copytree(own, shipped / "own-0123456789abcdef0123456789abcdef")
    stop = Stop()
    stop.ask(Interrupted())
    with pytest.raises(Interrupted):
        RenderEngine(tmp_path / "cards", shipped=shipped).warm(stop)


def test_composing_the_cards_can_be_stopped(tmp_path: Path) -> None:
    stop = Stop()
    stop.ask(Interrupted())
    with pytest.raises(Interrupted):
        RenderEngine(tmp_path / "cards", shipped=tmp_path).warm(stop)
    assert not list((tmp_path / "cards").glob("own-*"))
