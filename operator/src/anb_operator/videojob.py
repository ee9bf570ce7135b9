"""The models of a VideoJob: its `spec`, written by people, and its `status`, written by the operator.

`crd.py` makes the CRD from these models. CEL rules express the checks that types can't express.
An immutable optional field needs the rule of `_immutable`.
Kubernetes would skip the shorter rule `self == oldSelf` when the field is added or removed.
"""

import re
from datetime import UTC, datetime, timedelta
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
    WithJsonSchema,
    WrapValidator,
)
from pydantic.alias_generators import to_camel

from anb_core.domain.dead_letters import Resolution
from anb_core.domain.edit import EditSpec
from anb_core.domain.model import DeadLetterCause
from anb_core.domain.naming import INVISIBLE, MAX_TITLE, VIDEO_ID_PATTERN
from anb_core.domain.schedule import LONGEST_WAIT, PROCESS_AFTER_PATTERN, parse_process_after
from anb_core.domain.status import Status as Phase

GROUP = "anb.video"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "VideoJob"
PLURAL = "videojobs"

FINALIZER = f"{GROUP}/cancel"
"""The operator's finalizer, which delays the deletion of a VideoJob until the work on its video is cancelled.

A VideoJob with a source gets the finalizer before its object is submitted, and loses the finalizer when the job ends.
"""

DEFAULT_OWNER = "kubernetes"
"""Owner of a submitted video if the VideoJob has no `spec.owner`."""

DEAD_LETTER = f"{GROUP}/dead-letter"
"""The label of VideoJobs whose video has an open dead letter. Its value is `true`."""

MADE_BY_OPERATOR = {"app.kubernetes.io/managed-by": "anb-operator"}
"""Labels of all mirrors, including the mirrors of other releases."""

RULES = "x-kubernetes-validations"
"""The key for CEL validation rules in an OpenAPI schema."""

Time = Annotated[
    AwareDatetime, PlainSerializer(lambda time: time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), when_used="json")
]
"""A time in the format of Kubernetes: UTC, in whole seconds."""


def _immutable(field: str, sentence: str) -> dict[str, Any]:
    return {
        "rule": f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})",
        "message": sentence,
        "fieldPath": f".{field}",
    }


# A CEL rule for the check of titles in `anb_core.domain.naming.clean_title`.
_PRINTABLE = {
    "rule": r"self.matches('^[^\\x00-\\x1f\\x7f-\\x9f\\x{2028}\\x{2029}]*$')",
    "message": "It must not have control characters or line breaks.",
}
# In CEL, a regular expression needs braces around code points, and a string needs each backslash twice.
_INVISIBLE = re.sub(r"\\[uU]0*(\w+)", r"\\\\x{\1}", INVISIBLE)
_VISIBLE = {
    "rule": rf"self.matches('[^\\s\\p{{Z}}{_INVISIBLE}]')",
    "message": "It must not be blank.",
}
_TEXT = [_PRINTABLE, _VISIBLE]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class Source(_Part):
    """An object in the bucket. The operator submits the object once, as a video. Immutable."""

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
                        # S3 limits a key's length in bytes, but maxLength counts characters.
                        "rule": "size(bytes(self)) <= 1024",
                        "message": "The key must not be longer than 1024 bytes in UTF-8: no bucket has such an object.",
                    },
                ]
            },
        ),
    ]


