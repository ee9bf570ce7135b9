"""Tests of the API as a separate process: its stop on a signal, and the data that remains after a kill."""

import signal
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from anb_core.adapters.system import SystemRuntime
from anb_core.domain.retry import RetryPolicy
from anb_core.domain.status import Status
from anb_core.usecases.sweep import Sweep
from tests.support import eventually
from tests.support.api import VIDEO, Process, answers, form, part, running


@pytest.fixture
def process(tmp_path: Path, ministack_url: str) -> Iterator[Process]:
    with running(tmp_path, ministack_url) as process:
        yield process


def test_a_stop_ends_event_streams_and_lets_an_upload_finish(process: Process) -> None:
    headers = {"Authorization": f"Bearer {process.token}"}
    with httpx.Client(base_url=process.url, headers=headers, timeout=60, trust_env=False) as client:
        receipt = client.post("/api/videos/upload", data={"title": "T"}, files={"video_file": ("a.mp4", VIDEO)}).json()
        with (
            process.upload() as upload,
            client.stream("GET", receipt["links"]["events"]) as stream,
        ):
            upload.begin(f"Content-Length: {len(form())}")
            upload.send(form()[:-100])
            lines = stream.iter_lines()
            assert next(lines).startswith("id: ")
            eventually(lambda: Status.UPLOADING in process.statuses())

            process.child.send_signal(signal.SIGTERM)

            list(lines)  # Wait until the server ends the stream.
            eventually(lambda: not answers(process.url))
            assert process.child.poll() is None
            upload.send(form()[-100:])
            assert upload.answer().status == 202
    assert process.child.wait(60) == 0
    assert process.statuses() == [Status.UPLOADED, Status.UPLOADED]


def test_after_a_kill_the_sweep_removes_row_and_parts_of_an_unfinished_upload(process: Process) -> None:
    with process.upload() as upload:
        upload.begin(f"Content-Length: {20 * 2**20}")
        upload.send(part("title", b"T") + part("video_file", VIDEO, "a.mp4")[:-2] + bytes(10 * 2**20))
        eventually(lambda: process.statuses() == [Status.UPLOADING])
        process.child.kill()
        process.child.wait()
    parts = process.parts
    sweep = Sweep(
        parts.store,
        parts.objects,
        [parts.queue],
        policy=RetryPolicy(),
        interval=timedelta(seconds=1),
        hidden=timedelta(minutes=5),
        wake_relay=lambda: None,
        runtime=SystemRuntime(),
    )
    first = sweep.sweep()
    assert first is not None
    assert (first.abandoned, process.statuses()) == (0, [Status.UPLOADING])

    # Advance the time, so that the unfinished upload expires.
    with sqlite3.connect(process.database) as database:
        database.execute("UPDATE jobs SET upload_expires_at = 1 WHERE upload_expires_at IS NOT NULL")
    database.close()
    swept = sweep.sweep()

    assert swept is not None
    assert (swept.abandoned, swept.deleted) == (1, 1)
    assert process.statuses() == []
