from datetime import timedelta

import pytest
from kombu import Connection

from anb_core.domain.retry import RetryPolicy
from anb_core.settings.capabilities import (
    AlertSettings,
    BucketSettings,
    DatabaseSettings,
    LogSettings,
    MetricSettings,
    QueueSettings,
    StoreSettings,
    SubmitSettings,
    SweepSettings,
)
from anb_core.settings.loading import Misconfigured, load, load_or_exit

ENOUGH = {
    "DATABASE_URL": "postgresql://anb:secret@db/anb",
    "S3_BUCKET": "anb-videos",
    "SQS_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/anb-video-processing-queue",
}


@pytest.fixture(autouse=True)
def _no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)


class Settings(
    AlertSettings,
    MetricSettings,
    LogSettings,
    SubmitSettings,
    SweepSettings,
    QueueSettings,
    BucketSettings,
    StoreSettings,
):
    """All groups of settings, combined in one class."""


def given(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Settings:
    for name, value in (ENOUGH | environment).items():
        monkeypatch.setenv(name, value)
    return load(Settings)


def problems(monkeypatch: pytest.MonkeyPatch, **environment: str) -> list[str]:
    with pytest.raises(Misconfigured) as error:
        given(monkeypatch, **environment)
    return error.value.problems


def test_three_variables_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = given(monkeypatch)

    assert settings.sqs_region == "eu-west-1"
    assert settings.sqs_dlq_url == "https://sqs.eu-west-1.amazonaws.com/123456789012/anb-video-processing-queue-dlq"
    assert settings.visibility_timeout == timedelta(seconds=300)
    assert settings.heartbeat == timedelta(seconds=20)
    assert settings.max_receive_count == 3
    assert settings.retry_policy == RetryPolicy()
    assert settings.create_resources is False


def test_everything_may_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = given(
        monkeypatch,
        SQS_VISIBILITY_TIMEOUT="90",
        ANB_HEARTBEAT_SECONDS="10",
        ANB_SOURCE_PREFIXES="archive/, old/uploads/",
        ANB_CREATE_RESOURCES="true",
        ANB_MAX_FAILURES="4",
        ANB_BACKOFF_SECONDS="1",
    )

    assert settings.heartbeat == timedelta(seconds=10)
    assert settings.source_prefixes == ("archive/", "old/uploads/")
    assert settings.create_resources is True
    assert settings.retry_policy == RetryPolicy(max_failures=4, backoff_base=timedelta(seconds=1))


@pytest.mark.parametrize(
    ("environment", "limit"),
    [
        ({}, None),
        ({"SQS_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/1/a.fifo"}, 30),
        ({"SQS_QUEUE_URL": "", "CELERY_BROKER_URL": "redis://redis:6379/0"}, 30),
        ({"ANB_QUEUE_LIMIT": "7"}, 7),
        ({"SQS_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/1/a.fifo", "ANB_QUEUE_LIMIT": "0"}, None),
    ],
)
def test_only_a_queue_that_is_not_fair_by_itself_stays_short_by_default(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], limit: int | None
) -> None:
    assert given(monkeypatch, **environment).queue_limit == limit


@pytest.mark.parametrize(
    "arn", ["", "arn:aws:sns:us-east-1:000000000000:A_b-9", "arn:aws-cn:sns:cn-north-1:123456789012:a"]
)
def test_a_topic_for_alerts_may_be_named(monkeypatch: pytest.MonkeyPatch, arn: str) -> None:
    assert given(monkeypatch, ANB_SNS_TOPIC_ARN=arn).sns_topic_arn == (arn or None)


@pytest.mark.parametrize("namespace", ["ANBVideo", "teams/video_1.#-", ""])
def test_a_namespace_for_metrics_may_be_named(monkeypatch: pytest.MonkeyPatch, namespace: str) -> None:
    settings = given(monkeypatch, ANB_CLOUDWATCH_NAMESPACE=namespace, AWS_REGION="eu-west-1")
    assert settings.cloudwatch_namespace == (namespace or None)


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert given(monkeypatch, ANB_SWEEP_SECONDS="", SQS_DLQ_URL="").sweep_interval == timedelta(seconds=10)
    assert problems(monkeypatch, S3_BUCKET="") == [
        "S3_BUCKET is not set. The bucket for uploads, results and resources."
    ]


