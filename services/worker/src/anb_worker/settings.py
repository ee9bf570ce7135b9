"""The settings that a worker reads from the environment."""

import socket
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from anb_core.settings.capabilities import (
    AdoptSettings,
    BucketSettings,
    LogSettings,
    QueueSettings,
    StoreSettings,
    SweepSettings,
)
from anb_core.settings.parsing import DAY, SECOND, Address, plain, seconds, whole

SQS_MAX_WAIT_SECONDS = 20


class WorkerSettings(LogSettings, AdoptSettings, SweepSettings, QueueSettings, BucketSettings, StoreSettings):
    """All settings of a worker."""

    lease: Annotated[timedelta, seconds(3, 3600)] = Field(
        60 * SECOND,
        alias="ANB_LEASE_SECONDS",
        description="Seconds after which a lease expires if the worker does not renew it. Less than"
        " `SQS_VISIBILITY_TIMEOUT`.",
    )
    wait_time: Annotated[timedelta, seconds(0, SQS_MAX_WAIT_SECONDS)] = Field(
        20 * SECOND,
        alias="SQS_WAIT_TIME_SECONDS",
        description="How many seconds one call waits for a message.",
    )
    drain: Annotated[timedelta, seconds(0, DAY)] = Field(
        120 * SECOND,
        alias="ANB_DRAIN_SECONDS",
        description="Seconds that a worker has to finish its job after a stop signal. Then it hands the job on.",
    )
    worker_name: str = Field(
        default_factory=socket.gethostname,
        alias="ANB_WORKER_NAME",
        description="The worker's name, as attempts record it. Default: the host's name.",
    )
    scratch_limit: Annotated[int, whole(2**28, 2**50)] | None = Field(
        None,
        alias="ANB_SCRATCH_BYTES",
        description="Bytes of disk that all workers of a machine may use below `TMPDIR`. Default: all that are free.",
    )
    sandbox: Literal["prefer", "require"] = Field(
        "prefer",
        alias="ANB_SANDBOX",
        description="What a worker does on a system that lacks a protection of the sandbox: it starts without that "
        "protection (`prefer`), or it does not start (`require`).",
    )
    max_duration: Annotated[timedelta, seconds(1, DAY)] = Field(
        4 * 3600 * SECOND, alias="ANB_MAX_DURATION_SECONDS", description="The longest uploaded video, in seconds."
    )
    listen: Address | None = Field(
        None,
        alias="ANB_WORKER_LISTEN",
        description="Address at which a worker serves `/metrics`, `/healthz` and `/readyz`, as `HOST:PORT`. Default: "
        "none.",
    )

    @field_validator("lease")
    @classmethod
    def _lease_fits(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        visibility, heartbeat = info.data.get("visibility_timeout"), info.data.get("heartbeat")
        if visibility and value >= visibility:
            raise ValueError(f"it must be less than SQS_VISIBILITY_TIMEOUT ({plain(visibility)})")
        if heartbeat and value < 3 * heartbeat:
            three = f"three times ANB_HEARTBEAT_SECONDS ({plain(heartbeat)})"
            raise ValueError(f"it must be at least {three}, so that two renewals may fail")
        return value
