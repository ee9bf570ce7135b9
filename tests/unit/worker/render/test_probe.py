"""Tests that the probe reports every error of its libraries as an error in the file."""

import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import av
import pytest

from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import BadInput
from anb_core.domain.input_checks import InputLimits
from anb_core.domain.render_plan import plan_render
from anb_worker.render.probe.facts import probe
from tests.support.rendering import make_clip

ERRORS = sorted(
    {
        kind
        for module in (builtins, av.error)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, Warning)
    },
    key=lambda kind: f"{kind.__module__}.{kind.__name__}",
)


REALLY_OPEN = av.open


def raised(kind: type[Exception]) -> Exception:
    """Create an exception of the given class. Classes need different arguments, so try several lists of arguments."""
    code = ("utf-8", b"\xff", 0, 1, "no sense"), ("utf-8", "\udcff", 0, 1, "no sense"), ("\udcff", 0, 1, "no sense")
    for arguments in ((), ("no sense",), (1, "no sense"), *code, ("no sense", [KeyError()])):
        try:
            return kind(*arguments)
        except TypeError:
            continue
    raise AssertionError(f"no {kind} could be made")


@dataclass
class Faulty:
    """A container or stream that raises `error` when the probe reads the attribute with the name `place`."""

    real: Any
    place: str
    error: Exception

    def __getattr__(self, name: str) -> object:
        if name == self.place:
            raise self.error
        return getattr(self.real, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.real.close()

    def demux(self, *_: object) -> Iterator[object]:
        yield from self.real.demux()
        if self.place == "demux":
            raise self.error


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    return make_clip(folder / "clip.mp4", "-f", "lavfi", "-i", "testsrc2=s=64x36:r=30:d=0.1", "-c:v", "libx264")


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_no_error_of_a_library_gets_past_the_probe(
    clip: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    error = raised(kind)

    def open_badly(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(av, "open", open_badly)
    assert probe(clip, 0, 30, 10_000).state == "unreadable"
    monkeypatch.undo()
    for place in ("start_time", "duration", "streams", "seek", "demux"):
        with monkeypatch.context() as patch:
            patch.setattr(av, "open", lambda *given, at=place, **named: Faulty(REALLY_OPEN(*given, **named), at, error))
            facts = probe(clip, 0.05, 30, 10_000)
        try:
            plan_render(facts, EditSpec(), InputLimits(), intro_frames=0, outro_frames=0)
        except BadInput as blamed:
            assert blamed.code in {"corrupt", "zero_duration"}, place  # noqa: PT017 - only some places end it


def test_a_file_that_is_not_there_is_no_fault_of_its_bytes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        probe(tmp_path / "missing.mp4", 0, 30, 10_000)


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4", "clip.avi", "clip.ts"])
def test_tags_that_are_no_text_do_not_matter(tmp_path: Path, name: str) -> None:
    tags = ("-metadata", "title=SomeTitle", "-metadata", "service_name=SomeTitle", "-metadata:s:v", "title=SomeTitle")
    source = make_clip(tmp_path / name, "-f", "lavfi", "-i", "testsrc2=s=64x36:r=30:d=0.1", "-c:v", "mpeg4", *tags)
    data = source.read_bytes()
    assert b"SomeTitle" in data
    source.write_bytes(data.replace(b"SomeTitle", b"Some\xff\xfele\xe4"))
    facts = probe(source, 0, 30, 10_000)
    assert facts.video is not None
    assert facts.video.looks


def with_dolby_vision(data: bytes, profile: int) -> bytes:
    """Mark the only stream of an MP4 file as Dolby Vision. The MP4 index must be at the end of the file."""
    patched = bytearray(data)
    index = patched.index(b"moov")
    entry = patched.index(b"hvc1", index) - 4
    end = entry + int.from_bytes(patched[entry : entry + 4])
    record = bytes([1, 0, profile << 1, 0b1101, 0 if profile == 5 else 1 << 4]).ljust(24, b"\0")
    patched[end:end] = (8 + len(record)).to_bytes(4) + b"dvcC" + record
    for name in (b"hvc1", b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        at = patched.index(name, index) - 4
        patched[at : at + 4] = (int.from_bytes(patched[at : at + 4]) + 8 + len(record)).to_bytes(4)
    return bytes(patched)


@pytest.mark.parametrize(("profile", "own"), [(5, True), (8, False)])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_dolby_vision_with_colors_of_its_own_is_distinguished_from_a_compatible_profile(
    tmp_path: Path, profile: int, name: str, *, own: bool
) -> None:
    picture = ("-f", "lavfi", "-i", "testsrc2=s=64x64:r=30:d=0.1", "-c:v", "libx265", "-x265-params", "log-level=none")
    source = make_clip(tmp_path / "made.mp4", *picture, "-pix_fmt", "yuv420p10le", "-tag:v", "hvc1")
    source.write_bytes(with_dolby_vision(source.read_bytes(), profile))
    copied = make_clip(tmp_path / name, "-i", source, "-c", "copy", "-strict", "unofficial")
    facts = probe(copied, 0, 30, 10_000)
    assert facts.video is not None
    assert [look.colors.dolby_vision for look in facts.video.looks] == [own]
