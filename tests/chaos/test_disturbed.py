"""Processes that stand still, that see a wrong time or that lose answers change nothing that they must not change."""

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from anb_core.domain.model import Ending
from anb_core.domain.status import Status
from tests.chaos.mixed import ANSWERS
from tests.chaos.site import Servers, Site, running_proxied_site
from tests.support import eventually
from tests.support.given import record_of
from tests.support.proxy import Cut, Proxy

pytestmark = pytest.mark.chaos

TEN_MINUTES = 600.0
ZOMBIES = ("bucket.fetch", "writer.commit", "store.publish")
"""Calls before which a worker stands still until another worker has done its job."""


def told(site: Site) -> list[str]:
    file = site.folder / "told"
    return file.read_text().splitlines() if file.exists() else []


def test_workers_that_stood_still_past_their_lease_change_nothing_when_they_go_on(site: Site, clip: bytes) -> None:
    site.api()
    told_to = str(site.folder / "told")
    zombies = [site.worker(partial(dict, freeze_at=[f"worker: before {call}"], told=told_to)) for call in ZOMBIES]
    videos = [site.upload(clip) for _ in ZOMBIES]
    eventually(lambda: len(told(site)) == len(ZOMBIES), every=0.1)
    healthy = site.worker()
    site.until_rest(messages=False)
    before = site.evidence(queues=False)
    for zombie in zombies:
        zombie.send(signal.SIGCONT)
    eventually(lambda: all('"outcome": "superseded"' in zombie.log for zombie in zombies), every=0.1)

    site.until_rest()
    site.check(earlier=before)
    for video in videos:
        assert record_of(site.store, video).job.status is Status.PROCESSED
        *others, last = site.store.history(video).attempts
        assert (last.worker, last.ending) == (healthy.name, Ending.PROCESSED)
        assert {attempt.ending for attempt in others} == {Ending.LOST}


def test_wrong_clocks_of_workers_and_messages_that_come_twice_change_nothing(site: Site, clip: bytes) -> None:
    site.api(lambda: {"twice": True})
    for clock in (-TEN_MINUTES, TEN_MINUTES):
        worker = site.worker(partial(dict, twice=True, clock=clock))
        videos = [site.upload(clip) for _ in range(3)]
        site.until_rest()
        site.check()
        for video in videos:
            job = record_of(site.store, video).job
            assert (job.status, job.counters.failures) == (Status.PROCESSED, 0)
            assert {attempt.worker for attempt in site.store.history(video).attempts} == {worker.name}
        assert worker.log.count('"outcome": "dropped"') >= len(videos), "the second message of each video was dropped"
        site.programs.stop(worker)


def _has_cut(proxy: Proxy, before: int) -> bool:
    return proxy.cuts > before


@pytest.fixture
def lossy_site(tmp_path: Path, servers: Servers, cards_dir: Path, clip: bytes) -> Iterator[Site]:
    """A site with a worker and an API, in which the answer of each call of `ANSWERS` was lost once."""
    with running_proxied_site(tmp_path, servers, cards_dir) as (site, sql_proxy, aws_proxy):
        site.api()
        site.worker()
        for call, words in ANSWERS.items():
            proxy = sql_proxy if call == "commit" else aws_proxy
            cuts = proxy.cuts
            proxy.cut(Cut.AFTER, words)
            site.upload(clip)
            eventually(partial(_has_cut, proxy, cuts), within=120)
        yield site


def test_lost_answers_of_receive_delete_send_and_commit_lose_no_video(lossy_site: Site) -> None:
    lossy_site.until_rest()
    lossy_site.check()
    assert lossy_site.statuses() == {Status.PROCESSED: len(ANSWERS)}
