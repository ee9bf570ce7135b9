"""Tests of a whole deployment whose queue is a FIFO queue of SQS."""

from collections.abc import Iterator
from typing import Never

import pytest

from anb_core.adapters.system import SystemRuntime
from anb_core.domain.dead_letters import DeadLetterFilter
from anb_core.domain.errors import Busy
from anb_core.domain.keys import upload_key
from anb_core.domain.status import Status
from anb_core.usecases.relay import HOLD, Passed, Relay
from tests.integration.worker.conftest import MakeSite, Site
from tests.support import eventually


@pytest.fixture
def site(make_site: MakeSite, sqlite_url: str, ministack_url: str) -> Iterator[Site]:
    """A test deployment on SQLite and the embedded emulator, with a FIFO queue and its FIFO dead-letter queue."""
    with make_site(sqlite_url, ministack_url, fifo=True) as site:
        yield site


def test_a_job_that_fails_is_tried_again_and_redriven_and_its_video_is_processed(site: Site) -> None:
    site.let_go()
    first, second = site.upload(), site.upload()
    source = site.parts.objects
    source.delete([upload_key(second)])
    site.held_worker()

    site.until(first, Status.PROCESSED)
    [letter] = eventually(lambda: site.parts.store.dead_letters(DeadLetterFilter()))
    assert (letter.video_id, letter.code, letter.failures) == (second, "source_missing", 3)
    with source.writing(upload_key(second), content_type="video/mp4") as writer:
        writer.write(b"video")
        writer.commit()
    site.parts.store.redrive_dead_letter(letter.id, by="olga")

    job = site.until(second, Status.PROCESSED)
    assert (job.generation, job.attempts) == (2, 4)
    eventually(lambda: site.parts.queue.depth().empty)


def test_an_entry_of_the_outbox_that_is_sent_twice_gives_one_message(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.let_go()
    store, queue = site.parts.store, site.parts.queue
    video_id = site.upload()
    relay = Relay(store, queue, bucket=site.parts.objects.bucket, runtime=SystemRuntime())

    def locked(*_: object, **__: object) -> Never:
        raise Busy("database", "Another session has locked the row.")

    with monkeypatch.context() as patch:
        patch.setattr(store, "mark_sent", locked)
        assert relay.send_due() == Passed(sent=1, refused=0)
    site.database.pass_time(HOLD)
    assert relay.send_due() == Passed(sent=1, refused=0)

    assert queue.depth().visible == 1
    site.held_worker()
    site.until(video_id, Status.PROCESSED)
    eventually(lambda: queue.depth().empty)
