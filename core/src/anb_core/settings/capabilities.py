"""One settings model for each capability of a program. A field's alias is the name of its environment variable.

pydantic validates the fields in order. So a validator that compares two fields must be the later field's validator.
If a model has several base classes, the fields of the last base class come first.
"""

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from anb_core.domain.limits import Cap, Limits
from anb_core.domain.retry import RetryPolicy
from anb_core.settings.parsing import (
    DAY,
    SECOND,
    BrokerUrl,
    BucketName,
    CeleryQueueName,
    CloudWatchNamespace,
    DatabaseUrl,
    KeyPrefix,
    QueueUrl,
    TopicArn,
    comma_separated,
    plain,
    region_in,
    seconds,
    whole,
)

SQS_MAX_VISIBILITY_SECONDS = 12 * 3600
SQS_MAX_RECEIVES = 1000
SQS_MAX_IN_FLIGHT = 120_000
SHORT_QUEUE = 30
"""The default of ANB_QUEUE_LIMIT on queues that are not fair between owners.
By the chart's default values, KEDA adds workers while more than 10 messages wait. The limit leaves room for that."""
S3_MAX_OBJECT_BYTES = 80_000 * 1024 * 1024
"""Size of the largest object that we can upload, in bytes.
S3 allows 10,000 parts in a multipart upload, and our parts have 8 MiB each."""

MOST_VIDEOS = 10**9
MOST_BYTES = 10**18


class FromEnvironment(BaseSettings):
    """Base class of all settings models. An environment variable with an empty value counts as missing."""

    model_config = SettingsConfigDict(frozen=True, case_sensitive=True, env_ignore_empty=True, extra="ignore")


class LogSettings(FromEnvironment):
    """Format and level of the log."""

    log_format: Literal["auto", "json", "text"] = Field(
        "auto", alias="ANB_LOG_FORMAT", description="`json`, `text`, or `auto`: text in a terminal, JSON elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        alias="ANB_LOG_LEVEL",
        description="The lowest level that is logged: `debug`, `info`, `warning` or `error`.",
    )


class DatabaseSettings(FromEnvironment):
    """The address of the database. A short command, such as a migration, needs no other setting of the store."""

    database_url: DatabaseUrl = Field(
        alias="DATABASE_URL",
        description="The database: `postgresql://user:password@host:5432/name` or `sqlite:///path`. PostgreSQL may have"
        " several hosts, `host1:5432,host2:5432`; the one that accepts writes is used.",
    )


class StoreSettings(DatabaseSettings):
    """The settings of the store for programs that run for a long time."""

    database_connections: Annotated[int, whole(3, 1000)] = Field(
        5,
        alias="ANB_DATABASE_CONNECTIONS",
        description="How many connections this process may open to PostgreSQL.",
    )
    database_connections_in_all: Annotated[int, whole(3, 100_000)] | None = Field(
        None,
        alias="ANB_DATABASE_CONNECTIONS_IN_ALL",
        description="How many connections all processes together may open. At startup a warning is logged if the server"
        " allows fewer. Default: `ANB_DATABASE_CONNECTIONS`.",
    )


class AwsSettings(FromEnvironment):
    """Settings that the bucket and the queue share. boto3 itself reads credentials and `AWS_ENDPOINT_URL`."""

    aws_region: str | None = Field(
        None,
        alias="AWS_REGION",
        validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"),
        description="The region of the bucket. Also the queue's region, unless `SQS_REGION` or the queue's URL names"
        " one.",
    )
    create_resources: bool = Field(
        default=False,
        alias="ANB_CREATE_RESOURCES",
        description="Whether a missing bucket or queue is created. Not for production.",
    )


class BucketSettings(AwsSettings):
    """The settings of the bucket."""

    s3_bucket: BucketName = Field(alias="S3_BUCKET", description="The bucket for uploads, results and resources.")


class MessageSettings(FromEnvironment):
    """How long a received message is invisible, and how often a worker renews this time and its lease."""

    visibility_timeout: Annotated[timedelta, seconds(1, SQS_MAX_VISIBILITY_SECONDS)] = Field(
        300 * SECOND,
        alias="SQS_VISIBILITY_TIMEOUT",
        description="Seconds for which a received message stays hidden from other workers. The worker extends this"
        " time while it works on the job.",
    )
    heartbeat: Annotated[timedelta, seconds(1, 1200)] = Field(
        20 * SECOND,
        alias="ANB_HEARTBEAT_SECONDS",
        description="Seconds between renewals of a lease. At most a third of `ANB_LEASE_SECONDS`.",
    )


