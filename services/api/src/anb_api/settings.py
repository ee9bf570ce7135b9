"""What the API's programs read from the environment."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from anb_core.settings.capabilities import (
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


class ApiSettings(LogSettings, UploadSettings, SweepSettings, QueueSettings, BucketSettings, StoreSettings):
    """What the API reads."""

    s3_public_endpoint: HttpUrl | None = Field(
        None,
        alias="ANB_S3_PUBLIC_ENDPOINT",
        description="Where people reach the bucket's service, where we don't. For download URLs only.",
    )
    download_url_lifetime: Annotated[timedelta, seconds(1, S3_MAX_PRESIGNED_SECONDS)] = Field(
        900 * SECOND, alias="ANB_DOWNLOAD_URL_SECONDS", description="Seconds for which a download URL is good."
    )
    listen: Address = Field(
        "127.0.0.1:8000", alias="ANB_API_LISTEN", description="Where the API listens, as `HOST:PORT`."
    )
    prefix: PathPrefix = Field(
        "",
        alias="ANB_API_PREFIX",
        description="The path under which a proxy shows the API, such as `/video`; goes before links. "
        "A request's `X-Forwarded-Prefix` goes before this.",
    )


class CommandSettings(LogSettings, DatabaseSettings):
    """What the token commands read."""


class MigrationSettings(CommandSettings):
    """What the migration reads."""

    bootstrap_token: Token | None = Field(
        None,
        alias="ANB_BOOTSTRAP_TOKEN",
        description="A first API token with scope `ops`, recorded by the migration. A new one revokes the one before.",
    )
