"""What the operator needs of Kubernetes, as ports: the API server behind `client.py`, a fake in tests.

All methods raise `Unavailable("kubernetes", ...)` when the API server does not answer or can't serve now.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from anb_core.domain.errors import AnbError
from anb_operator.mirror import Announcement
from anb_operator.videojob import VideoJob

Json = dict[str, Any]


class KubeRefused(AnbError):
    """The API server understood, and refuses."""


class Missing(KubeRefused):
    """There is no such object (404)."""


class Existing(KubeRefused):
    """There is an object of this name already (409)."""


class Outdated(KubeRefused):
    """The object has changed, or is another one by now (409)."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A worker's pod."""

    name: str
    annotations: Mapping[str, str]


class VideoJobs(Protocol):
    """The VideoJobs that are watched, and Events about them. Every write tells how the object is afterwards."""

    async def ping(self) -> None:
        """Ask whether there are VideoJobs to work with.

        Raises:
            Missing: the cluster knows none.
            KubeRefused: we may not list or watch them.
        """
        ...

    async def list_videojobs(self) -> Sequence[VideoJob]:
        """All that are watched, in no order.

        Raises:
            Missing: the cluster knows no VideoJobs.
        """
        ...

    async def create_videojob(self, namespace: str, name: str, spec: Json, labels: Mapping[str, str]) -> VideoJob:
        """Make one.

        Raises:
            Existing: the name is taken.
        """
        ...

    async def set_finalizers(self, videojob: VideoJob, finalizers: Sequence[str]) -> VideoJob:
        """Replace the finalizers.

        Raises:
            Missing: it is gone.
            Outdated: it is no longer as given.
        """
        ...

    async def patch_status(self, videojob: VideoJob, patch: Json) -> VideoJob:
        """Merge into the status; null removes.

        Raises:
            Missing: it is gone.
            Outdated: another object has its name.
        """
        ...

    async def delete_videojob(self, videojob: VideoJob) -> None:
        """Delete it.

        Raises:
            Missing: it is gone.
            Outdated: another object has its name.
        """
        ...

    async def post_event(self, videojob: VideoJob, announcement: Announcement) -> None:
        """Post an Event about it.

        Raises:
            Existing: it was posted before.
        """
        ...


class Pods(Protocol):
    """The pods of the release's namespace."""

    async def list_pods(self, selector: str) -> Sequence[Pod]:
        """Those with these labels (`a=b,c=d`). Ended ones are left out: nobody takes away a pod that was evicted."""
        ...

    async def annotate_pod(self, name: str, annotations: Mapping[str, str | None]) -> None:
        """Set annotations; None removes one.

        Raises:
            Missing: it is gone.
        """
        ...