class DeadLetterQueueSettings(AwsSettings):
    """The queue that wakes the workers. It is on SQS or on a Celery broker. Only SQS has a dead-letter queue."""

    celery_broker_url: BrokerUrl = Field(
        SecretStr(""),
        alias="CELERY_BROKER_URL",
        description="The Celery broker with the queue that wakes the workers: `redis://:password@host:6379/0` or"
        " `amqp://user:password@host:5672//`, or `rediss` or `amqps` for TLS. If `SQS_QUEUE_URL` is set, too,"
        " new work goes to SQS, and workers also empty the queue on the Celery broker.",
    )
    sqs_queue_url: QueueUrl = Field(
        "",
        alias="SQS_QUEUE_URL",
        description="The queue on SQS that wakes the workers. FIFO if its name ends in `.fifo`. Required if"
        " `CELERY_BROKER_URL` is not set.",
    )
    sqs_region: str = Field(
        "",
        alias="SQS_REGION",
        description="The queue's region. Default: the region in the queue's URL, else `AWS_REGION`.",
    )
    sqs_dlq_url: QueueUrl = Field(
        "",
        alias="SQS_DLQ_URL",
        description="The URL of the dead-letter queue. Default: the queue's URL with `-dlq` after its name. A Celery"
        " broker has none.",
    )

    @field_validator("sqs_queue_url")
    @classmethod
    def _one_queue_at_least(cls, value: str, info: ValidationInfo) -> str:
        # If CELERY_BROKER_URL is invalid, it is missing in `info.data`. Its own error is enough.
        if not value and not info.data.get("celery_broker_url", True):
            raise ValueError("set it to the URL of an SQS queue, or CELERY_BROKER_URL to the URL of a Celery broker")
        return value

    @field_validator("sqs_region", mode="before")
    @classmethod
    def _region_of_queue(cls, value: str, info: ValidationInfo) -> str:
        url = info.data.get("sqs_queue_url")
        region = value or (url and region_in(url)) or info.data.get("aws_region")
        if not region and url:
            raise ValueError("the queue's URL does not name its region: set SQS_REGION or AWS_REGION")
        return region or ""

    @field_validator("sqs_dlq_url", mode="before")
    @classmethod
    def _dlq_beside_queue(cls, value: str, info: ValidationInfo) -> str:
        # If the queue URL is missing or wrong, use a placeholder, so that the user sees only the queue URL's own error.
        queue: str = info.data.get("sqs_queue_url", "http://unknown/queue")
        if not queue:
            return ""
        return value or re.sub(r"(\.fifo)?$", r"-dlq\1", queue, count=1)

    @field_validator("sqs_dlq_url")
    @classmethod
    def _dlq_fits(cls, value: str, info: ValidationInfo) -> str:
        queue = info.data.get("sqs_queue_url", value)
        if value.endswith(".fifo") != queue.endswith(".fifo"):
            raise ValueError(f"it and SQS_QUEUE_URL ({queue}) must both be FIFO queues (.fifo), or neither")
        return value


class QueueSettings(DeadLetterQueueSettings, MessageSettings):
    """The settings of a program that sends messages or receives them, and the settings for creating the queue."""

    celery_queue: CeleryQueueName = Field(
        "celery",
        alias="CELERY_TASK_DEFAULT_QUEUE",
        description="Name of the queue on the Celery broker. The default is Celery's own.",
    )

    max_receive_count: Annotated[int, whole(1, SQS_MAX_RECEIVES)] = Field(
        3,
        alias="SQS_MAX_RECEIVE_COUNT",
        description="After this many receipts, the queue moves a message to the dead-letter queue.",
    )
    given_queue_limit: Annotated[int, whole(0, SQS_MAX_IN_FLIGHT)] | None = Field(
        None,
        alias="ANB_QUEUE_LIMIT",
        description="How many messages may wait in the queue. The other messages stay in the outbox until there is room"
        " for them, and are then sent in a fair order between the owners. 0 means no limit. Default: no limit on a"
        " standard queue of SQS, which is fair between the owners by itself; else 30.",
    )

    @property
    def queue_limit(self) -> int | None:
        """Return the maximum number of messages that wait in the queue. None means no limit."""
        if self.given_queue_limit is not None:
            return self.given_queue_limit or None
        fair = self.sqs_queue_url and not self.sqs_queue_url.endswith(".fifo")
        return None if fair else SHORT_QUEUE


