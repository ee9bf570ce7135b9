"""Alerts through a topic of SNS: implements `anb_core.ports.alerts.Alerts`."""

from datetime import timedelta

import boto3

from anb_core.adapters.aws import answering, client_config
from anb_core.domain.alert import subject_line


class SnsAlerts:
    """One standard topic of SNS. A call and its retries end within about `patience`."""

    def __init__(self, topic_arn: str, *, patience: timedelta) -> None:
        self._topic = topic_arn
        # An ARN has the form arn:aws:sns:REGION:ACCOUNT:NAME. The client must use the region of the topic.
        region = topic_arn.split(":")[3]
        self._sns = boto3.session.Session().client("sns", region_name=region, config=client_config(patience))
        self._place = f"The topic {topic_arn} in ANB_SNS_TOPIC_ARN, at {self._sns.meta.endpoint_url},"

    def publish(self, subject: str, text: str) -> None:
        with answering("alerts", self._place):
            self._sns.publish(TopicArn=self._topic, Subject=subject_line(subject), Message=text)

    def close(self) -> None:
        self._sns.close()
