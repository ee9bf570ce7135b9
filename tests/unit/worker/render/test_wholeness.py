"""Tests that the worker detects a truncated file by the structure of the file."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from anb_core.domain.formats import Container
from anb_worker.render.probe.wholeness import is_whole

HEADER = b"\x1a\x45\xdf\xa3\x84abcd"
BLOCK = b"\xa3\x81x"
UNKNOWN = b"\x01" + b"\xff" * 7
CLUSTER = b"\x1f\x43\xb6\x75"
SEGMENT = b"\x18\x53\x80\x67"
LIVE = HEADER + SEGMENT + UNKNOWN + CLUSTER + b"\xff" + BLOCK * 3 + CLUSTER + b"\x86" + BLOCK * 2
STORED = HEADER + SEGMENT + b"\x40\x0b" + CLUSTER + b"\x86" + BLOCK * 2


def riff(data: bytes, *, claim: int | None = None) -> bytes:
    return b"RIFF" + (len(data) if claim is None else claim).to_bytes(4, "little") + data + b"\0" * (len(data) % 2)


def box(kind: bytes, data: bytes = b"") -> bytes:
    return (8 + len(data)).to_bytes(4) + kind + data


MP4 = box(b"ftyp", b"isom") + box(b"moov") + box(b"mdat", bytes(100))


def stream(*ends: int) -> Any:
    return SimpleNamespace(index_entries=[SimpleNamespace(pos=end - 10, size=10) for end in ends])


@pytest.mark.parametrize(
    ("container", "data", "whole"),
    [
        (Container.MATROSKA, STORED, True),
        (Container.MATROSKA, STORED[:-1], False),
        (Container.MATROSKA, LIVE, True),
        (Container.MATROSKA, LIVE[:-1], False),
        (Container.MATROSKA, LIVE[: LIVE.index(BLOCK) + 5], False),
        (Container.MATROSKA, LIVE + bytes(9), False),
        (Container.MATROSKA, HEADER + SEGMENT + UNKNOWN + b"\xa3\xff", False),
        (Container.MATROSKA, HEADER + SEGMENT, False),
        (Container.AVI, riff(bytes(20)), True),
        (Container.AVI, riff(bytes(21)) + riff(bytes(9)), True),
        (Container.AVI, riff(bytes(20)) + riff(bytes(9))[:-4], False),
        (Container.AVI, riff(bytes(20), claim=0), False),
        (Container.MPEG_TS, b"G" * 188, False),
    ],
)
def test_a_file_is_whole_when_it_has_all_that_its_structure_tells_of(
    tmp_path: Path, container: Container, data: bytes, *, whole: bool
) -> None:
    path = tmp_path / "clip"
    path.write_bytes(data)
    assert is_whole(container, path, []) is whole


@pytest.mark.parametrize(
    ("data", "ends", "whole"),
    [
        (MP4, (50, len(MP4)), True),
        (MP4, (50, len(MP4) + 1), False),
        (MP4, (), False),
        (MP4 + box(b"moof") + box(b"mdat"), (50,), False),
    ],
    ids=["all", "one sample too far", "no index", "fragments"],
)
def test_an_mp4_is_whole_when_each_sample_of_its_index_is_there(
    tmp_path: Path, data: bytes, ends: tuple[int, ...], *, whole: bool
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(data)
    assert is_whole(Container.MP4, path, [stream(40), stream(*ends)] if ends else [stream()]) is whole
