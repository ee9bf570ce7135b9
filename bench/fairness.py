"""Measures for how long 1,000 uploads of one owner delay three videos of another owner.

`python -m bench.fairness` runs real workers with PostgreSQL, and their queue on Redis and on an emulator of SQS.
Neither of the two queues is fair by itself, so the relays limit the number of messages in the queue. For comparison,
the benchmark also runs without this limit. Only the renderer is fake: it copies the file.
docs/performance.md promises for the runs with the limit: the jobs that come first are at most as many as are in flight.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from anb_core.adapters.system import SystemRuntime
from anb_core.domain.keys import upload_key
from anb_core.settings.capabilities import SHORT_QUEUE
from anb_core.telemetry import configure_logging
from anb_core.usecases.relay import Relay
from bench.backlog import WORKERS, workers
from tests.support.api import VIDEO, environment, in_environment
from tests.support.aws import running_ministack
from tests.support.brokers import running_redis
from tests.support.given import SOURCE, uploading
from tests.support.parts import Parts
from tests.support.postgres import running_postgres
from tests.support.waiting import eventually

FEW = 3
"""Number of videos of the owner with few uploads."""

CLIENTS = 4
"""Number of uploads at the same time. More uploads would need more connections to the database than a program opens."""

CASES = (("Redis", True), ("Redis", False), ("emulator of SQS", True), ("emulator of SQS", False))
"""The queues, and whether the relays keep the queue short."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the printed table. `limit` is the maximum number of messages in the queue, 0 for no limit."""

    queue: str
    limit: int
    ahead: Sequence[int]
    """For each of the few videos: how many jobs of the owner with many uploads began after the video's upload and
    before the work on the video."""
    seconds: Sequence[float]
    """Time from the upload of each of the few videos to the beginning of the work."""

    def __str__(self) -> str:
        numbers = (str(self.limit or "none"), *map(str, self.ahead), *(f"{each:.1f} s" for each in self.seconds))
        return f"| {self.queue} | {' | '.join(numbers)} |"

    @property
    def fair(self) -> bool:
        """Whether at most as many jobs came first as can be in flight. True without a limit, which promises nothing."""
        return not self.limit or max(self.ahead) <= self.limit + WORKERS


def main() -> int:
    """Run the measurement. Returns exit code 1 if a row is not fair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=1000, help="uploads of one owner (default %(default)s)")
    parser.add_argument("--limit", type=int, default=SHORT_QUEUE, help="ANB_QUEUE_LIMIT (default %(default)s)")
    given = parser.parse_args()
    configure_logging("text", "warning")
    places = [f"{what} {place + 1}" for what in ("jobs before video", "time of video") for place in range(FEW)]
    columns = ("queue", "limit", *places)
    sys.stdout.write(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|\n")
    fair = True
    with (
        tempfile.TemporaryDirectory() as folder,
        running_postgres() as postgres,
        running_redis() as redis,
        running_ministack(Path(folder)) as aws,
    ):
        for number, (queue, short) in enumerate(CASES):
            limit, name = given.limit if short else 0, f"fairness-{number}"
            on_redis = {"CELERY_BROKER_URL": redis, "CELERY_TASK_DEFAULT_QUEUE": name, "SQS_QUEUE_URL": ""}
            settings = {
                "DATABASE_URL": postgres.create_database(),
                "ANB_QUEUE_LIMIT": str(limit),
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                **(on_redis if queue == "Redis" else {"SQS_QUEUE_URL": f"{aws}/000000000000/{name}"}),
            }
            row = Row(queue, limit, *measured(Path(folder) / name, aws, given.videos, settings))
            sys.stdout.write(f"{row}\n")
            sys.stdout.flush()
            fair = fair and row.fair
    return 0 if fair else 1


def measured(folder: Path, aws: str, videos: int, changes: dict[str, str]) -> tuple[list[int], list[float]]:
    """Measure one case, with the environment variables `changes`. Returns the row's `ahead` and `seconds`."""
    folder.mkdir()
    variables = environment(folder, aws, **changes)
    with in_environment(variables) as (settings, parts), ThreadPoolExecutor(CLIENTS) as threads:
        many = list(threads.map(lambda _: upload(parts, "many"), range(videos)))
        relay = Relay(
            parts.store,
            parts.queue,
            bucket=parts.objects.bucket,
            runtime=SystemRuntime(),
            queue_limit=settings.queue_limit,
        )
        while relay.send_due().sent:
            pass
        (folder / "go").touch()
        with workers(folder, variables):
            eventually(lambda: begun(parts, many), within=120)
            uploads = [(upload(parts, "few"), parts.store.now()) for _ in range(FEW)]
            few = [video_id for video_id, _ in uploads]
            eventually(lambda: len(begun(parts, few)) == FEW, within=1800, every=0.5)
            starts, others = begun(parts, few), begun(parts, many).values()
    waits = [(uploaded_at, starts[video_id]) for video_id, uploaded_at in uploads]
    ahead = [sum(uploaded_at < other < start for other in others) for uploaded_at, start in waits]
    return ahead, [(start - uploaded_at).total_seconds() for uploaded_at, start in waits]


def upload(parts: Parts, owner: str) -> str:
    """Upload a video and return its id."""
    video_id = uploading(parts.store, owner=owner).video.id
    with parts.objects.writing(upload_key(video_id), content_type="video/mp4") as writer:
        writer.write(VIDEO)
        writer.commit()
    parts.store.complete_upload(video_id, SOURCE)
    return video_id


def begun(parts: Parts, videos: Sequence[str]) -> dict[str, datetime]:
    """Return when the first attempt of each video began. Videos without an attempt are left out."""
    histories = parts.store.histories(videos)
    return {video_id: one.attempts[0].started_at for video_id, one in histories.items() if one.attempts}


if __name__ == "__main__":
    sys.exit(main())
