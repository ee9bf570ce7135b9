"""Faults of the bucket and of the queue, while videos are uploaded and processed. The checker ends each."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anb_cli.emulator import Emulator
from tests.chaos.load import at_work, endured
from tests.chaos.site import VISIBILITY, Servers, Site
from tests.support import eventually
from tests.support.proxy import Cut, Proxy, proxied
from tests.support.tether import free_port

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator of S3 and SQS that the tests may restart."""
    emulator = Emulator(port=free_port(), data=tmp_path_factory.mktemp("emulator"), secret="test")
    emulator.start(within=60)
    yield emulator
    emulator.stop()


@pytest.fixture
def bucket(emulator: Emulator) -> Iterator[Proxy]:
    """A proxy between the programs and the bucket, but not the queue."""
    with proxied("127.0.0.1", int(emulator.url.rpartition(":")[2])) as proxy:
        yield proxy


@pytest.fixture
def site(tmp_path: Path, postgres_url: str, emulator: Emulator, bucket: Proxy, cards_dir: Path) -> Iterator[Site]:
    s3 = {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{bucket.port}"}
    with at_work(tmp_path, Servers(postgres_url, emulator.url), cards_dir, **s3) as site:
        yield site


@pytest.mark.parametrize("seconds", [1.0, 1.2 * VISIBILITY.total_seconds()])
def test_a_bucket_and_queue_that_are_away_cost_only_time(
    site: Site, emulator: Emulator, clip: bytes, seconds: float
) -> None:
    """The second outage is longer than the visibility timeout of the messages."""
    with endured(site, clip):
        emulator.stop()
        time.sleep(seconds)
        emulator.start(within=60)


def test_a_bucket_that_refuses_connections_costs_only_time(site: Site, bucket: Proxy, clip: bytes) -> None:
    with endured(site, clip):
        bucket.refusing = True
        time.sleep(5)
        bucket.refusing = False


def test_a_slow_bucket_costs_only_time(site: Site, bucket: Proxy, clip: bytes) -> None:
    with endured(site, clip):
        bucket.delay = 1.0
        time.sleep(10)
        bucket.delay = 0.0


def test_transfers_that_break_cost_only_time(site: Site, bucket: Proxy, clip: bytes) -> None:
    with endured(site, clip):
        for when in Cut:
            for request_line in (b"GET /chaos", b"PUT /chaos"):
                cuts = bucket.cuts
                bucket.cut(when, request_line)
                eventually(lambda before=cuts: bucket.cuts > before)  # type: ignore[misc]
