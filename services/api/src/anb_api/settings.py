"""The settings of the API's programs, read from environment variables."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from anb_core.settings.capabilities import (
    AdoptSettings,
    AlertSettings,
    BucketSettings,
    DatabaseSettings,
    LogSettings,
    QueueSettings,
    StoreSettings,
    SweepSettings,
    UploadSettings,
)
from anb_core.settings.parsing import DAY, SECOND, Address, HttpUrl, PathPrefix, Token, seconds

S3_MAX_PRESIGNED_SECONDS = 7 * DAY


class ApiSettings(
    LogSettings,
    AlertSettings,
    AdoptSettings,
    UploadSettings,
    SweepSettings,
    QueueSettings,
    BucketSettings,
    StoreSettings,
):
    """The settings of `serve`."""

    s3_public_endpoint: HttpUrl | None = Field(
        None,
        alias="ANB_S3_PUBLIC_ENDPOINT",
        description="Address of the S3 service for people, if the API uses another one. For download URLs only.",
    )
    download_url_lifetime: Annotated[timedelta, seconds(1, S3_MAX_PRESIGNED_SECONDS)] = Field(
        900 * SECOND, alias="ANB_DOWNLOAD_URL_SECONDS", description="Seconds for which a download URL is valid."
    )
    listen: Address = Field(
        "127.0.0.1:8000", alias="ANB_API_LISTEN", description="The address that the API listens on, as `HOST:PORT`."
    )
    prefix: PathPrefix = Field(
        "",
        alias="ANB_API_PREFIX",
        description="Path prefix that a proxy adds to the API, such as `/video`. Links start with it. "
        "A request's `X-Forwarded-Prefix` header overrides it.",
    )
    handle_dead_letters: bool = Field(
        default=False,
        alias="ANB_HANDLE_DEAD_LETTERS",
        description="Whether the API receives the messages of the dead-letter queue and announces dead letters. In a"
        " cluster, the operator does so.",
    )


class CommandSettings(LogSettings, DatabaseSettings):
    """The settings of the token commands."""


class MigrationSettings(CommandSettings):
    """The settings of `migrate`."""

    bootstrap_token: Token | None = Field(
        None,
        alias="ANB_BOOTSTRAP_TOKEN",
        description="A first API token with scope `ops`. The migration saves it. A new value revokes the old token.",
    )
