"""Measures the memory of an API process that forwards the maximum number of uploads to a slow bucket.

`python -m bench.uploads` runs the real API with a bucket that accepts 1 MB per second over all its connections.
The benchmark sends 16 uploads at the same time, as fast as the API reads.
Then the benchmark prints the peak memory of the API process. docs/performance.md promises a limit for this number.
The uploads have 16 owners, because the API does not let one owner use all upload slots.
"""

import argparse
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from anb_api.context import MAX_UPLOADS
from anb_core.adapters.system import new_id
from anb_core.domain.model import Scope
from anb_core.usecases.tokens import create_token
from tests.support.api import VIDEO, Process, Raw, part, running
from tests.support.aws import running_moto
from tests.support.s3_sink import Sink, s3_sink

MEBIBYTE = 1024**2
RATE = 1_000_000
LIMIT = 384 * MEBIBYTE


def main() -> int:
    """Run the measurement. Returns exit code 1 if the process used more memory than `LIMIT`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=90, help="how long the uploads last (default %(default)s)")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder, s3_sink(RATE) as sink, running_moto() as aws:
        others = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL_S3": sink.url,
            "ANB_LOG_LEVEL": "warning",
            "ANB_MAX_UPLOAD_BYTES": str(1024 * MEBIBYTE),
        }
        with running(Path(folder), aws, **others) as process:
            idle = peak(process)
            most = uploading(process, sink, seconds)
    sys.stdout.write(
        f"{MAX_UPLOADS} uploads into a bucket that takes {RATE / 1e6:g} MB/s: at most {most / MEBIBYTE:.0f} MiB, "
        f"{idle / MEBIBYTE:.0f} MiB before the first; allowed are {LIMIT / MEBIBYTE:.0f} MiB.\n"
    )
    return 0 if most < LIMIT else 1


def uploading(process: Process, sink: Sink, seconds: float) -> int:
    """Return the peak memory of the API process in bytes, while all upload slots are in use."""
    owners = [f"owner-{number}" for number in range(MAX_UPLOADS)]
    tokens = [
        create_token(process.parts.store, owner=owner, scope=Scope.USER, new_id=new_id).secret for owner in owners
    ]
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
            raise SystemExit("an upload was refused or ended: the measurement is worthless")
    return peak(process)


def fill(upload: Raw) -> None:
    """Send an endless file, as fast as the API reads it."""
    piece = bytes(MEBIBYTE)
    # The connection ends if the API refuses the upload, or if the API process is stopped.
    with upload, suppress(OSError):
        upload.begin("Transfer-Encoding: chunked")
        upload.send_chunk(part("title", b"Without end") + part("video_file", VIDEO, "a.mp4")[:-2])
        while True:
            upload.send_chunk(piece)


def peak(process: Process) -> int:
    """Peak memory of the process since its start, in bytes."""
    status = Path(f"/proc/{process.child.pid}/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
