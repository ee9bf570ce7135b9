from datetime import timedelta

from anb_core.adapters.system import SystemRuntime
from anb_core.testing.promises import check_promises, violations
from anb_core.usecases.relay import Relay
from tests.integration.worker.conftest import Site


def test_a_lost_object_and_a_lost_message_are_found_in_a_real_bucket_and_queue(site: Site) -> None:
    kept, lost = site.upload(b"kept"), site.upload(b"lost")
    Relay(site.parts.store, site.parts.queue, bucket=site.parts.objects.bucket, runtime=SystemRuntime()).send_due()
    check_promises(site.evidence(), site.policy)

    source = site.record(lost).video.source_key
    site.parts.objects.delete([source])
    delivery = site.parts.queue.receive(wait=timedelta(seconds=1))
    assert delivery is not None
    site.parts.queue.delete(delivery)
    first, second = violations(site.evidence(), site.policy)
    assert first.promise == "L2"
    assert f"needs {source} with 4 bytes, but the bucket has no object" in first.sentence
    assert second.promise == "L3"
    assert "2 videos wait without an outbox entry" in second.sentence
    assert "the queues have 1 messages" in second.sentence

    # Undo the violations, because the fixture checks the promises at the end of each test.
    for video_id in (kept, lost):
        site.parts.store.cancel(video_id)
    with site.parts.objects.writing(source, content_type="video/mp4") as writer:
        writer.write(b"lost")
        writer.commit()