class RetrySettings(FromEnvironment):
    """How often a job is tried again, and how long it waits before the next attempt."""

    max_failures: Annotated[int, whole(1, 100)] = Field(
        3, alias="ANB_MAX_FAILURES", description="After this many failed attempts, a job is dead-lettered."
    )
    max_lost: Annotated[int, whole(1, 100)] = Field(
        5, alias="ANB_MAX_LOST", description="After this many lost attempts (expired leases), a job is dead-lettered."
    )
    backoff_base: Annotated[timedelta, seconds(0, 3600)] = Field(
        10 * SECOND,
        alias="ANB_BACKOFF_SECONDS",
        description="The longest wait after the first failure, in seconds. It doubles with each failure.",
    )
    backoff_cap: Annotated[timedelta, seconds(0, DAY)] = Field(
        600 * SECOND,
        alias="ANB_BACKOFF_CAP_SECONDS",
        description="The longest wait after any failure, in seconds. At least `ANB_BACKOFF_SECONDS`.",
    )

    @property
    def retry_policy(self) -> RetryPolicy:
        """Return the retry settings as a `RetryPolicy` of the domain."""
        return RetryPolicy(
            max_failures=self.max_failures,
            max_lost=self.max_lost,
            backoff_base=self.backoff_base,
            backoff_cap=self.backoff_cap,
        )

    @field_validator("backoff_cap")
    @classmethod
    def _cap_above_base(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        base = info.data.get("backoff_base")
        if base and value < base:
            raise ValueError(f"it must be at least ANB_BACKOFF_SECONDS ({plain(base)})")
        return value


class SweepSettings(RetrySettings, MessageSettings):
    """The settings of the sweep. They include the retry settings and the message settings."""

    sweep_interval: Annotated[timedelta, seconds(1, 3600)] = Field(
        10 * SECOND,
        alias="ANB_SWEEP_SECONDS",
        description="Seconds between two runs of the sweep. It finds expired leases, abandoned uploads and jobs without"
        " a message.",
    )


class IntakeSettings(FromEnvironment):
    """Limits for all new videos."""

    max_upload_bytes: Annotated[int, whole(1, S3_MAX_OBJECT_BYTES)] = Field(
        2 * 1024**3, alias="ANB_MAX_UPLOAD_BYTES", description="The largest upload, in bytes."
    )


class UploadSettings(IntakeSettings):
    """Limits for uploads."""

    max_unfinished: Annotated[int, whole(1, MOST_VIDEOS)] | None = Field(
        None,
        alias="ANB_MAX_UNFINISHED_VIDEOS",
        description="How many videos of all owners may be unfinished: uploading, waiting or in processing. Further"
        " uploads get 429 `backlog_full`. Default: no limit.",
    )
    max_unfinished_per_owner: Annotated[int, whole(1, MOST_VIDEOS)] | None = Field(
        None,
        alias="ANB_MAX_UNFINISHED_VIDEOS_PER_OWNER",
        description="How many videos of one owner may be unfinished. Further uploads get 429 `backlog_full`. Default:"
        " no limit.",
    )
    max_stored_bytes: Annotated[int, whole(1, MOST_BYTES)] | None = Field(
        None,
        alias="ANB_MAX_STORED_BYTES",
        description="How many bytes the uploads and results of all owners may have. Further uploads get 429"
        " `quota_exceeded`. Default: no limit.",
    )
    max_stored_bytes_per_owner: Annotated[int, whole(1, MOST_BYTES)] | None = Field(
        None,
        alias="ANB_MAX_STORED_BYTES_PER_OWNER",
        description="How many bytes the uploads and results of one owner may have. Further uploads get 429"
        " `quota_exceeded`. Default: no limit.",
    )

    idempotency_lifetime: Annotated[timedelta, seconds(60, 30 * DAY)] = Field(
        DAY * SECOND,
        alias="ANB_IDEMPOTENCY_SECONDS",
        description="Seconds for which an `Idempotency-Key` is remembered.",
    )

    @property
    def limits(self) -> Limits:
        """Return the limits for unfinished videos and stored bytes."""
        return Limits(
            in_all=Cap(self.max_unfinished, self.max_stored_bytes),
            per_owner=Cap(self.max_unfinished_per_owner, self.max_stored_bytes_per_owner),
        )


class SubmitSettings(IntakeSettings):
    """Limits for submissions. A submission is a request to process an object that is already in the bucket."""

    source_prefixes: Annotated[tuple[KeyPrefix, ...], NoDecode, BeforeValidator(comma_separated)] = Field(
        (),
        alias="ANB_SOURCE_PREFIXES",
        description="Key prefixes, separated by commas, under which objects may be submitted, besides `uploads/`, and"
        " are adopted (see `ANB_ADOPT_OWNER`). Such objects are never deleted.",
    )


class AdoptSettings(SubmitSettings):
    """The settings of a program that adopts objects, which other programs put into the bucket."""

    adopt_owner: str | None = Field(
        None,
        alias="ANB_ADOPT_OWNER",
        description="Owner of the videos that are known only from an older producer's message or, under "
        "`ANB_SOURCE_PREFIXES`, from an event notification of S3. Default: such messages become dead letters. Also the "
        "owner of the videos of `anb adopt`, unless `--owner` names another one.",
    )


class AlertSettings(FromEnvironment):
    """Where alerts are sent."""

    sns_topic_arn: TopicArn | None = Field(
        None,
        alias="ANB_SNS_TOPIC_ARN",
        description="ARN of the SNS topic that gets a message about new dead letters. Default: none, only log and"
        " metrics report them.",
    )


class MetricSettings(AwsSettings):
    """Whether and where metrics are sent to CloudWatch. Prometheus can read metrics in any case."""

    cloudwatch_namespace: CloudWatchNamespace | None = Field(
        None,
        alias="ANB_CLOUDWATCH_NAMESPACE",
        description="The namespace of CloudWatch to which the operator sends metrics once a minute, such as `ANBVideo`."
        " They are sent to `AWS_REGION`. Default: none, no metrics are sent.",
    )

    @field_validator("cloudwatch_namespace")
    @classmethod
    def _region_is_known(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and not info.data.get("aws_region"):
            raise ValueError("set AWS_REGION to the region of the alarms, too")
        return value
