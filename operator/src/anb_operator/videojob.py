"""The VideoJob: what people want of a video (`spec`) and how it stands (`status`). The CRD is made from these models.

What the API server checks beyond types is said here in CEL: an optional field is immutable only together with whether
it is there at all, which `self == oldSelf` does not cover.
"""

import re
from datetime import UTC, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.alias_generators import to_camel

from anb_core.domain.edit import EditSpec
from anb_core.domain.model import DeadLetterCause
from anb_core.domain.naming import INVISIBLE, MAX_TITLE, VIDEO_ID_PATTERN
from anb_core.domain.status import Status as Phase

GROUP = "anb.video"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "VideoJob"
PLURAL = "videojobs"

FINALIZER = f"{GROUP}/cancel"
"""On VideoJobs that submit their video, from before that until its work is over: deleting one cancels it first."""

DEFAULT_OWNER = "kubernetes"

MADE_BY_OPERATOR = {"app.kubernetes.io/managed-by": "anb-operator"}
"""The labels of mirrors that no person made, whichever release's operator did."""

RULES = "x-kubernetes-validations"

Time = Annotated[
    AwareDatetime, PlainSerializer(lambda time: time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), when_used="json")
]


def _immutable(field: str, sentence: str) -> dict[str, Any]:
    return {
        "rule": f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})",
        "message": sentence,
        "fieldPath": f".{field}",
    }


# As `clean_title` has it.
_PRINTABLE = {
    "rule": r"self.matches('^[^\\x00-\\x1f\\x7f-\\x9f\\x{2028}\\x{2029}]*$')",
    "message": "It must not have control characters or line breaks.",
}
# In the way of RE2 and within a CEL string: code points in braces, and each backslash twice.
_INVISIBLE = re.sub(r"\\[uU]0*(\w+)", r"\\\\x{\1}", INVISIBLE)
_VISIBLE = {
    "rule": rf"self.matches('[^\\s\\p{{Z}}{_INVISIBLE}]')",
    "message": "It must not be blank.",
}
_WORDS = [_PRINTABLE, _VISIBLE]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class Source(_Part):
    """An object in the bucket that is submitted as a video, once. Immutable."""

    key: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1024,
            description="The object's key, under uploads/ or one of the prefixes in ANB_SOURCE_PREFIXES.",
            json_schema_extra={
                RULES: [
                    {
                        "rule": "!self.startsWith('/') && !self.startsWith('s3:') && !self.endsWith('/')",
                        "message": "It must be the key alone, such as uploads/clip.mp4, without the bucket and without "
                        "a slash at either end.",
                    },
                    {
                        # S3 counts bytes, maxLength characters.
                        "rule": "size(bytes(self)) <= 1024",
                        "message": "The key must not be longer than 1024 bytes in UTF-8: no bucket has such an object.",
                    },
                ]
            },
        ),
    ]


class Spec(_Part):
    """What is wanted."""

    model_config = ConfigDict(
        json_schema_extra={
            RULES: [
                {
                    "rule": "has(self.videoId) != has(self.source)",
                    "message": "Give either source (an object in the bucket, to submit it) or videoId (a video that "
                    "was uploaded, to mirror it), and not both.",
                },
                {
                    "rule": "!has(self.videoId) || !(has(self.title) || has(self.owner) || has(self.edit))",
                    "message": "Leave out title, owner and edit with videoId: a video that was uploaded has its own. "
                    "They are for source.",
                    "fieldPath": ".videoId",
                },
                _immutable("videoId", "videoId can't be changed. Make another VideoJob."),
                _immutable("source", "source can't be changed. Make another VideoJob."),
                _immutable("title", "title can't be changed after the video was submitted. Make another VideoJob."),
                _immutable("owner", "owner can't be changed. Make another VideoJob."),
                _immutable("edit", "edit can't be changed after the video was submitted. Make another VideoJob."),
                {
                    "rule": "!has(self.retry) || (has(oldSelf.retry) && self.retry == oldSelf.retry) || "
                    "!has(self.cancel) || !self.cancel",
                    "message": "cancel is true, which contradicts a retry. Set cancel to false together with the new "
                    "value of retry.",
                    "fieldPath": ".retry",
                },
            ]
        }
    )

    video_id: Annotated[str, Field(min_length=1, max_length=128, pattern=VIDEO_ID_PATTERN)] | None = Field(
        None, description="The id of an uploaded video that this VideoJob mirrors. Immutable."
    )
    source: Source | None = None
    title: (
        Annotated[
            str,
            Field(
                min_length=1,
                max_length=MAX_TITLE,
                json_schema_extra={RULES: _WORDS},
            ),
        ]
        | None
    ) = Field(
        None, description="The title over the intro. Without one, a submitted object's title is its name. Immutable."
    )
    owner: Annotated[str, Field(min_length=1, max_length=253, json_schema_extra={RULES: _WORDS})] | None = Field(
        None,
        description="Whom the video belongs to in the API. Without one, a submitted object belongs to "
        f'"{DEFAULT_OWNER}". Immutable.',
    )
    edit: EditSpec | None = Field(
        None,
        description="The whole edit; what is left out takes its default, what is unknown is refused. Immutable.",
    )
    retry: Annotated[str, Field(min_length=1, max_length=64, json_schema_extra={RULES: [_PRINTABLE]})] | None = Field(
        None,
        description="A word of your choice. Every new value tries a failed, cancelled or dead-lettered video again, "
        "with a fresh count of failures.",
    )
    cancel: bool | None = Field(
        None,
        description="True stops the work on an unfinished video, once. To stop it again set it to false in between.",
    )
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=31_536_000)] | None = Field(
        None,
        description="Seconds after the end of the work in which this VideoJob is deleted; the video itself stays. "
        "Without it one with spec.videoId is kept as long as the operator was told for this outcome, and one with "
        "spec.source until somebody deletes it: one that is gone and applied again submits its object again.",
    )


