"""What memory a process of the API takes while as many uploads as it allows go into a slow bucket.

`python -m bench.uploads` runs the real API against a bucket that takes 1 MB a second over all its connections, sends it
16 uploads at once (of 16 owners: none may hold all places) as fast as it takes them, and prints the most memory that
the process had. docs/performance.md says what is promised.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

from anb_api.context import MAX_UPLOADS
from anb_core.domain.model import Scope
from anb_core.usecases.tokens import create_token
from tests.support.api import VIDEO, Process, Raw, part, running
from tests.support.aws import running_moto
from tests.support.s3_sink import Sink, s3_sink

MEBIBYTE = 1024**2
RATE = 1_000_000
LIMIT = 384 * MEBIBYTE


def main() -> int:
    """Run it; 1 when the process took more than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=90, help="for how long uploads go on (default %(default)s)")
    seconds = parser.parse_args().seconds
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "ANB_LOG_LEVEL": "warning"}
    with tempfile.TemporaryDirectory() as folder, s3_sink(RATE) as sink, running_moto() as aws:
        others = {"AWS_ENDPOINT_URL_S3": sink.url, "ANB_MAX_UPLOAD_BYTES": str(1024 * MEBIBYTE)}
        with running(Path(folder), aws, **others) as process:
            idle = peak(process)
            most = uploading(process, sink, seconds)
    sys.stdout.write(
        f"{MAX_UPLOADS} uploads into a bucket that takes {RATE / 1e6:g} MB/s: at most {most / MEBIBYTE:.0f} MiB, "
        f"{idle / MEBIBYTE:.0f} MiB before the first; allowed are {LIMIT / MEBIBYTE:.0f} MiB.\n"
    )
    return 0 if most < LIMIT else 1


def uploading(process: Process, sink: Sink, seconds: float) -> int:
    """The most memory, in bytes, while all places are taken."""
    owners = [f"owner-{number}" for number in range(MAX_UPLOADS)]
    tokens = [create_token(process.parts.store, owner=owner, scope=Scope.USER).secret for owner in owners]
    uploads = [Raw(process.url, token) for token in tokens]
    threads = [threading.Thread(target=fill, args=(upload,), daemon=True) for upload in uploads]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(1)
        under_way = sum(thread.is_alive() for thread in threads)
        sys.stderr.write(
            f"{under_way} uploads, {sink.part_bytes / MEBIBYTE:.0f} MiB stored, {peak(process) / MEBIBYTE:.0f} MiB\n"
        )
        if under_way < MAX_UPLOADS:
            raise SystemExit("an upload was refused or ended: the figure would say nothing")
    return peak(process)


def fill(upload: Raw) -> None:
    """Send a file without an end, as fast as it is taken."""
    upload.begin("Transfer-Encoding: chunked")
    upload.send_chunk(part("title", b"Without end") + part("video_file", VIDEO, "a.mp4")[:-2])
    piece = bytes(MEBIBYTE)
    try:
        while True:
            upload.send_chunk(piece)
    except OSError:
        """Refused, or the process was ended."""


def peak(process: Process) -> int:
    """The most memory that the process ever had, in bytes."""
    status = Path(f"/proc/{process.child.pid}/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
