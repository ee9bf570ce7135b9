"""The route /api/reconciliations. It needs a token of scope `ops`."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from anb_api.adoptions import Key
from anb_api.auth import CurrentCaller
from anb_api.context import CurrentContext
from anb_api.json_body import BODY_REFUSED, documented_body, json_body
from anb_api.problems import documented
from anb_core.domain import reconciliation
from anb_core.domain.reconciliation import Action
from anb_core.usecases.reconcile import ReconcileReport

router = APIRouter(
    prefix="/api/reconciliations",
    tags=["operations"],
    responses=documented(
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
)


class ReconcileBucket(BaseModel):
    """Where to begin, and whether anything may be changed."""

    model_config = ConfigDict(extra="forbid", strict=True)

    after: Annotated[Key | None, Field(description="`next_after` of the previous answer.")] = None
    dry_run: Annotated[bool, Field(description="Only say what would be done. The default.")] = True


class Finding(BaseModel):
    """A difference between the database and the bucket, and what is done about it."""

    action: Action
    video_id: str
    key: Annotated[str, Field(description="The object that is in the bucket, or that is gone from it.")]
    message: str
    changes: Annotated[bool, Field(description="False if the difference is only reported.")]

    @classmethod
    def of(cls, found: reconciliation.Finding) -> "Finding":
        """Return the response model of a finding."""
        return Finding(
            action=found.action,
            video_id=found.video_id,
            key=found.key,
            message=found.message,
            changes=found.action.changes,
        )


class ReconciliationReport(BaseModel):
    """The result of one part of a reconciliation, or of a dry run of it."""

    dry_run: bool
    examined: Annotated[int, Field(description="Number of objects and videos that were examined.")]
    findings: list[Finding]
    next_after: Annotated[str | None, Field(description="Value of `after` to go on; null if nothing is left.")]

    @classmethod
    def of(cls, report: ReconcileReport, *, dry_run: bool) -> "ReconciliationReport":
        """Return the response model of a report."""
        findings = [Finding.of(found) for found in report.findings]
        return ReconciliationReport(
            dry_run=dry_run, examined=report.examined, findings=findings, next_after=report.after
        )


@router.post(
    "",
    summary="Reconcile a restored database with the bucket",
    openapi_extra=documented_body(ReconcileBucket),
    responses=BODY_REFUSED,
)
def reconcile_bucket(
    context: CurrentContext,
    caller: CurrentCaller,
    given: Annotated[ReconcileBucket, Depends(json_body(ReconcileBucket))],
) -> ReconciliationReport:
    """Finds what a database that was restored to an earlier state does not know of the bucket, and corrects it.

    One request examines up to 500 objects or 100 videos. If the answer is an error, repeat the request.
    """
    report = context.reconcile(caller, after=given.after, dry_run=given.dry_run, each=context.bulk_threads.map)
    return ReconciliationReport.of(report, dry_run=given.dry_run)
