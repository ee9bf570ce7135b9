"""The route /api/adoptions. It needs a token of scope `ops`."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from anb_api.auth import CurrentCaller
from anb_api.context import CurrentContext
from anb_api.json_body import BODY_REFUSED, documented_body, json_body
from anb_api.problems import documented
from anb_api.schemas import PRINTABLE_PATTERN
from anb_core.domain.adoption import NotTaken
from anb_core.domain.keys import MAX_KEY_BYTES, utf8_bytes
from anb_core.usecases.adopt_many import MAX_ADOPTIONS, Order
from anb_core.usecases.adopt_many import AdoptionReport as Report

KEY_FORMAT = "anb-key"
"""Format of keys in the OpenAPI schema. A schema can't limit the length in bytes, or know the allowed prefixes."""

MAX_OWNER = 200
"""Maximum number of characters of an owner."""

router = APIRouter(
    prefix="/api/adoptions",
    tags=["operations"],
    responses=documented(
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
)


def _is_key(value: str) -> str:
    if not 0 < utf8_bytes(value) <= MAX_KEY_BYTES:
        raise ValueError(f"it must have 1 to {MAX_KEY_BYTES} bytes in UTF-8")
    return value


Key = Annotated[str, Field(json_schema_extra={"format": KEY_FORMAT}), AfterValidator(_is_key)]


class AdoptObjects(BaseModel):
    """Selects the objects to adopt: those whose keys begin with a prefix."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prefix: Annotated[Key, Field(description="Begins with `uploads/` or one of the `ANB_SOURCE_PREFIXES`.")]
    owner: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=MAX_OWNER,
            pattern=PRINTABLE_PATTERN,
            description="Owner of the videos. Default: `ANB_ADOPT_OWNER`, else the owner of the token.",
        ),
    ] = None
    after: Annotated[Key | None, Field(description="`next_after` of the previous answer.")] = None
    cap: Annotated[int, Field(ge=1, le=MAX_ADOPTIONS, description="Adopt at most so many.")] = MAX_ADOPTIONS
    dry_run: Annotated[bool, Field(description="Only say what would be adopted.")] = False


class Adopted(BaseModel):
    """An object that became a video."""

    key: str
    video_id: str


class NotAdopted(BaseModel):
    """An object that was not adopted, and the reason."""

    key: str
    code: str
    message: str


class AdoptionReport(BaseModel):
    """The result of a request to adopt objects, or of a dry run of the request."""

    dry_run: bool
    owner: str
    adopted: Annotated[
        list[Adopted], Field(description="The objects that were adopted, or would be without `dry_run`.")
    ]
    ignored: Annotated[
        list[NotAdopted], Field(description="Objects that need no adoption: videos already, or no videos.")
    ]
    refused: Annotated[
        list[NotAdopted], Field(description="Objects that are too large, or that the bucket does not give us.")
    ]
    next_after: Annotated[str | None, Field(description="Value of `after` to go on; null if nothing is left.")]

    @classmethod
    def of(cls, report: Report, order: Order) -> "AdoptionReport":
        """Return the response model of a report."""
        return AdoptionReport(
            dry_run=order.dry_run,
            owner=order.owner,
            adopted=[Adopted(key=key, video_id=video_id) for key, video_id in report.adopted.items()],
            ignored=_shown(report.ignored),
            refused=_shown(report.refused),
            next_after=report.after,
        )


def _shown(objects: Iterable[NotTaken]) -> list[NotAdopted]:
    return [NotAdopted(key=one.key, code=one.code, message=one.message) for one in objects]


@router.post(
    "",
    summary="Adopt objects that are in the bucket",
    openapi_extra=documented_body(AdoptObjects),
    responses=BODY_REFUSED,
)
def adopt_objects(
    context: CurrentContext, caller: CurrentCaller, given: Annotated[AdoptObjects, Depends(json_body(AdoptObjects))]
) -> AdoptionReport:
    """Makes videos of objects of other programs. One request examines up to 1000 objects, in the order of their keys.

    If the answer is an error, repeat the request. Objects that were already adopted are ignored then.
    """
    order = Order(
        prefix=given.prefix,
        owner=given.owner or context.settings.adopt_owner or caller.owner,
        after=given.after,
        cap=given.cap,
        dry_run=given.dry_run,
    )
    return AdoptionReport.of(context.adopt_many(caller, order, each=context.bulk_threads.map), order)