class Spec(_Part):
    """The desired state: the video, its edit, and the commands for the video."""

    model_config = ConfigDict(
        json_schema_extra={
            RULES: [
                {
                    "rule": "has(self.videoId) != has(self.source)",
                    "message": "Give either source (an object in the bucket, to submit it) or videoId (a video that "
                    "was uploaded, to mirror it), and not both.",
                },
                {
                    "rule": "!has(self.videoId) || !(has(self.title) || has(self.owner) || has(self.edit) || "
                    "has(self.processAfter))",
                    "message": "Leave out title, owner, edit and processAfter with videoId: a video that was uploaded "
                    "has its own. They are for source.",
                    "fieldPath": ".videoId",
                },
                _immutable("videoId", "videoId can't be changed. Make another VideoJob."),
                _immutable("source", "source can't be changed. Make another VideoJob."),
                _immutable("title", "title can't be changed after the video was submitted. Make another VideoJob."),
                _immutable("owner", "owner can't be changed. Make another VideoJob."),
                _immutable("edit", "edit can't be changed after the video was submitted. Make another VideoJob."),
                _immutable("processAfter", "processAfter can't be changed. Make another VideoJob."),
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
                json_schema_extra={RULES: _TEXT},
            ),
        ]
        | None
    ) = Field(
        None, description="The title shown over the intro. Default: the file name in the object's key. Immutable."
    )
    owner: Annotated[str, Field(min_length=1, max_length=253, json_schema_extra={RULES: _TEXT})] | None = Field(
        None,
        description=f'The owner of the submitted video in the API. Default: "{DEFAULT_OWNER}". Immutable.',
    )
    edit: EditSpec | None = Field(
        None,
        description="The edit of the submitted video. Fields that are left out take their defaults. Unknown fields are "
        "refused. Immutable.",
    )
    process_after: (
        Annotated[
            int | str,
            WithJsonSchema(
                {
                    "x-kubernetes-int-or-string": True,
                    "maximum": LONGEST_WAIT.total_seconds(),
                    "pattern": PROCESS_AFTER_PATTERN,
                    "maxLength": 64,
                }
            ),
        ]
        | None
    ) = Field(
        None,
        description="The work on the submitted video does not begin before this time, such as 2026-12-01T08:00:00Z, or "
        "before this number of seconds after the creation of the VideoJob. At most 7 days after the creation. A time "
        "in the past means now. A retry does not wait. Immutable.",
    )
    retry: Annotated[str, Field(min_length=1, max_length=64, json_schema_extra={RULES: [_PRINTABLE]})] | None = Field(
        None,
        description="Any text. Each new value retries a failed, cancelled or dead-lettered video. The count of "
        "failures starts again at 0.",
    )
    cancel: bool | None = Field(
        None,
        description="True cancels the work on an unfinished video, once. To cancel it again after a retry, set this "
        "field to false first.",
    )
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=31_536_000)] | None = Field(
        None,
        description="The operator deletes this VideoJob this many seconds after the end of the work. The video stays. "
        "Default for a VideoJob with spec.videoId: the time in the operator's settings. A VideoJob with spec.source is "
        "kept by default, because applying its manifest again after a deletion would submit the object again. A "
        "VideoJob whose dead letter is open is kept, too; after a discard, the seconds count from the discard.",
    )


class Problem(_Part):
    """The last error of the job, or the reason why the VideoJob has no video."""

    model_config = ConfigDict(extra="forbid")

    code: Annotated[str, Field(description="A stable error code for programs.")]
    message: Annotated[str, Field(description="One or two sentences for people.")]


class DeadLetter(_Part):
    """The reason why the job became a dead letter. A person has to check the job."""

    model_config = ConfigDict(extra="forbid")

    id: int | None = Field(None, description="The number of the dead letter, for `anb dlq show`.")
    at: Annotated[Time, Field(description="The time at which the job was given up.")]
    cause: Annotated[DeadLetterCause, Field(description="Why the job or its message became a dead letter.")]
    failures: int | None = Field(None, description="The number of failed attempts.")
    lost: int | None = Field(None, description="The number of attempts that were lost because their lease expired.")
    worker: str | None = Field(None, description="The pod name of the worker of the last attempt.")
    version: str | None = Field(None, description="The version of the program that made the last attempt.")
    body: str | None = Field(
        None, description="The first 1,000 characters of the message, if one arrived in the dead-letter queue."
    )
    resolution: Resolution | None = Field(
        None, description="How the dead letter was resolved. Missing while it is open: a person has to act."
    )
    resolved_at: Time | None = Field(None, description="The time at which the dead letter was resolved.")
    resolved_by: str | None = Field(None, description="The person or program that resolved the dead letter.")
    reason: str | None = Field(None, description="Why a person discarded the dead letter.")


class Condition(_Part):
    """A condition in the standard form of Kubernetes, for `kubectl wait` and other programs."""

    type: Annotated[
        Literal["Accepted", "Progressing", "Complete", "Failed", "DeadLettered"],
        Field(description="The type of the condition."),
    ]
    status: Annotated[Literal["True", "False", "Unknown"], Field(description="Whether the condition is true.")]
    reason: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1024,
            pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            description="The reason for the status, as one word in CamelCase.",
        ),
    ]
    message: Annotated[str, Field(max_length=32768, description="The reason for the status, as a sentence.")]
    observed_generation: Annotated[int, Field(ge=0)] | None = Field(
        None, description="The generation of the spec for which the condition was set."
    )
    last_transition_time: Annotated[Time, Field(description="The time at which the status changed last.")]


