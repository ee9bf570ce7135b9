"""Gives the alarms of deploy/aws/alarms.yaml to moto through CloudWatch's own API, because moto can't deploy alarms.

The properties of an alarm are the parameters of PutMetricAlarm, so boto3 checks their names and types.
"""

from typing import Any

import boto3
import pytest
from moto import mock_aws

from tools.aws import PREFIX, outputs_of, plan, values

Alarm = dict[str, Any]

ABOVE, AT_LEAST, BELOW = "GreaterThanThreshold", "GreaterThanOrEqualToThreshold", "LessThanThreshold"
DEAD_LETTER_QUEUE = "<DeadLetterQueue.QueueName>"


@pytest.fixture(scope="module")
def alarms() -> dict[str, Alarm]:
    """The alarms as CloudWatch describes them."""
    [stack] = [stack for stack in plan({}) if stack.template == "alarms"]
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.delenv("AWS_ENDPOINT_URL")
        cloudwatch: Any = boto3.client("cloudwatch")
        for name, resource in stack.resources.items():
            cloudwatch.put_metric_alarm(AlarmName=name, **resource["Properties"])
        return {alarm["AlarmName"]: alarm for alarm in cloudwatch.describe_alarms()["MetricAlarms"]}


def test_every_alarm_counts_missing_data_as_breaching_and_tells_the_topic(alarms: dict[str, Alarm]) -> None:
    [topic] = {stack.outputs.get("TopicArn") for stack in plan({})} - {None}

    for name, alarm in alarms.items():
        # SQS reports no age of an empty queue.
        assert alarm["TreatMissingData"] == ("notBreaching" if name == "DeadLetterQueueAge" else "breaching")
        assert alarm["AlarmActions"] == alarm["OKActions"] == [topic]
        assert alarm["AlarmDescription"].endswith(".")


@pytest.mark.parametrize(
    ("name", "metric", "dimension", "comparison", "minutes"),
    [
        ("OpenDeadLetters", "ANBVideo OpenDeadLetters", "video/anb", (AT_LEAST, 1), 1),
        ("OldestWaiting", "ANBVideo OldestWaitingSeconds", "video/anb", (ABOVE, 900), 3),
        ("DeadLetterQueueAge", "AWS/SQS ApproximateAgeOfOldestMessage", DEAD_LETTER_QUEUE, (ABOVE, 300), 1),
        ("DeadLetterQueueLength", "AWS/SQS ApproximateNumberOfMessagesVisible", DEAD_LETTER_QUEUE, (AT_LEAST, 1), 5),
        ("DatabaseStorage", "AWS/RDS FreeStorageSpace", "<Database>", (BELOW, 2 * 2**30), 5),
        ("DatabaseConnections", "AWS/RDS DatabaseConnections", "<Database>", (ABOVE, 65), 5),
    ],
)
def test_an_alarm_watches_its_metric(
    name: str, metric: str, dimension: str, comparison: tuple[str, int], minutes: int, *, alarms: dict[str, Alarm]
) -> None:
    alarm = alarms[name]

    assert f"{alarm['Namespace']} {alarm['MetricName']}" == metric
    assert [item["Value"] for item in alarm["Dimensions"]] == [dimension]
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == comparison
    assert (alarm["Period"], alarm["EvaluationPeriods"]) == (60, minutes)


def test_30_minutes_without_room_for_another_worker_are_an_alarm(alarms: dict[str, Alarm]) -> None:
    alarm = alarms["WorkersAtMaximum"]
    workers, maximum, room = alarm["Metrics"]

    assert [(query["Id"], query["MetricStat"]["Metric"]["MetricName"]) for query in (workers, maximum)] == [
        ("workers", "Workers"),
        ("maximum", "WorkersMax"),
    ]
    for query in (workers, maximum):
        assert query["MetricStat"]["Metric"]["Namespace"] == "ANBVideo"
        assert query["MetricStat"]["Metric"]["Dimensions"] == [{"Name": "Release", "Value": "video/anb"}]
        assert query["MetricStat"]["Period"] == 60
        assert not query["ReturnData"]
    assert room["Expression"] == "maximum - workers"
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("LessThanOrEqualToThreshold", 0)
    assert alarm["EvaluationPeriods"] == 30


def test_the_operator_may_publish_to_the_namespace_of_the_alarms_and_the_chart_gets_it(
    alarms: dict[str, Alarm],
) -> None:
    stacks = plan({})
    [roles] = [stack for stack in stacks if stack.template == "roles"]
    [policy] = roles.resources["OperatorRole"]["Properties"]["Policies"]
    [statement] = [item for item in policy["PolicyDocument"]["Statement"] if item["Sid"] == "Metrics"]

    namespace = alarms["OpenDeadLetters"]["Namespace"]
    assert statement["Condition"]["StringEquals"] == {"cloudwatch:namespace": namespace}
    assert values(outputs_of(stacks))["metrics"]["cloudwatch"]["namespace"] == namespace


@pytest.mark.parametrize(
    ("parameter", "missing"),
    [("WatchDatabase", {"DatabaseStorage", "DatabaseConnections"}), ("WatchScaling", {"WorkersAtMaximum"})],
    ids=["a database outside RDS", "a fixed number of workers"],
)
def test_what_sends_no_metrics_has_no_alarms(parameter: str, missing: set[str], alarms: dict[str, Alarm]) -> None:
    [stack] = [stack for stack in plan({parameter: "false"}) if stack.template == "alarms"]

    assert alarms.keys() - stack.resources.keys() == missing


def test_the_stacks_have_the_names_that_the_other_stacks_expect() -> None:
    # The parameters Network and Data have these names as their defaults. With other names, each command of the guide
    # would need a parameter.
    assert [PREFIX + stack.template for stack in plan({})] == [
        "anb-video-network",
        "anb-video-data",
        "anb-video-roles",
        "anb-video-alarms",
    ]
