"""Tests that a worker adopts the objects that a real emulator reports, directly and through SNS."""

import os
from typing import Any

import boto3

from anb_core.domain.adoption import adopted_id
from anb_core.domain.status import Status
from tests.integration.worker.conftest import Site
from tests.support import eventually


def test_objects_that_the_bucket_reports_directly_or_through_sns_are_processed(site: Site) -> None:
    bucket = site.parts.objects.bucket
    session = boto3.session.Session()
    s3: Any = session.client("s3")
    sns, sqs = session.client("sns"), session.client("sqs")
    url = os.environ["SQS_QUEUE_URL"]
    queue_arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = sns.create_topic(Name=bucket)["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn)

    def of(prefix: str) -> dict[str, object]:
        rule = {"Name": "prefix", "Value": prefix}
        return {"Events": ["s3:ObjectCreated:*"], "Filter": {"Key": {"FilterRules": [rule]}}}

    s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "QueueConfigurations": [{"QueueArn": queue_arn} | of("camera/"), {"QueueArn": queue_arn} | of("uploads/")],
            "TopicConfigurations": [{"TopicArn": topic} | of("drone/")],
        },
    )
    site.let_go()
    for key in ("camera/front door+1.mp4", "drone/é.mp4"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"video")
    own = site.upload()
    site.held_worker(ANB_ADOPT_OWNER="cameras", ANB_SOURCE_PREFIXES="camera/,drone/")

    adopted = eventually(lambda: len(found := site.parts.store.listing(owner="cameras")) == 2 and found)
    assert {record.video.source_key for record in adopted or ()} == {"camera/front door+1.mp4", "drone/é.mp4"}
    for video_id in (own, *(record.video.id for record in adopted or ())):
        site.until(video_id, Status.PROCESSED)
    eventually(lambda: site.parts.queue.depth().empty)
    for record in adopted or ():
        # An adoption without an event must lead to the same video.
        peeked = site.parts.objects.peek(record.video.source_key, 1)
        assert peeked
        assert adopted_id(bucket, record.video.source_key, peeked.version) == record.video.id
    assert site.database.dead_letters() == []
