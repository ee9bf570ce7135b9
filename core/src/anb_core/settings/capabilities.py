"""A model for each thing that a program can do, with the variables that it takes. A field's alias is its variable.

A check that compares two fields stands in the model that has both. Of the two it belongs to the later field, because
pydantic hands a field's check those that stand before it. The fields of a model's last base stand first.
"""

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AliasChoices, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from anb_core.domain.retry import RetryPolicy
from anb_core.settings.parsing import (
    DAY,
    SECOND,
    BucketName,
    DatabaseUrl,
    KeyPrefix,
    QueueUrl,
    comma_separated,
    plain,
    region_in,
    seconds,
    whole,
)

SQS_MAX_VISIBILITY_SECONDS = 12 * 3600
SQS_MAX_RECEIVES = 1000
S3_MAX_OBJECT_BYTES = 80_000 * 1024 * 1024
"""8 MB parts, 10,000 of them."""


class FromEnvironment(BaseSettings):
    """An empty variable counts as one that is not set; variables that no field names are ignored."""

    model_config = SettingsConfigDict(frozen=True, case_sensitive=True, env_ignore_empty=True, extra="ignore")


class LogSettings(FromEnvironment):
    """How the program writes its log."""

    log_format: Literal["auto", "json", "text"] = Field(
        "auto", alias="ANB_LOG_FORMAT", description="`json`, `text`, or `auto`: text in a terminal, JSON elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        alias="ANB_LOG_LEVEL",
        description="The least important lines that are logged: `debug`, `info`, `warning`, `error`.",
    )


class DatabaseSettings(FromEnvironment):
    """Where the database is: enough for a command that ends soon."""

    database_url: DatabaseUrl = Field(
        alias="DATABASE_URL",
        description="The database: `postgresql://user:password@host:5432/name` (`host1:5432,host2:5432` for several"
        " of which one takes writes) or `sqlite:///path`.",
    )


class StoreSettings(DatabaseSettings):
    """The store of a program that runs for long."""

    database_connections: Annotated[int, whole(3, 1000)] = Field(
        5,
        alias="ANB_DATABASE_CONNECTIONS",
        description="Connections that this process may open to PostgreSQL.",
    )
    database_connections_in_all: Annotated[int, whole(3, 100_000)] | None = Field(
        None,
        alias="ANB_DATABASE_CONNECTIONS_IN_ALL",
        description="Those of all processes together. The log warns at the start when the server allows fewer. "
        "Default: those of this process.",
    )


class AwsSettings(FromEnvironment):
    """What bucket and queue have in common. Credentials and addresses are left to boto3."""

    aws_region: str | None = Field(
        None,
        alias="AWS_REGION",
        validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"),
        description="The region of the bucket, and of the queue if nothing else tells.",
    )
    create_resources: bool = Field(
        default=False,
        alias="ANB_CREATE_RESOURCES",
        description="Whether bucket and queues may be created when missing. Not for production.",
    )


class BucketSettings(AwsSettings):
    """The bucket."""

    s3_bucket: BucketName = Field(alias="S3_BUCKET", description="The bucket for uploads, results and resources.")


