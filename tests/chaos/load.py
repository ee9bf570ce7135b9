"""Uploads during a fault, and the check that the fault cost nothing but time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.site import Servers, Site, running_site
from tests.support import eventually

PAUSE = 2.5
"""Time between two uploads, in seconds."""


@contextmanager
def at_work(folder: Path, servers: Servers, cards_dir: Path, **environment: str) -> Iterator[Site]:
    """Run a site with an API and two workers."""
    with running_site(folder, servers, cards_dir, **environment) as site:
        site.api()
        site.worker()
        site.worker()
        try:
            yield site
        finally:
            print(site.logs())  # noqa: T201 - pytest shows it when the test failed


@contextmanager
def endured(site: Site, clip: bytes) -> Iterator[None]:
    """Upload videos during the block, which brings a fault about and ends it. At its end, check the promises at rest.

    The block begins when the first video is done, so that all programs are at work then. At least one more video is
    uploaded before the fault begins, and one after it has ended.
    """
    stop = threading.Event()

    def upload_steadily() -> None:
        while not stop.wait(PAUSE):
            site.upload(clip)

    site.upload(clip)
    eventually(lambda: not site.unfinished())
    before = site.evidence(queues=False)
    thread = threading.Thread(target=upload_steadily)
    thread.start()
    try:
        site.upload(clip)
        yield
    finally:
        stop.set()
        thread.join()
    site.upload(clip)
    site.until_rest()
    site.check(earlier=before)
