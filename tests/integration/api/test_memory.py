import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api import END, VIDEO, Process, form, part, running
from tests.support.s3_sink import Sink, s3_sink

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="memory and disk writes of a process are read from /proc"
)

GIGABYTE = 1024**3
MEBIBYTE = 1024**2


@pytest.fixture
def sink() -> Iterator[Sink]:
    with s3_sink() as sink:
        yield sink


@pytest.fixture
def process(sink: Sink, ministack_url: str, tmp_path: Path) -> Iterator[Process]:
    (tmp_path / "tmp").mkdir()
    others = {
        "AWS_ENDPOINT_URL_S3": sink.url,
        "TMPDIR": str(tmp_path / "tmp"),
        "ANB_MAX_UPLOAD_BYTES": str(2 * GIGABYTE),
    }
    with running(tmp_path, ministack_url, **others) as process:
        yield process


def number_in(path: Path, name: str) -> int:
    (line,) = [line for line in path.read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1])


def test_a_gigabyte_passes_through_in_little_memory_and_past_the_disk(
    process: Process, sink: Sink, tmp_path: Path
) -> None:
    proc = Path("/proc") / str(process.child.pid)
    with process.upload() as upload:
        # Upload a small file first, so that all modules and buffers of an upload are loaded before the measurement.
        upload.begin(f"Content-Length: {len(form())}")
        upload.send(form())
        assert upload.answer().status == 202
    before = number_in(proc / "status", "VmRSS") * 1024
    written = number_in(proc / "io", "write_bytes")
    (proc / "clear_refs").write_text("5")  # Writing "5" resets VmHWM, the process's peak memory use.

    head = part("title", b"A gigabyte") + part("video_file", VIDEO, "a.mp4")[:-2]
    with process.upload() as upload:
        upload.begin(f"Content-Length: {len(head) + GIGABYTE + len(END) + 2}")
        upload.send(head)
        piece = bytes(MEBIBYTE)
        for _ in range(GIGABYTE // MEBIBYTE):
            upload.send(piece)
        upload.send(b"\r\n" + END)
        assert upload.answer().status == 202

    assert len(sink.completed) == 1
    assert sink.part_bytes >= GIGABYTE
    peak = number_in(proc / "status", "VmHWM") * 1024
    assert peak - before < 64 * MEBIBYTE
    assert number_in(proc / "io", "write_bytes") - written < 4 * MEBIBYTE
    assert not list((tmp_path / "tmp").iterdir())
