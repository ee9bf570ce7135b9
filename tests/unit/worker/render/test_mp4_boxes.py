from pathlib import Path

import pytest

from anb_worker.render.mp4_boxes import Box, boxes


def box(kind: bytes, content: bytes = b"") -> bytes:
    return (8 + len(content)).to_bytes(4) + kind + content


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", []),
        (box(b"ftyp", b"isom") + box(b"moov", b"12345"), [Box("ftyp", 0, 12), Box("moov", 12, 25)]),
        (b"\0\0\0\1mdat" + (20).to_bytes(8) + b"1234" + box(b"moov"), [Box("mdat", 0, 20), Box("moov", 20, 28)]),
        (box(b"ftyp") + b"\0\0\0\0mdat123", [Box("ftyp", 0, 8), Box("mdat", 8, 19)]),
        (box(b"ftyp") + b"\0\0\4\0mdat123", [Box("ftyp", 0, 8), Box("mdat", 8, 8 + 1024)]),
        (box(b"ftyp") + b"\0\0\0\2mdat", [Box("ftyp", 0, 8)]),
        (box(b"ftyp") + b"\0\0\0\x10\xff\xfe\0\0abcdefgh", [Box("ftyp", 0, 8)]),
        (box(b"ftyp") + b"\0\0\0", [Box("ftyp", 0, 8)]),
        (b"\0\0\0\1mdat" + (2**64 - 1).to_bytes(8), [Box("mdat", 0, 2**64 - 1)]),
    ],
)
def test_boxes_are_found_up_to_the_first_invalid_one(tmp_path: Path, data: bytes, found: list[Box]) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    assert list(boxes(path)) == found


def test_a_file_of_endless_boxes_ends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(box(b"free") * 200_000)
    assert len(list(boxes(path))) == 100_000
