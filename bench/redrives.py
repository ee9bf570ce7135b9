"""Measures how long the API takes to redrive 1,000 dead letters, and how many messages are then sent per second.

`python -m bench.redrives` runs the real API with PostgreSQL and an emulator of S3 and SQS.
docs/performance.md promises a maximum for each.
"""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import httpx

from anb_core.adapters.system import new_id
from anb_core.domain.model import Scope
from anb_core.usecases.dead_letters import MAX_REDRIVES
from anb_core.usecases.tokens import create_token
from tests.support.api import VIDEO, Process, running
from tests.support.aws import running_moto
from tests.support.given import dead_lettered, record_of
from tests.support.postgres import running_postgres
from tests.support.waiting import eventually

LIMIT_SECONDS = 10
RATE = 50
"""Maximum number of messages per second, on average over a WINDOW. The relay sends messages in bursts, so a single
second may have more messages."""

WINDOW = timedelta(seconds=10)


def main() -> int:
    """Run the measurement. Returns exit code 1 if a limit was exceeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dead-letters", type=int, default=MAX_REDRIVES, help="how many dead letters are redriven")
    number = parser.parse_args().dead_letters
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "ANB_LOG_LEVEL": "warning"}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_postgres() as postgres,
        running_moto() as aws,
        running(Path(folder), aws, DATABASE_URL=postgres.create_database(), **keys) as process,
    ):
        with ThreadPoolExecutor(8) as threads:
            videos = list(threads.map(lambda _: dead_letter(process), range(number)))
        seconds, redriven = redrive(process)
        rate = highest_rate(eventually(lambda: sent(process, videos), within=120, every=1))
    sys.stdout.write(
        f"{redriven} of {number} dead letters redriven in {seconds:.1f} s; allowed are {LIMIT_SECONDS} s. "
        f"At most {rate:.0f} messages a second were sent over {WINDOW.seconds} s; allowed are {RATE}.\n"
    )
    return 0 if redriven == number and seconds < LIMIT_SECONDS and rate <= RATE else 1


def dead_letter(process: Process) -> str:
    """Create a video that is a dead letter, and its uploaded file. Returns the video's id."""
    video_id = dead_lettered(process.parts.store)
    key = record_of(process.parts.store, video_id).video.source_key
    with process.parts.objects.writing(key, content_type="video/mp4") as writer:
        writer.write(VIDEO)
        writer.commit()
    return video_id


def redrive(process: Process) -> tuple[float, int]:
    """Redrive all dead letters with one request. Returns its duration in seconds, and the number of redriven jobs."""
    secret = create_token(process.parts.store, owner="ops", scope=Scope.OPS, new_id=new_id).secret
    began = time.monotonic()
    answer = httpx.post(
        f"{process.url}/api/dead-letters/redrive",
        headers={"Authorization": f"Bearer {secret}"},
        json={},
        timeout=120,
        trust_env=False,
    )
    return time.monotonic() - began, answer.raise_for_status().json()["redriven"]


def sent(process: Process, videos: list[str]) -> list[datetime]:
    """Return the times at which the messages were sent, or an empty list if a message is not sent yet."""
    jobs = [history.record.job for history in process.parts.store.histories(videos).values() if history.record]
    times = [job.enqueued_at for job in jobs if job.enqueued_at]
    return sorted(times) if len(times) == len(videos) else []


def highest_rate(times: list[datetime]) -> float:
    """Return the largest number of messages per second, on average over any WINDOW. `times` must be sorted."""
    most = max(sum(first <= time < first + WINDOW for time in times[place:]) for place, first in enumerate(times))
    return most / WINDOW.total_seconds()


if __name__ == "__main__":
    sys.exit(main())
