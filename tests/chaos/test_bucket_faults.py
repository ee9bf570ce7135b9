"""Faults of the bucket, while videos are uploaded and processed. The checker ends each."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.load import at_work, endured
from tests.chaos.site import Servers, Site
from tests.support import eventually
from tests.support.proxy import Cut, Proxy, proxied

pytestmark = pytest.mark.chaos


@pytest.fixture
def bucket(ministack_url: str) -> Iterator[Proxy]:
    """A proxy between the programs and the bucket, but not the queue."""
    with proxied("127.0.0.1", int(ministack_url.rpartition(":")[2])) as proxy:
        yield proxy


@pytest.fixture
def site(tmp_path: Path, servers: Servers, bucket: Proxy, cards_dir: Path) -> Iterator[Site]:
    s3 = {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{bucket.port}"}
    with at_work(tmp_path, servers, cards_dir, **s3) as site:
        yield site


def test_a_bucket_that_refuses_connections_costs_only_time(site: Site, bucket: Proxy, clip: bytes) -> None:
    with endured(site, clip):
        bucket.refusing = True
        time.sleep(5)
        bucket.refusing = False


def test_transfers_that_break_cost_only_time(site: Site, bucket: Proxy, clip: bytes) -> None:
    with endured(site, clip):
        for when in Cut:
            for request_line in (b"GET /chaos", b"PUT /chaos"):
                cuts = bucket.cuts
                bucket.cut(when, request_line)
                eventually(lambda before=cuts: bucket.cuts > before)  # type: ignore[misc]
