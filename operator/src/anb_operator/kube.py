"""Ports to the Kubernetes API server. `client.py` implements the ports; tests use a fake.

All methods raise `Unavailable("kubernetes", ...)` when the API server is unreachable or responds with 429 or 5xx.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from anb_core.domain.errors import AnbError
from anb_operator.mirror import Announcement
from anb_operator.videojob import VideoJob

Json = dict[str, Any]
"""A JSON object, such as a manifest or a patch."""


class KubeRefused(AnbError):
    """The API server refused a request. Sending the same request again does not help."""


class Missing(KubeRefused):
    """The object or its resource type does not exist (404)."""


class Existing(KubeRefused):
    """An object of this name exists already (409)."""


class Outdated(KubeRefused):
    """The object has changed since the last read, or another object now has the same name (409)."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod: its name and its annotations."""

    name: str
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Scale:
    """The number of pods that a Deployment should have."""

    replicas: int
    """Number of pods that the Deployment asks for now."""
    maximum: int | None
    """Maximum number of pods that KEDA may ask for. None if KEDA does not scale the Deployment."""


class VideoJobs(Protocol):
    """The VideoJobs in the watched namespaces, and Events about them. Writes return the changed object."""

    async def ping(self) -> None:
        """Check that the operator can list and watch VideoJobs.

        Raises:
            Missing: the CRD is not installed.
            KubeRefused: the operator may not list or watch VideoJobs.
        """
        ...

    async def list_videojobs(self) -> Sequence[VideoJob]:
        """List all readable VideoJobs in the watched namespaces, in any order.

        Raises:
            Missing: the CRD is not installed.
        """
        ...

    async def create_videojob(self, namespace: str, name: str, spec: Json, labels: Mapping[str, str]) -> VideoJob:
        """Create a VideoJob.

        Raises:
            Existing: a VideoJob of this name exists already.
        """
        ...

    async def set_finalizers(self, videojob: VideoJob, finalizers: Sequence[str]) -> VideoJob:
        """Replace the finalizers.

        Raises:
            Missing: the object no longer exists.
            Outdated: the object has a newer resource version than `videojob`.
        """
        ...

    async def set_label(self, videojob: VideoJob, name: str, value: str | None) -> VideoJob:
        """Set one label. The value None removes the label. Other labels stay as they are.

        Raises:
            Missing: the object no longer exists.
            Outdated: another object now has the same name.
        """
        ...

    async def patch_status(self, videojob: VideoJob, patch: Json) -> VideoJob:
        """Apply a JSON merge patch to the status.

        Raises:
            Missing: the object no longer exists.
            Outdated: another object now has the same name.
        """
        ...

    async def delete_videojob(self, videojob: VideoJob) -> None:
        """Delete a VideoJob.

        Raises:
            Missing: the object no longer exists.
            Outdated: another object now has the same name.
        """
        ...

    async def post_event(self, videojob: VideoJob, announcement: Announcement) -> None:
        """Post an Event about a VideoJob.

        Raises:
            Existing: an Event with the same key was posted before.
        """
        ...


class Pods(Protocol):
    """The pods of the release's namespace."""

    async def list_pods(self, selector: str) -> Sequence[Pod]:
        """List the pods with these labels (`a=b,c=d`).

        Ended pods are left out, because Kubernetes keeps some of them for a long time, such as evicted pods.
        """
        ...

    async def annotate_pod(self, name: str, annotations: Mapping[str, str | None]) -> None:
        """Set annotations of a pod. The value None removes an annotation.

        Raises:
            Missing: the pod no longer exists.
        """
        ...


class Deployments(Protocol):
    """The Deployments of the release's namespace."""

    async def post_deployment_event(self, name: str, announcement: Announcement) -> None:
        """Post an Event about a Deployment.

        Raises:
            Missing: there is no Deployment of this name.
            Existing: an Event with the same key was posted before.
        """
        ...

    async def get_scale(self, name: str) -> Scale:
        """Return the scale of a Deployment. Its ScaledObject, if there is one, must have the same name.

        Raises:
            Missing: there is no Deployment of this name.
        """
        ...
