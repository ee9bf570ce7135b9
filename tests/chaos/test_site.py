import pytest

from tests.chaos.site import Site
from tests.support.given import record_of

pytestmark = pytest.mark.chaos


def test_a_worker_that_dies_at_its_first_claim_is_replaced_and_nothing_is_lost(site: Site, clip: bytes) -> None:
    told = site.folder / "deaths"
    site.api()
    site.worker(lambda: {"die_at": [] if told.exists() else ["worker: after store.claim"], "told": str(told)})
    videos = [site.upload(clip) for _ in range(2)]
    site.until_rest()
    site.check()
    assert told.read_text() == "worker: after store.claim\n"
    assert sum(record_of(site.store, video).job.counters.lost for video in videos) == 1
