import re
import socketserver
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from anb_core.testing.store import InMemoryStore
from bench import uploads
from bench.uploads import LIMIT, MEBIBYTE
from tests.support.s3_sink import Sink

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory of a process is read from /proc")


def run(monkeypatch: pytest.MonkeyPatch, seconds: float) -> int:
    monkeypatch.setattr(sys, "argv", ["bench.uploads", "--seconds", str(seconds)])
    return uploads.main()


def test_a_short_run_prints_the_peak_of_an_api_that_takes_uploads_in_all_slots(
    moto_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(uploads, "running_moto", lambda: nullcontext(moto_url))

    assert run(monkeypatch, 0.5) == 0

    said = capsys.readouterr()
    line = re.fullmatch(
        r"16 uploads into a bucket that takes 1 MB/s: at most (\d+) MiB, (\d+) MiB before the first; "
        r"allowed are 384 MiB\.\n",
        said.out,
    )
    assert line is not None, said
    most, idle = map(int, line.groups())
    assert 0 < idle < most < 384
    assert said.err.startswith("16 uploads, ")


@pytest.mark.parametrize(("most", "code"), [(LIMIT - 1, 0), (LIMIT, 1)], ids=["below", "at the limit"])
def test_a_peak_of_the_limit_or_more_fails_the_run(most: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "running_moto", lambda: nullcontext("http://moto"))
    monkeypatch.setattr(uploads, "running", lambda *_, **__: nullcontext(None))
    monkeypatch.setattr(uploads, "peak", lambda _: MEBIBYTE)
    monkeypatch.setattr(uploads, "uploading", lambda *_: most)

    assert run(monkeypatch, 0) == code


@pytest.fixture
def refusing_url() -> Iterator[str]:
    """The URL of a server that closes every connection."""
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_run_in_which_an_upload_ends_is_worthless(refusing_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "peak", lambda _: MEBIBYTE)
    process: Any = SimpleNamespace(url=refusing_url, parts=SimpleNamespace(store=InMemoryStore()))

    with Sink() as sink, pytest.raises(SystemExit, match="an upload was refused or ended"):
        uploads.uploading(process, sink, seconds=60)