class LeaseSettings(FromEnvironment):
    """The times by which a job is kept, and by which its message is hidden."""

    visibility_timeout: Annotated[timedelta, seconds(1, SQS_MAX_VISIBILITY_SECONDS)] = Field(
        300 * SECOND,
        alias="SQS_VISIBILITY_TIMEOUT",
        description="Seconds for which a received message stays hidden; the worker renews it.",
    )
    lease: Annotated[timedelta, seconds(3, 3600)] = Field(
        60 * SECOND,
        alias="ANB_LEASE_SECONDS",
        description="Seconds after which a silent worker loses its job. Less than `SQS_VISIBILITY_TIMEOUT`.",
    )
    heartbeat: Annotated[timedelta, seconds(1, 1200)] = Field(
        20 * SECOND,
        alias="ANB_HEARTBEAT_SECONDS",
        description="Seconds between renewals of a lease. At most a third of `ANB_LEASE_SECONDS`.",
    )

    @field_validator("lease")
    @classmethod
    def _lease_within_visibility(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        visibility = info.data.get("visibility_timeout")
        if visibility and value >= visibility:
            raise ValueError(f"it must be less than SQS_VISIBILITY_TIMEOUT ({plain(visibility)})")
        return value

    @field_validator("heartbeat")
    @classmethod
    def _heartbeat_within_lease(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        lease = info.data.get("lease")
        if lease and 3 * value > lease:
            raise ValueError(
                f"it must be at most a third of ANB_LEASE_SECONDS ({plain(lease)}), so that two renewals may fail"
            )
        return value


class QueueSettings(AwsSettings, LeaseSettings):
    """The queue that wakes the workers, and what is needed to create it."""

    sqs_queue_url: QueueUrl = Field(
        alias="SQS_QUEUE_URL", description="The queue that wakes the workers. FIFO if its name ends in `.fifo`."
    )
    sqs_region: str = Field(
        "", alias="SQS_REGION", description="The queue's region. Default: told by the queue's URL, else `AWS_REGION`."
    )
    sqs_dlq_url: QueueUrl = Field(
        "",
        alias="SQS_DLQ_URL",
        description="The dead-letter queue, for creating it. Default: `-dlq` after the queue's name.",
    )
    max_receive_count: Annotated[int, whole(1, SQS_MAX_RECEIVES)] = Field(
        3,
        alias="SQS_MAX_RECEIVE_COUNT",
        description="Receives after which the queue moves a message to the dead-letter queue.",
    )

    @field_validator("sqs_region", mode="before")
    @classmethod
    def _region_of_queue(cls, value: str, info: ValidationInfo) -> str:
        url = info.data.get("sqs_queue_url")
        region = value or (url and region_in(url)) or info.data.get("aws_region")
        if not region and url:
            raise ValueError("the queue's URL does not tell its region: set SQS_REGION or AWS_REGION")
        return region or ""

    @field_validator("sqs_dlq_url", mode="before")
    @classmethod
    def _dlq_beside_queue(cls, value: str, info: ValidationInfo) -> str:
        if value:
            return value
        # Without a queue there is a problem already; its placeholder must not make another.
        return re.sub(r"(\.fifo)?$", r"-dlq\1", info.data.get("sqs_queue_url", "http://unknown/queue"), count=1)

    @field_validator("sqs_dlq_url")
    @classmethod
    def _dlq_fits(cls, value: str, info: ValidationInfo) -> str:
        queue = info.data.get("sqs_queue_url", value)
        if value.endswith(".fifo") != queue.endswith(".fifo"):
            raise ValueError(f"it and SQS_QUEUE_URL ({queue}) must both be FIFO queues (.fifo), or neither")
        return value


class RetrySettings(FromEnvironment):
    """How patient we are with attempts."""

    max_failures: Annotated[int, whole(1, 100)] = Field(
        3, alias="ANB_MAX_FAILURES", description="Failed attempts after which a job is dead-lettered."
    )
    max_lost: Annotated[int, whole(1, 100)] = Field(
        5, alias="ANB_MAX_LOST", description="Attempts lost with their worker after which a job is dead-lettered."
    )
    backoff_base: Annotated[timedelta, seconds(0, 3600)] = Field(
        10 * SECOND,
        alias="ANB_BACKOFF_SECONDS",
        description="The longest wait in seconds after the first failure; it doubles with each one.",
    )
    backoff_cap: Annotated[timedelta, seconds(0, DAY)] = Field(
        600 * SECOND,
        alias="ANB_BACKOFF_CAP_SECONDS",
        description="The longest wait in seconds after any failure. At least `ANB_BACKOFF_SECONDS`.",
    )

    @property
    def retry_policy(self) -> RetryPolicy:
        """The same in the domain's words."""
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


class SweepSettings(RetrySettings, LeaseSettings):
    """The sweep."""

    sweep_interval: Annotated[timedelta, seconds(1, 3600)] = Field(
        10 * SECOND,
        alias="ANB_SWEEP_SECONDS",
        description="Seconds between two looks for expired leases, dead uploads and forgotten jobs.",
    )


class IntakeSettings(FromEnvironment):
    """What becomes a video."""

    max_upload_bytes: Annotated[int, whole(1, S3_MAX_OBJECT_BYTES)] = Field(
        2 * 1024**3, alias="ANB_MAX_UPLOAD_BYTES", description="The largest upload, in bytes."
    )


class UploadSettings(IntakeSettings):
    """Uploads."""

    idempotency_lifetime: Annotated[timedelta, seconds(60, 30 * DAY)] = Field(
        DAY * SECOND,
        alias="ANB_IDEMPOTENCY_SECONDS",
        description="Seconds for which an `Idempotency-Key` is remembered.",
    )


class SubmitSettings(IntakeSettings):
    """Which objects that are in the bucket already become videos."""

    source_prefixes: Annotated[tuple[KeyPrefix, ...], NoDecode, BeforeValidator(comma_separated)] = Field(
        (),
        alias="ANB_SOURCE_PREFIXES",
        description="Where else than in `uploads/` objects may be submitted from, separated by commas. Never deleted.",
    )
