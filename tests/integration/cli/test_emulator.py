import os
import resource
import subprocess
import sys
import venv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import boto3
import httpx
import psutil
import pytest

from anb_cli import emulator
from anb_cli.emulator import Emulator
from anb_cli.errors import StackTrouble
from anb_core.adapters.s3 import S3Objects
from anb_core.domain.errors import Full
from tests.support import eventually
from tests.support.tether import free_port


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    server = Emulator(port=free_port(), data=tmp_path / "data", secret="test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    server.start()
    yield server
    server.stop()


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == HTTPStatus.FORBIDDEN
    except httpx.TransportError:
        return False


def test_messages_and_objects_are_there_again_after_a_stop_and_a_start(running: Emulator) -> None:
    sqs = boto3.client("sqs", endpoint_url=running.url)
    s3 = boto3.client("s3", endpoint_url=running.url)
    queue = sqs.create_queue(QueueName="jobs")["QueueUrl"]
    sqs.send_message(QueueUrl=queue, MessageBody="still here")
    s3.create_bucket(Bucket="videos")
    s3.put_object(Bucket="videos", Key="uploads/one.mp4", Body=b"frames")

    running.stop()
    assert not running.running
    running.start()

    assert sqs.receive_message(QueueUrl=queue)["Messages"][0]["Body"] == "still here"
    assert s3.get_object(Bucket="videos", Key="uploads/one.mp4")["Body"].read() == b"frames"


@pytest.mark.parametrize("size", [2**20, 9 * 2**20], ids=["whole", "in parts"])
def test_an_object_that_does_not_fit_on_the_disk_is_refused_and_leaves_nothing(running: Emulator, size: int) -> None:
    objects = S3Objects("videos", region="us-east-1", patience=timedelta(seconds=20), may_create=True)
    objects.ensure()

    def put() -> None:
        with objects.writing("uploads/one.mp4", content_type="video/mp4") as writer:
            writer.write(bytes(size))
            writer.commit()

    # RLIMIT_FSIZE simulates a full disk by limiting the size of every file that the emulator writes.
    with closing(objects):
        _limit_files(running, 2**19)
        with pytest.raises(Full, match="InsufficientStorage"):
            put()
        assert objects.head("uploads/one.mp4") is None

        _limit_files(running, resource.RLIM_INFINITY)
        put()
        assert objects.head("uploads/one.mp4")


def _limit_files(server: Emulator, size: int) -> None:
    [process] = [child for child in psutil.Process().children() if Path(child.cwd()) == server.log.parent]
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_the_emulator_ends_when_the_process_that_started_it_ends_even_by_a_kill(tmp_path: Path) -> None:
    port = free_port()
    script = (
        "import os; from pathlib import Path; from anb_cli.emulator import Emulator\n"
        f"Emulator(port={port}, data=Path({str(tmp_path)!r}), secret='test').start()\n"
        "print(flush=True); os.read(0, 1)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert answers(f"http://127.0.0.1:{port}")
        parent.kill()
    eventually(lambda: not answers(f"http://127.0.0.1:{port}"))
    eventually(lambda: list(tmp_path.glob("state/*.json")))  # The emulator writes its state only at a clean stop.


def test_a_port_that_is_taken_is_named(running: Emulator, tmp_path: Path) -> None:
    port = running.url.rpartition(":")[2]
    with pytest.raises(StackTrouble, match=f"Port {port} .* is taken"):
        Emulator(port=int(port), data=tmp_path / "other", secret="test").start()


def test_an_emulator_that_can_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('no memory left on this machine')")
    monkeypatch.setattr(emulator, "CHILD", broken)
    with pytest.raises(StackTrouble, match="no memory left"):
        Emulator(port=free_port(), data=tmp_path, secret="test").start()


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache folder. Virtual environments are created without pip, so that an installation is fast."""
    monkeypatch.setattr("platformdirs.user_cache_path", lambda _: tmp_path)
    monkeypatch.setattr("venv.create", lambda home, **_: venv.EnvBuilder().create(home))


@pytest.mark.usefixtures("empty_cache")
def test_of_many_threads_that_need_the_emulator_at_once_one_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[Path] = []
    monkeypatch.setattr(emulator, "install_lock", installed.append)

    with ThreadPoolExecutor(4) as pool:
        (python,) = set(pool.map(lambda _: emulator.install(), range(4)))

    assert installed == [python]
    assert os.access(python, os.X_OK)


@pytest.mark.usefixtures("empty_cache")
def test_an_installation_that_failed_says_why_and_is_begun_anew_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StackTrouble, match=r"(?s)could not be installed.*No module named pip"):
        emulator.install()

    monkeypatch.setattr(emulator, "install_lock", lambda _: None)
    assert emulator.install().exists()