def test_all_problems_are_told_at_once_in_the_order_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    found = problems(
        monkeypatch, DATABASE_URL="", SQS_QUEUE_URL="my-queue", ANB_HEARTBEAT_SECONDS="10 min", ANB_LOG_FORMAT="xml"
    )

    assert [problem.split()[0] for problem in found] == [
        "DATABASE_URL",
        "ANB_HEARTBEAT_SECONDS",
        "SQS_QUEUE_URL",
        "ANB_LOG_FORMAT",
    ]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"ANB_HEARTBEAT_SECONDS": "10x"}, "ANB_HEARTBEAT_SECONDS is 10x: it must be a whole number from 1 to 1200."),
        ({"SQS_VISIBILITY_TIMEOUT": "43201"}, "SQS_VISIBILITY_TIMEOUT is 43201: it must be a whole number"),
        ({"ANB_MAX_UPLOAD_BYTES": "2GB"}, "ANB_MAX_UPLOAD_BYTES is 2GB: it must be a whole number"),
        (
            {"ANB_BACKOFF_SECONDS": "601"},
            "ANB_BACKOFF_CAP_SECONDS is 600: it must be at least ANB_BACKOFF_SECONDS (601).",
        ),
        (
            {"SQS_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/1/a.fifo", "SQS_DLQ_URL": "https://q.example/1/d"},
            "SQS_DLQ_URL is https://q.example/1/d: it and SQS_QUEUE_URL (https://sqs.eu-west-1.amazonaws.com/1/a.fifo)",
        ),
        (
            {"SQS_QUEUE_URL": "http://localhost:4566/000000000000/anb"},
            "SQS_REGION is not set: the queue's URL does not name its region: set SQS_REGION or AWS_REGION.",
        ),
        (
            {"CELERY_TASK_DEFAULT_QUEUE": "two words"},
            "CELERY_TASK_DEFAULT_QUEUE is two words: it must be a queue's name",
        ),
        ({"S3_BUCKET": "Anb_Videos"}, "S3_BUCKET is Anb_Videos: it must be a bucket's name"),
        ({"ANB_SOURCE_PREFIXES": "a/,b"}, "ANB_SOURCE_PREFIXES is b: each prefix must end with a slash"),
        ({"ANB_SOURCE_PREFIXES": "/a/"}, "ANB_SOURCE_PREFIXES is /a/: each prefix must end with a slash and not begin"),
        *(
            (
                {"ANB_SNS_TOPIC_ARN": arn},
                f"ANB_SNS_TOPIC_ARN is {arn}: it must be the ARN of a standard SNS topic, such",
            )
            for arn in (
                "anb-alerts",
                "arn:aws:sqs:us-east-1:123456789012:anb-alerts",
                "arn:aws:sns:us-east-1:12345678901:anb-alerts",
                "arn:aws:sns:us-east-1:123456789012:anb-alerts.fifo",
                "arn:aws:sns:us-east-1:123456789012:anb-alerts:0b410f3c-ee5e-49d8-b59b-3b4aa6d8fcf5",
            )
        ),
        (
            {"ANB_CLOUDWATCH_NAMESPACE": "ANB:Video", "AWS_REGION": "eu-west-1"},
            "ANB_CLOUDWATCH_NAMESPACE is ANB:Video: it must be a namespace of CloudWatch",
        ),
        (
            {"ANB_CLOUDWATCH_NAMESPACE": "ANBVideo"},
            "ANB_CLOUDWATCH_NAMESPACE is ANBVideo: set AWS_REGION to the region of the alarms, too",
        ),
        ({"ANB_CREATE_RESOURCES": "perhaps"}, "ANB_CREATE_RESOURCES is perhaps: input should be a valid boolean"),
        ({"ANB_LOG_LEVEL": "loud"}, "ANB_LOG_LEVEL is loud: input should be 'debug', 'info', 'warning' or 'error'."),
        ({"DATABASE_URL": "mysql://db/anb"}, "DATABASE_URL can't be used: 'mysql' is not supported"),
        ({"DATABASE_URL": "sqlite://"}, "DATABASE_URL can't be used: SQLite needs a file (sqlite:///path)"),
        ({"DATABASE_URL": "sqlite:///:memory:"}, "DATABASE_URL can't be used: SQLite needs a file (sqlite:///path)"),
        ({"DATABASE_URL": "db"}, "DATABASE_URL can't be used: it must be a URL such as"),
        ({"DATABASE_URL": "postgresql://ana:p@ss@db/anb"}, "DATABASE_URL can't be used: it has more than one @: write"),
        (
            {"DATABASE_URL": "postgresql://a:p@ss@db,dc/anb"},
            "DATABASE_URL can't be used: it has more than one @: write",
        ),
        (
            {"DATABASE_URL": "postgresql://one,two/anb?target_session_attrs=standby"},
            "DATABASE_URL can't be used: its target_session_attrs must be read-write: ",
        ),
        (
            {"DATABASE_URL": "postgresql:///anb?host=one,two,three&port=1,2"},
            "DATABASE_URL can't be used: its hosts can't be used: number of hosts and ports don't match.",
        ),
        (
            {"DATABASE_URL": "postgresql://one:5432,two:https/anb"},
            "DATABASE_URL can't be used: it must be a URL such as",
        ),
    ],
)
def test_a_wrong_value_is_told_with_what_would_be_right(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    [problem] = problems(monkeypatch, **environment)

    assert problem.startswith(message)


def test_a_secret_is_told_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    [problem] = problems(monkeypatch, DATABASE_URL="mysql://ana:hunter2@db/anb")
    assert "hunter2" not in problem
    assert "secret" not in repr(given(monkeypatch))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SQS_QUEUE_URL", "https://ana:hunter2@localhost:4566/000000000000/anb"),
        ("SQS_DLQ_URL", "https://ana:hunter2@localhost:4566/000000000000/anb"),
        ("DATABASE_URL", "postgresql://ana:hun@ter2@db/anb"),
        ("DATABASE_URL", "postgresql://ana:hunter2@db:port/anb"),
    ],
)
def test_what_is_wrong_with_a_secret_or_beside_one_is_told_without_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("SQS_REGION", "us-east-1")
    found = problems(monkeypatch, **{name: value})
    assert any(name in problem for problem in found)
    assert not [problem for problem in found if "hunter2" in problem or "ter2" in problem]


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis:6379/0",
        "redis://redis",
        "redis://ana:secret@redis:6379/15",
        "redis://[::1]:6379",
        "rediss://:secret@redis.example.org:6380/0",
        "amqp://ana:p%40ss@rabbit:5672//",
        "amqps://rabbit/videos",
        "pyamqp://guest@rabbit//",
        "rediss://redis.example.org?ssl_cert_reqs=CERT_REQUIRED",
        "redis://redis:6379/0\n",
    ],
)
def test_a_celery_broker_is_enough_instead_of_a_queue_on_sqs(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    settings = given(monkeypatch, SQS_QUEUE_URL="", CELERY_BROKER_URL=url, SQS_DLQ_URL="https://q.example/1/dead")

    assert settings.celery_broker_url.get_secret_value() == url.strip()
    assert settings.celery_queue == "celery"
    assert (settings.sqs_queue_url, settings.sqs_dlq_url, settings.sqs_region) == ("", "", "")
    assert url not in repr(settings)
    with Connection(url.strip()) as connection:
        assert connection.hostname


def test_without_a_queue_on_sqs_and_a_broker_both_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    [problem] = problems(monkeypatch, SQS_QUEUE_URL="")

    assert problem == (
        "SQS_QUEUE_URL is not set:"
        " set it to the URL of an SQS queue, or CELERY_BROKER_URL to the URL of a Celery broker."
    )


@pytest.mark.parametrize(
    "url",
    [
        "redis:6379",
        "redis://",
        "redis:///0",
        "redis://redis:6379/videos",
        "sqs://key:hunter2@",
        "http://ana:hunter2@rabbit:15672",
        "redis://redis:99999",
        "redis://redis?socket_timeout=3",
        "rediss://redis?ssl_cert_reqs=CERT_NONE",
        "amqp://ana:hunter2",
        "amqp://ana:hun@ter2@rabbit//",
        "amqp://ana:hun/ter2@rabbit//",
        "amqp://ana:hun;ter2@rabbit//",
        "amqp://one//;amqp://two//",
        "amqp://ana:hun#ter2@rabbit//",
        "redis://:hunter2?ter2@redis:6379/0",
        "amqp://ana:hunter2@rabbit//;amqp://ana:hunter2@other//",
    ],
)
def test_a_broker_that_cannot_be_used_is_reported_once_and_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    [problem] = problems(monkeypatch, SQS_QUEUE_URL="", CELERY_BROKER_URL=url)

    assert problem.startswith("CELERY_BROKER_URL can't be used: it ")
    assert "hunter2" not in problem
    assert "ter2" not in problem


def test_the_report_of_a_broker_says_that_options_are_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    [problem] = problems(monkeypatch, SQS_QUEUE_URL="", CELERY_BROKER_URL="rediss://redis?ssl_cert_reqs=CERT_NONE")

    assert "without options (?name=value)" in problem


def test_a_broker_that_cannot_be_used_is_reported_also_if_the_queue_is_on_sqs(monkeypatch: pytest.MonkeyPatch) -> None:
    [problem] = problems(monkeypatch, CELERY_BROKER_URL="sentinel://:hunter2@redis:26379/0")

    assert problem.startswith("CELERY_BROKER_URL can't be used: it must be a broker's URL without options")


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.us-east-1.amazonaws.com/1/q", "us-east-1"),
        ("https://sqs.us-gov-west-1.amazonaws.com/1/q", "us-gov-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1"),
        ("https://sqs.eusc-de-east-1.amazonaws.eu/1/q", "eusc-de-east-1"),
        ("https://ap-southeast-2.queue.amazonaws.com/1/q", "ap-southeast-2"),
        ("http://sqs.eu-west-3.localhost.localstack.cloud:4566/000000000000/q", "eu-west-3"),
    ],
)
def test_a_queues_url_tells_its_region(monkeypatch: pytest.MonkeyPatch, url: str, region: str) -> None:
    assert given(monkeypatch, SQS_QUEUE_URL=url).sqs_region == region


