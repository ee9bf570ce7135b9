"""What a worker reads from the environment."""

import socket
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from anb_core.settings.capabilities import (
    BucketSettings,
    LogSettings,
    QueueSettings,
    StoreSettings,
    SubmitSettings,
    SweepSettings,
)
from anb_core.settings.parsing import DAY, SECOND, Address, seconds, whole

SQS_MAX_WAIT_SECONDS = 20


class WorkerSettings(LogSettings, SubmitSettings, SweepSettings, QueueSettings, BucketSettings, StoreSettings):
    """What a worker reads."""

    wait_time: Annotated[timedelta, seconds(0, SQS_MAX_WAIT_SECONDS)] = Field(
        20 * SECOND,
        alias="SQS_WAIT_TIME_SECONDS",
        description="Seconds for which a worker waits for a message in one call.",
    )
    drain: Annotated[timedelta, seconds(0, DAY)] = Field(
        120 * SECOND,
        alias="ANB_DRAIN_SECONDS",
        description="Seconds for which a worker that is told to stop may finish its job before it hands it on.",
    )
    worker_name: str = Field(
        default_factory=socket.gethostname,
        alias="ANB_WORKER_NAME",
        description="What attempts call their worker. Default: the host's name.",
    )
    scratch_limit: Annotated[int, whole(2**28, 2**50)] | None = Field(
        None,
        alias="ANB_SCRATCH_BYTES",
        description="What all workers of a machine may use of its disk, below `TMPDIR`. Default: what is free.",
    )
    sandbox: Literal["prefer", "require"] = Field(
        "prefer",
        alias="ANB_SANDBOX",
        description="Whether a worker does without what the system can't keep a stranger's file from (`prefer`), or "
        "does not start there (`require`).",
    )
    max_duration: Annotated[timedelta, seconds(1, DAY)] = Field(
        4 * 3600 * SECOND, alias="ANB_MAX_DURATION_SECONDS", description="The longest uploaded video, in seconds."
    )
    adopt_owner: str | None = Field(
        None,
        alias="ANB_ADOPT_OWNER",
        description="Who owns videos that only an older producer's message tells of. Default: dead letters.",
    )
    listen: Address | None = Field(
        None,
        alias="ANB_WORKER_LISTEN",
        description="Where a worker shows `/metrics`, `/healthz` and `/readyz`, as `HOST:PORT`. Default: nowhere.",
    )