class Problem(_Part):
    """What went wrong last."""

    model_config = ConfigDict(extra="forbid")

    code: Annotated[str, Field(description="A stable word that programs may compare.")]
    message: Annotated[str, Field(description="One or two sentences for a person.")]


class DeadLetter(_Part):
    """Why a person has to look."""

    model_config = ConfigDict(extra="forbid")

    at: Annotated[Time, Field(description="When the verdict fell.")]
    cause: Annotated[DeadLetterCause, Field(description="What brought it about.")]
    failures: int | None = Field(None, description="Attempts that failed.")
    lost: int | None = Field(None, description="Attempts whose worker vanished.")
    body: str | None = Field(
        None, description="The beginning of the message, where one arrived in the dead-letter queue."
    )


class Condition(_Part):
    """One of the conditions, as programs such as kubectl wait read them."""

    type: Annotated[
        Literal["Accepted", "Progressing", "Complete", "Failed", "DeadLettered"],
        Field(description="Which of them this is."),
    ]
    status: Annotated[Literal["True", "False", "Unknown"], Field(description="Whether it holds.")]
    reason: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1024,
            pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            description="Why, in a word.",
        ),
    ]
    message: Annotated[str, Field(max_length=32768, description="Why, in a sentence.")]
    observed_generation: Annotated[int, Field(ge=0)] | None = Field(
        None, description="The generation of the spec that it speaks of."
    )
    last_transition_time: Annotated[Time, Field(description="When its status changed last.")]


class Status(_Part):
    """How things stand, written by the operator."""

    model_config = ConfigDict(extra="forbid")

    observed_generation: int | None = Field(None, description="The generation of the spec that this status answers.")
    phase: Phase | None = Field(None, description="The video's status.")
    video_id: str | None = Field(None, description="The video's id.")
    progress: str | None = Field(None, description='How much of the present attempt is done, such as "42%".')
    attempts: int | None = Field(None, description="How often workers have tried, over all retries.")
    worker: str | None = Field(None, description="The worker that holds the lease, by the name of its pod.")
    result_key: str | None = Field(None, description="The key of the object that holds the finished video.")
    retry: str | None = Field(None, description="The value of spec.retry that was acted on last.")
    cancel: bool | None = Field(None, description="The value of spec.cancel that was acted on last.")
    error: Problem | None = None
    dead_letter: DeadLetter | None = None
    created_at: Time | None = Field(None, description="When the video was uploaded or submitted.")
    started_at: Time | None = Field(None, description="When the last attempt began.")
    finished_at: Time | None = Field(
        None, description="When the video was processed, failed, dead-lettered or cancelled."
    )
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16,
            description="Accepted, Progressing, Complete, Failed and DeadLettered, as programs such as kubectl wait "
            "read them.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = ()

    # By their names in the manifest: what another version of the operator wrote, for the next status to replace.
    _unread: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def had_video(self) -> bool:
        """It was written of a video, whose phase need not be one that we know."""
        return self.phase is not None or "phase" in self._unread

    def condition(self, kind: str) -> Condition | None:
        """The condition of this type, if it was told."""
        return next((condition for condition in self.conditions if condition.type == kind), None)

    def manifest(self) -> dict[str, Any]:
        """As it is written; what is None is absent."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True) | self._unread


def _as_far_as_readable(manifest: dict[str, Any], read: ValidatorFunctionWrapHandler) -> Status:
    """A status of which a newer operator, before a rollback, may have written what we don't know."""
    try:
        status: Status = read(manifest)
    except ValidationError as error:
        wrong = {problem["loc"][0] for problem in error.errors() if problem["loc"]}
        if not wrong:
            raise
        status = read({name: value for name, value in manifest.items() if name not in wrong})
        unread = {name: value for name, value in manifest.items() if name in wrong}
        status._unread.update(unread)  # noqa: SLF001 - pydantic has no private attribute in a constructor
    return status


class Metadata(_Part):
    """What we read of an object's metadata."""

    name: str
    namespace: str
    uid: str
    resource_version: str
    generation: int = 1
    creation_timestamp: AwareDatetime
    deletion_timestamp: AwareDatetime | None = None
    finalizers: tuple[str, ...] = ()
    labels: dict[str, str] = {}


class VideoJob(_Part):
    """A VideoJob as the API server shows it."""

    metadata: Metadata
    spec: Spec
    status: Annotated[Status, WrapValidator(_as_far_as_readable)] = Status()

    @classmethod
    def read(cls, manifest: object) -> Self:
        """Take an answer of the API server.

        Raises:
            pydantic.ValidationError: an older or newer schema let through what we can't read.
        """
        return cls.model_validate(manifest)

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.metadata.namespace, self.metadata.name

    @property
    def deleting(self) -> bool:
        """Somebody has deleted it, and a finalizer still holds it."""
        return self.metadata.deletion_timestamp is not None

    @property
    def made_by_operator(self) -> bool:
        """No person made it."""
        return self.metadata.labels.items() >= MADE_BY_OPERATOR.items()

    @property
    def ttl(self) -> timedelta | None:
        """What this object says about its own end."""
        seconds = self.spec.ttl_seconds_after_finished
        return None if seconds is None else timedelta(seconds=seconds)