class Status(_Part):
    """The state of the video and its job, written by the operator."""

    model_config = ConfigDict(extra="forbid")

    observed_generation: int | None = Field(None, description="The last generation of the spec that was acted on.")
    phase: Phase | None = Field(None, description="The video's status.")
    video_id: str | None = Field(None, description="The video's id.")
    progress: str | None = Field(None, description='Progress of the current attempt in percent, such as "42%".')
    attempts: int | None = Field(None, description="The number of attempts, over all retries.")
    worker: str | None = Field(None, description="The pod name of the worker that holds the lease.")
    result_key: str | None = Field(None, description="The key of the object that holds the finished video.")
    retry: str | None = Field(None, description="The last value of spec.retry that was acted on.")
    cancel: bool | None = Field(None, description="The last value of spec.cancel that was acted on.")
    error: Problem | None = None
    dead_letter: DeadLetter | None = None
    created_at: Time | None = Field(None, description="The time at which the video was created in the API.")
    started_at: Time | None = Field(None, description="The time at which the last attempt began.")
    finished_at: Time | None = Field(
        None, description="The time at which the video was processed, failed, dead-lettered or cancelled."
    )
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16,
            description="The conditions Accepted, Progressing, Complete, Failed and DeadLettered, in the standard form "
            "of Kubernetes.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = ()

    # Values that a newer version of the operator wrote and this version can't read. The keys are names in the manifest.
    # `manifest` includes these values, so that the next status patch can remove or replace them.
    _unread: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def had_video(self) -> bool:
        """Whether the VideoJob has or had a video: the status has a phase, even one that this version can't read."""
        return self.phase is not None or "phase" in self._unread

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of this type, or None if the status has none."""
        return next((condition for condition in self.conditions if condition.type == kind), None)

    def manifest(self) -> dict[str, Any]:
        """Return the status as JSON for a manifest, without fields that are None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True) | self._unread


def _read_known_fields(manifest: dict[str, Any], read: ValidatorFunctionWrapHandler) -> Status:
    """Read a status. Fields that this version of the operator can't read are stored in `_unread`."""
    try:
        status: Status = read(manifest)
    except ValidationError as error:
        unreadable = {problem["loc"][0] for problem in error.errors() if problem["loc"]}
        if not unreadable:
            raise
        status = read({name: value for name, value in manifest.items() if name not in unreadable})
        unread = {name: value for name, value in manifest.items() if name in unreadable}
        status._unread.update(unread)  # noqa: SLF001 - pydantic has no private attribute in a constructor
    return status


class Metadata(_Part):
    """The metadata fields of a Kubernetes object that the operator uses."""

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
    """A VideoJob as the API server returns it."""

    metadata: Metadata
    spec: Spec
    status: Annotated[Status, WrapValidator(_read_known_fields)] = Status()

    @classmethod
    def read(cls, manifest: object) -> Self:
        """Parse a manifest from the API server.

        Raises:
            pydantic.ValidationError: the manifest does not fit this version's CRD.
        """
        return cls.model_validate(manifest)

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.metadata.namespace, self.metadata.name

    @property
    def deleting(self) -> bool:
        """Whether the VideoJob was deleted and waits for its finalizers."""
        return self.metadata.deletion_timestamp is not None

    @property
    def made_by_operator(self) -> bool:
        """Whether the VideoJob is a mirror, of this release or of another one."""
        return self.metadata.labels.items() >= MADE_BY_OPERATOR.items()

    @property
    def process_after(self) -> datetime | None:
        """The time that `spec.processAfter` means, or None. Seconds count from the creation of the VideoJob.

        Raises:
            Invalid: `process_after_invalid`.
        """
        given = self.spec.process_after
        return None if given is None else parse_process_after(str(given), self.metadata.creation_timestamp)

    @property
    def ttl(self) -> timedelta | None:
        """The time to live in the spec (`ttlSecondsAfterFinished`), or None."""
        seconds = self.spec.ttl_seconds_after_finished
        return None if seconds is None else timedelta(seconds=seconds)
