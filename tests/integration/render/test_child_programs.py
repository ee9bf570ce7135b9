"""Tests that the child programs of a render give the same results with and without the sandbox."""

from pathlib import Path

import av
import pytest
from PIL import Image
from pydantic import TypeAdapter

from anb_core.domain.edit import Trim
from anb_core.domain.input_checks import InputLimits
from anb_core.domain.output_format import FPS, HEIGHT, WIDTH
from anb_core.domain.source_facts import SourceFacts
from anb_core.ports.stop import Stop
from anb_worker.render import child_programs
from tests.support.rendering import MakeClip, run_here

LIMITS = InputLimits()
SOUND = ("-f", "lavfi", "-i", "sine=d=2", "-f", "mp4")
PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=160x90:r=30:d=6", "-f", "lavfi", "-i", "sine=d=6", "-pix_fmt", "yuv420p")


def probed(source: Path, trim: Trim, workdir: Path) -> SourceFacts:
    """Probe a file with and without the sandbox, check that both probes give equal facts, and return the facts."""
    limits = LIMITS.max_pixels, LIMITS.max_seconds
    printed = run_here("anb_worker.render.probe.__main__", source, trim.start, trim.length, *limits)
    facts = TypeAdapter(SourceFacts).validate_json(printed)
    assert facts == child_programs.probe_upload(source, trim, LIMITS, workdir=workdir, stop=Stop())
    return facts


@pytest.mark.parametrize(
    ("name", "codecs", "start"),
    [
        ("a.mp4", ("libx264", "aac"), 0),
        ("a.mp4", ("libx264", "aac"), 3),
        ("a.mkv", ("libx264", "libopus"), 3),
        ("a.ts", ("libx264", "aac"), 3),
        ("a.avi", ("mpeg4", "mp3"), 3),
    ],
)
def test_the_probe_finds_the_same(
    clip: MakeClip, tmp_path: Path, name: str, codecs: tuple[str, str], start: int
) -> None:
    source = clip(name, *PICTURE, "-g", 30, "-c:v", codecs[0], "-c:a", codecs[1])
    facts = probed(source, Trim(start=start, length=2), tmp_path)
    assert facts.video is not None
    assert facts.audio is not None


@pytest.mark.parametrize("second", ["160x90", "320x180"])
def test_the_probe_finds_the_same_in_recordings_that_were_joined(clip: MakeClip, tmp_path: Path, second: str) -> None:
    sizes = "160x90", second
    pieces = [
        clip(f"{size}-{number}.ts", "-f", "lavfi", "-i", f"testsrc2=s={size}:r=30:d=3,format=yuv420p", "-g", 30)
        for number, size in enumerate(sizes)
    ]
    source = tmp_path / "joined.ts"
    source.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    facts = probed(source, Trim(start=2, length=3), tmp_path)
    assert facts.jumps
    assert facts.video is not None
    assert [(look.width, look.height) for look in facts.video.looks] == [(160, 90), (320, 180)][: len(set(sizes))]


def test_the_probe_finds_the_same_in_what_is_no_whole_video(clip: MakeClip, tmp_path: Path) -> None:
    text, sound, rare = tmp_path / "a.txt", clip("a.m4a", *SOUND), clip("a.mp4", *PICTURE, "-g", 300)
    text.write_text("no video")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(rare.read_bytes()[:-1000])
    assert probed(text, Trim(), tmp_path) == SourceFacts()
    assert probed(sound, Trim(), tmp_path).video is None
    assert probed(cut, Trim(), tmp_path).state == "cut_off"
    far_from_its_key_frame = probed(rare, Trim(start=5, length=1), tmp_path)
    assert far_from_its_key_frame.video is not None
    assert far_from_its_key_frame.video.shown


def test_a_title_is_drawn_the_same(tmp_path: Path) -> None:
    drawn = child_programs.draw_title("A title", tmp_path / "sandboxed.png", workdir=tmp_path, stop=Stop())
    (tmp_path / "title.json").write_text('"A title"')
    printed = run_here("anb_worker.render.drawing", "title", tmp_path / "title.json", tmp_path / "here.png")
    assert TypeAdapter(tuple[int, int]).validate_json(printed) == drawn
    assert (tmp_path / "here.png").read_bytes() == (tmp_path / "sandboxed.png").read_bytes()


@pytest.mark.parametrize("size", [(4000, 20), None], ids=["wide", "no picture"])
def test_a_watermark_is_fitted_the_same(tmp_path: Path, size: tuple[int, int] | None) -> None:
    watermark_file = tmp_path / "given.png"
    if size is None:
        watermark_file.write_bytes(b"no picture")
    else:
        Image.new("RGB", size, "red").save(watermark_file)
    fitted = child_programs.fit_watermark(watermark_file, tmp_path / "sandboxed.png", workdir=tmp_path, stop=Stop())
    printed = run_here("anb_worker.render.drawing", "watermark", watermark_file, tmp_path / "here.png")
    assert TypeAdapter(tuple[int, int] | None).validate_json(printed) == fitted
    assert (fitted is None) == (size is None)


def test_cards_are_composed_of_as_many_frames_as_they_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Make short intro and outro clips, because clips of the real length take ten seconds to make.
    monkeypatch.setattr("anb_worker.render.layout.CARD_SECONDS", 0.2)
    monkeypatch.setattr("anb_worker.render.layout.FADE_OUT_SECONDS", 0.1)
    run_here("anb_worker.render.composing", tmp_path)
    for name in ("intro.mov", "outro.mov"):
        with av.open(tmp_path / name) as opened:
            frames = list(opened.decode(video=0))
        assert [(frame.width, frame.height) for frame in frames] == [(WIDTH, HEIGHT)] * round(0.2 * FPS)
        assert frames[-1].to_ndarray(format="gray").mean() < frames[0].to_ndarray(format="gray").mean(), "it fades out"
    with Image.open(tmp_path / "watermark.png") as watermark:
        assert watermark.mode == "RGBA"
