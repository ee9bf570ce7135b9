"""The edit options that a person may choose for a video. The schemas of the API and of VideoJobs use these models."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MAX_LENGTH_SECONDS = 30.0
"""The maximum length of the main part of a finished video, in seconds."""

MAX_TRIM_START_SECONDS = 24 * 3600.0
"""The latest start of the kept part, in seconds. No upload may be longer than a day."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Trim(_Part):
    """The part of the upload that is kept."""

    start: Annotated[
        float, Field(ge=0, le=MAX_TRIM_START_SECONDS, description="Where the kept part begins, in seconds.")
    ] = 0.0
    length: Annotated[
        float, Field(ge=0.1, le=MAX_LENGTH_SECONDS, description="How long the kept part is at most, in seconds.")
    ] = MAX_LENGTH_SECONDS


class Switch(_Part):
    """A step of the edit that can be turned off."""

    enabled: Annotated[bool, Field(strict=True, description="Whether this step is done.")] = True


class EditSpec(_Part):
    """All options of an edit. A missing option gets its default value, and an unknown option is refused."""

    trim: Annotated[Trim, Field(description="The part of the upload that is kept.")] = Trim()
    watermark: Annotated[Switch, Field(description="The watermark over the main part.")] = Switch()
    intro: Annotated[Switch, Field(description="The card before the main part, with the title over it.")] = Switch()
    outro: Annotated[Switch, Field(description="The card after the main part.")] = Switch()
