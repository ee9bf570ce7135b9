"""What the operator and its clean-up read from the environment."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from anb_core.settings.capabilities import BucketSettings, FromEnvironment, LogSettings, StoreSettings, SubmitSettings
from anb_core.settings.parsing import DAY, SECOND, Address, matching, seconds

YEAR = 365 * DAY

_Name = matching(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", "it must be a name as Kubernetes has them: a-z, 0-9 and hyphens")
_Label = matching(
    r"[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?", "it must be the value of a label: a-z, 0-9 and -._ between them"
)
_Selector = matching(r"[^=,\s]+=[^=,\s]*(,[^=,\s]+=[^=,\s]*)*", "it must be labels such as app=worker,release=anb")


class WatchScope(FromEnvironment):
    """Where the operator works."""

    namespace: Annotated[str, _Name] = Field(
        alias="ANB_OPERATOR_NAMESPACE", description="The release's namespace: mirrors and workers are there."
    )
    watch: Literal["namespace", "cluster"] = Field(
        "namespace",
        alias="ANB_OPERATOR_WATCH",
        description="Where VideoJobs are watched: in that `namespace`, or in the whole `cluster`.",
    )

    @property
    def watched_namespace(self) -> str | None:
        """None: all of them."""
        return self.namespace if self.watch == "namespace" else None


class OperatorSettings(WatchScope, LogSettings, SubmitSettings, BucketSettings, StoreSettings):
    """What the operator reads. It has nothing to do with the queue, nor with leases."""

    listen: Address = Field(
        "127.0.0.1:8002",
        alias="ANB_OPERATOR_LISTEN",
        description="Where the operator shows `/healthz`, `/readyz` and `/metrics`, as `HOST:PORT`.",
    )
    instance: Annotated[str, _Label] = Field(
        "anb-video",
        alias="ANB_OPERATOR_INSTANCE",
        description="The release's name. Mirrors have it as a label, which tells them from another release's.",
    )
    mirror: bool = Field(
        default=True, alias="ANB_OPERATOR_MIRROR", description="Whether every video gets a VideoJob in the namespace."
    )
    mirror_max_age: Annotated[timedelta, seconds(1, 10 * YEAR)] | None = Field(
        None,
        alias="ANB_OPERATOR_MIRROR_MAX_AGE_SECONDS",
        description="Seconds after which a video is too old to get one. Default: none is.",
    )
    ttl_processed: Annotated[timedelta, seconds(0, YEAR)] = Field(
        3600 * SECOND,
        alias="ANB_OPERATOR_TTL_PROCESSED_SECONDS",
        description="Seconds for which the mirror of a processed video is kept. A VideoJob with a source goes by its "
        "own time.",
    )
    ttl_failed: Annotated[timedelta, seconds(0, YEAR)] = Field(
        7 * DAY * SECOND,
        alias="ANB_OPERATOR_TTL_FAILED_SECONDS",
        description="Seconds for which that of a failed, dead-lettered or cancelled one is kept.",
    )
    worker_selector: Annotated[str, _Selector] | None = Field(
        None,
        alias="ANB_OPERATOR_WORKER_SELECTOR",
        description="Labels of the worker pods, whose deletion cost tells who is busy. Default: none is told.",
    )


class UninstallSettings(WatchScope):
    """What the clean-up before an uninstall reads: no database."""

    deployment: Annotated[str, _Name] = Field(
        alias="ANB_OPERATOR_DEPLOYMENT", description="The operator's Deployment, which is scaled to 0."
    )
    selector: Annotated[str, _Selector] = Field(
        alias="ANB_OPERATOR_SELECTOR", description="Labels of its pods, which are waited for."
    )

    @property
    def marker(self) -> str:
        """The ConfigMap that Helm makes after the clean-up: where it is there before, this is no uninstall."""
        return f"{self.deployment}-uninstall"