def test_a_host_that_only_looks_like_a_region_tells_none(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = given(monkeypatch, AWS_REGION="eu-north-1", SQS_QUEUE_URL="http://moto-server-0.moto.svc:5000/1/q")

    assert settings.sqs_region == "eu-north-1"


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION", "SQS_REGION"])
def test_a_region_that_the_url_does_not_tell_is_taken_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    settings = given(monkeypatch, SQS_QUEUE_URL="http://localhost:4566/000000000000/q", **{name: "eu-north-1"})

    assert settings.sqs_region == "eu-north-1"


def test_the_queues_own_region_wins_over_the_general_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert given(monkeypatch, AWS_REGION="us-east-1").sqs_region == "eu-west-1"
    assert given(monkeypatch, SQS_REGION="eu-west-2").sqs_region == "eu-west-2"


def test_the_dead_letter_queue_of_a_fifo_queue_is_fifo(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = given(monkeypatch, SQS_QUEUE_URL="https://sqs.eu-west-1.amazonaws.com/1/anb.fifo")

    assert settings.sqs_dlq_url == "https://sqs.eu-west-1.amazonaws.com/1/anb-dlq.fifo"


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("postgres://ana:p%40ss@db:5433/anb", "postgresql+psycopg://ana:p%40ss@db:5433/anb"),
        ("postgresql://db/anb?sslmode=require", "postgresql+psycopg://db/anb?sslmode=require"),
        ("postgresql+psycopg://db/anb", "postgresql+psycopg://db/anb"),
        ("postgresql://db/anb\n", "postgresql+psycopg://db/anb"),
        (
            "postgresql://ana:p@one:5433,two/anb?target_session_attrs=read-write",
            "postgresql+psycopg://ana:p@/anb?host=one%2Ctwo&port=5433%2C&target_session_attrs=read-write",
        ),
        ("postgresql://ana:12,34@db/anb", "postgresql+psycopg://ana:12%2C34@db/anb"),
        ("postgresql://ana:1,2@one,two/anb", "postgresql+psycopg://ana:1%2C2@/anb?host=one%2Ctwo&port=%2C"),
        ("postgresql://one,[::1]:5433", "postgresql+psycopg://?host=one%2C%3A%3A1&port=%2C5433"),
        ("postgresql://ana@/anb?host=one:5433&host=two", "postgresql+psycopg://ana@/anb?host=one%3A5433&host=two"),
        ("sqlite:///anb.db", "sqlite+pysqlite:///anb.db"),
        ("sqlite:////var/lib/anb.db", "sqlite+pysqlite:////var/lib/anb.db"),
    ],
)
def test_the_database_may_be_named_as_people_and_platforms_do(
    monkeypatch: pytest.MonkeyPatch, url: str, normal: str
) -> None:
    assert given(monkeypatch, DATABASE_URL=url).database_url.get_secret_value() == normal


def test_a_wrong_environment_ends_the_start_with_sentences_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite://")

    with pytest.raises(SystemExit) as stop:
        load_or_exit(DatabaseSettings)

    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "configuration: DATABASE_URL can't be used: SQLite needs a file (sqlite:///path): processes cannot share a"
        " database in memory.\n"
    )
