"""What the API's programs read from the environment."""

from pydantic import Field

from anb_core.settings.capabilities import DatabaseSettings, LogSettings
from anb_core.settings.parsing import Token


class CommandSettings(LogSettings, DatabaseSettings):
    """What the token commands read."""


class MigrationSettings(CommandSettings):
    """What the migration reads."""

    bootstrap_token: Token | None = Field(
        None,
        alias="ANB_BOOTSTRAP_TOKEN",
        description="A first API token with scope `ops`, recorded by the migration. A new one revokes the one before.",
    )
