"""The environment variables of the operator, and of the cleanup before an uninstall."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from anb_core.settings.capabilities import (
    AlertSettings,
    BucketSettings,
    DeadLetterQueueSettings,
    FromEnvironment,
    LogSettings,
    MetricSettings,
    RetrySettings,
    StoreSettings,
    SubmitSettings,
)
from anb_core.settings.parsing import DAY, SECOND, Address, matching, seconds

YEAR = 365 * DAY

_Name = matching(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", "it must be a name as Kubernetes has them: a-z, 0-9 and hyphens")
_Label = matching(
    r"[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?", "it must be the value of a label: a-z, 0-9 and -._ between them"
)
_Selector = matching(r"[^=,\s]+=[^=,\s]*(,[^=,\s]+=[^=,\s]*)*", "it must be labels such as app=worker,release=anb")


class WatchScope(FromEnvironment):
    """The namespaces in which the operator works."""

    namespace: Annotated[str, _Name] = Field(
        alias="ANB_OPERATOR_NAMESPACE", description="The release's namespace, with the mirrors and the workers."
    )
    watch: Literal["namespace", "cluster"] = Field(
        "namespace",
        alias="ANB_OPERATOR_WATCH",
        description="Where VideoJobs are watched: in the release's `namespace`, or in the whole `cluster`.",
    )

    @property
    def watched_namespace(self) -> str | None:
        """The namespace in which VideoJobs are watched, or None for all namespaces."""
        return self.namespace if self.watch == "namespace" else None


_DEPLOYMENT = (
    "The name of the operator's Deployment. The operator posts Events on it about messages that belong to no video; "
    "if the setting is missing, it posts none. The cleanup needs the setting: it scales the Deployment to 0."
)


class OperatorSettings(
    WatchScope,
    LogSettings,
    AlertSettings,
    MetricSettings,
    SubmitSettings,
    RetrySettings,
    DeadLetterQueueSettings,
    BucketSettings,
    StoreSettings,
):
    """The settings of the operator. The operator sends no messages and takes no leases."""

    listen: Address = Field(
        "127.0.0.1:8002",
        alias="ANB_OPERATOR_LISTEN",
        description="The address, `HOST:PORT`, at which the operator serves `/healthz`, `/readyz` and `/metrics`.",
    )
    instance: Annotated[str, _Label] = Field(
        "anb-video",
        alias="ANB_OPERATOR_INSTANCE",
        description="The release's name. It is a label of the release's mirrors.",
    )
    deployment: Annotated[str, _Name] | None = Field(None, alias="ANB_OPERATOR_DEPLOYMENT", description=_DEPLOYMENT)
    mirror: bool = Field(
        default=True,
        alias="ANB_OPERATOR_MIRROR",
        description="Whether every video gets a VideoJob in the release's namespace.",
    )
    mirror_max_age: Annotated[timedelta, seconds(1, 10 * YEAR)] | None = Field(
        None,
        alias="ANB_OPERATOR_MIRROR_MAX_AGE_SECONDS",
        description="Videos older than this many seconds get no mirror, except those with an open dead letter. "
        "Default: no limit.",
    )
    ttl_processed: Annotated[timedelta, seconds(0, YEAR)] = Field(
        3600 * SECOND,
        alias="ANB_OPERATOR_TTL_PROCESSED_SECONDS",
        description="Seconds for which the mirror of a processed video is kept. A VideoJob with a source is deleted "
        "only by its own `spec.ttlSecondsAfterFinished`.",
    )
    ttl_failed: Annotated[timedelta, seconds(0, YEAR)] = Field(
        7 * DAY * SECOND,
        alias="ANB_OPERATOR_TTL_FAILED_SECONDS",
        description="Seconds for which the mirror of a failed or cancelled video is kept, and that of a dead-lettered "
        "video after its dead letter was discarded.",
    )
    worker_selector: Annotated[str, _Selector] | None = Field(
        None,
        alias="ANB_OPERATOR_WORKER_SELECTOR",
        description="Labels of the worker pods. The operator sets a pod deletion cost on those that are busy. "
        "Default: it sets none.",
    )
    worker_deployment: Annotated[str, _Name] | None = Field(
        None,
        alias="ANB_OPERATOR_WORKER_DEPLOYMENT",
        description="The name of the Deployment of the workers, and of its ScaledObject. The metrics in CloudWatch "
        "that count workers need the setting; if it is missing, they are not sent.",
    )


class UninstallSettings(WatchScope):
    """The settings of the cleanup before an uninstall. The cleanup uses no database."""

    deployment: Annotated[str, _Name] = Field(alias="ANB_OPERATOR_DEPLOYMENT", description=_DEPLOYMENT)
    selector: Annotated[str, _Selector] = Field(
        alias="ANB_OPERATOR_SELECTOR",
        description="Labels of the operator's pods. The cleanup waits until they have ended.",
    )

    @property
    def marker(self) -> str:
        """Name of the ConfigMap that Helm creates only after the cleanup. A cleanup that finds it does nothing."""
        return f"{self.deployment}-uninstall"
