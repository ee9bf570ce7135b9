from datetime import timedelta

import pytest

from anb_core.settings.loading import Misconfigured, load
from anb_operator.app import policy_of
from anb_operator.planning import Policy
from anb_operator.settings import OperatorSettings, UninstallSettings

CORE = {
    "DATABASE_URL": "postgresql://anb@db/anb",
    "S3_BUCKET": "videos",
    "SQS_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/123456789012/anb",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in (CORE | {"ANB_OPERATOR_NAMESPACE": "video"}).items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_only_the_namespace_has_no_default(environment: pytest.MonkeyPatch) -> None:
    settings = load(OperatorSettings)
    assert (settings.watched_namespace, settings.mirror, settings.mirror_max_age) == ("video", True, None)
    assert (settings.ttl_processed, settings.ttl_failed) == (timedelta(hours=1), timedelta(days=7))
    environment.setenv("ANB_OPERATOR_WATCH", "cluster")
    assert load(OperatorSettings).watched_namespace is None


def test_each_part_of_the_policy_has_a_setting_of_its_own(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ANB_OPERATOR_INSTANCE", "release")
    environment.setenv("ANB_OPERATOR_MIRROR", "false")
    environment.setenv("ANB_OPERATOR_MIRROR_MAX_AGE_SECONDS", "1")
    environment.setenv("ANB_OPERATOR_TTL_PROCESSED_SECONDS", "2")
    environment.setenv("ANB_OPERATOR_TTL_FAILED_SECONDS", "3")
    assert policy_of(load(OperatorSettings)) == Policy(
        namespace="video",
        instance="release",
        mirror=False,
        mirror_max_age=timedelta(seconds=1),
        ttl_processed=timedelta(seconds=2),
        ttl_failed=timedelta(seconds=3),
    )


def test_each_wrong_variable_gets_a_sentence(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ANB_OPERATOR_NAMESPACE", "Video!")
    environment.setenv("ANB_OPERATOR_INSTANCE", "two words")
    environment.setenv("ANB_OPERATOR_LISTEN", "8002")
    environment.setenv("ANB_OPERATOR_TTL_FAILED_SECONDS", "-1")
    environment.setenv("ANB_OPERATOR_WORKER_SELECTOR", "worker")
    with pytest.raises(Misconfigured) as error:
        load(OperatorSettings)
    variables = {problem.partition(" ")[0] for problem in error.value.problems}
    assert variables == {
        "ANB_OPERATOR_NAMESPACE",
        "ANB_OPERATOR_INSTANCE",
        "ANB_OPERATOR_LISTEN",
        "ANB_OPERATOR_TTL_FAILED_SECONDS",
        "ANB_OPERATOR_WORKER_SELECTOR",
    }


def test_the_operator_has_nothing_to_do_with_messages_and_leases(environment: pytest.MonkeyPatch) -> None:
    for name in ("SQS_VISIBILITY_TIMEOUT", "SQS_MAX_RECEIVE_COUNT", "ANB_LEASE_SECONDS", "ANB_HEARTBEAT_SECONDS"):
        environment.setenv(name, "what it would refuse if it read this")
    load(OperatorSettings)


def test_the_clean_up_needs_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANB_OPERATOR_NAMESPACE", "video")
    monkeypatch.setenv("ANB_OPERATOR_DEPLOYMENT", "anb-operator")
    monkeypatch.setenv("ANB_OPERATOR_SELECTOR", "app=operator,release=anb")
    assert load(UninstallSettings).watched_namespace == "video"
